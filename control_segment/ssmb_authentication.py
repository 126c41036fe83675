# SPDX-License-Identifier: Apache-2.0
"""The CS's side of authentication on SSMB (wire protocol 12.2, 12.3).

It proves that the holder of the DFS's key also receives what the CS sends to its SSMB address.  A
challenge is valid once and for AUTH wait; at most one per second is sent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ssmb.constants import AUTH_WAIT_S, RECHALLENGE_S, AuthAlgorithm, ErrorCode
from ssmb.keys import auth_proof, proofs_equal
from ssmb.messages import AuthChallenge, AuthResponse

# An answer that was wrong gets no new challenge before a second is over (12.3).  One that did not
# come is asked for sooner: the first challenge may overtake the AUTH_RESULT that gives the DFS its
# keys.
REPEAT_S: Final = 1.0
FIRST_REPEAT_S: Final = 0.05
_ID_MASK: Final = 0xFFFF_FFFF


class SsmbAuthentication:
    """Whether one DFS has answered a challenge."""

    __slots__ = (
        "_challenge",
        "_challenge_id",
        "_key",
        "_random",
        "_repeat_s",
        "_sent",
        "_timer",
        "_was_wrong",
        "is_proved",
    )

    def __init__(self, key: bytes, random_octets: Callable[[int], bytes]) -> None:
        self._key = key
        self._random = random_octets
        self._challenge_id = int.from_bytes(random_octets(4), "big")
        self._challenge: bytes | None = None
        self._sent = 0.0
        self._timer: float | None = None
        self._repeat_s = FIRST_REPEAT_S
        self._was_wrong = False
        self.is_proved = False

    def begin(self, now: float, *, is_needed: bool) -> AuthChallenge | None:
        """CSMB is ready: trust again only after an answer; not needed in a laboratory."""
        self.is_proved = not is_needed
        self._timer = None
        self._repeat_s = FIRST_REPEAT_S
        return self._ask(now, ErrorCode.OK) if is_needed else None

    def recheck(self, now: float) -> None:
        """Challenge the DFS again soon, and trust it meanwhile; not if a challenge is under way."""
        if self._challenge is None:
            self._timer = now
            self._repeat_s = FIRST_REPEAT_S

    def answered(self, response: AuthResponse, *, dfs_id: int, cs_id: int, now: float) -> bool:
        """Take an AUTH_RESPONSE; return whether it is right."""
        if self._challenge is None or response.challenge_id != self._challenge_id:
            return False
        challenge, self._challenge = self._challenge, None  # valid once
        if now > self._sent + AUTH_WAIT_S:
            return False
        proof = auth_proof(
            self._key,
            self._challenge_id,
            challenge,
            response.auth_nonce,
            dfs_id=dfs_id,
            cs_id=cs_id,
        )
        self._was_wrong = not proofs_equal(proof, response.auth_data)
        if self._was_wrong:
            self._timer = self._sent + REPEAT_S
            return False
        self.is_proved = True
        self._timer = now + RECHALLENGE_S
        self._repeat_s = FIRST_REPEAT_S
        return True

    def get_timer(self) -> float | None:
        """When the next challenge is due."""
        return self._timer

    def handle_timer(self, now: float) -> AuthChallenge | None:
        """Return a challenge if one is due: the latest was not answered rightly, or is old."""
        if self._timer is None or now < self._timer:
            return None
        return self._ask(now, ErrorCode.NOTAUTH if self._was_wrong else ErrorCode.OK)

    def _ask(self, now: float, error_code: int) -> AuthChallenge:
        self._challenge_id = (self._challenge_id + 1) & _ID_MASK
        self._challenge = self._random(32)
        self._sent = now
        self._timer = now + self._repeat_s
        self._repeat_s = min(self._repeat_s * 2, REPEAT_S)
        return AuthChallenge(
            error_code=error_code,
            auth_alg=AuthAlgorithm.HMAC_SHA_256,
            challenge_id=self._challenge_id,
            auth_data=self._challenge,
        )
