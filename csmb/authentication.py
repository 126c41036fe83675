# SPDX-License-Identifier: Apache-2.0
"""One challenge, its response and its result, as either side sees them (wire protocol 12).

In the laboratory setting the same three messages are exchanged with auth_alg 0, and prove nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from csmb.constants import ErrorCode
from csmb.keys import auth_proof, result_proof, stream_keys
from csmb.messages import AuthChallenge, AuthResponse, AuthResult
from ssmb.keys import SessionKeys, proofs_equal, session_keys

CHALLENGE_SIZE: Final = 32
RESPONSE_SIZE: Final = 64
RESULT_SIZE: Final = 32
_HMAC: Final = 1  # auth_alg
_NONE: Final = 0


@dataclass(frozen=True)
class Exchange:
    """A challenge, and what was answered to it; good for one response."""

    key: bytes = field(repr=False)
    cs_id: int
    dfs_id: int
    challenge_id: int
    challenge: bytes
    nonce: bytes = b""  # unset until the DFS has chosen it
    transcript: bytes = b""  # of both sides' HELLOs; unset: one of them does not prove its own

    @property
    def algorithm(self) -> int:
        """Wire auth_alg."""
        return _HMAC if self.key else _NONE

    def _length(self, length: int) -> int:
        return length if self.key else 0

    def answered(self, nonce: bytes) -> Exchange:
        """Return the same with the DFS's nonce."""
        return replace(self, nonce=nonce)

    # --- messages ---

    def challenge_message(self) -> AuthChallenge:
        """What the CS opens with."""
        length = self._length(CHALLENGE_SIZE)
        return AuthChallenge(0, self.algorithm, length, self.challenge_id, self.challenge)

    def response_message(self) -> AuthResponse:
        """What the DFS proves itself with."""
        length = self._length(RESPONSE_SIZE)
        proof = self._response_proof(self.nonce)
        return AuthResponse(0, self.algorithm, length, self.challenge_id, proof, self.nonce)

    def result_message(self) -> AuthResult:
        """What the CS proves itself with."""
        return AuthResult(
            0, ErrorCode.OK, self._length(RESULT_SIZE), self.challenge_id, self._result_proof()
        )

    def rejection_message(self) -> AuthResult:
        """What a wrong response gets."""
        return AuthResult(0, ErrorCode.AUTHFAIL, 0, self.challenge_id)

    # --- judging the peer's ---

    def accepts_challenge(self, message: AuthChallenge) -> bool:
        """Whether the CS asks for the algorithm that this side supports."""
        return (message.auth_alg, message.auth_length) == (
            self.algorithm,
            self._length(CHALLENGE_SIZE),
        )

    def accepts_response(self, message: AuthResponse) -> bool:
        """Whether the DFS has the key."""
        if (message.auth_alg, message.auth_length, message.challenge_id) != (
            self.algorithm,
            self._length(RESPONSE_SIZE),
            self.challenge_id,
        ):
            return False
        return proofs_equal(self._response_proof(message.auth_nonce), message.auth_data)

    def accepts_result(self, message: AuthResult) -> bool:
        """Whether the CS has the key."""
        if (message.error_code, message.auth_length, message.challenge_id) != (
            ErrorCode.OK,
            self._length(RESULT_SIZE),
            self.challenge_id,
        ):
            return False
        return proofs_equal(self._result_proof(), message.auth_data)

    # --- what follows from it ---

    def stream_keys(self) -> SessionKeys | None:
        """What seals the rest of this connection; None: nothing does."""
        if not self.key:
            return None
        return stream_keys(self.key, self.challenge_id, self.challenge, self.nonce)

    def ssmb_keys(self) -> SessionKeys | None:
        """What seals SSMB; None: nothing does."""
        if not self.key:
            return None
        return session_keys(self.key, self.challenge_id, self.challenge, self.nonce)

    def _response_proof(self, nonce: bytes) -> bytes:
        if not self.key:
            return bytes(32)
        return auth_proof(
            self.key, self.challenge_id, self.challenge, nonce,
            dfs_id=self.dfs_id, cs_id=self.cs_id, transcript=self.transcript,
        )  # fmt: skip

    def _result_proof(self) -> bytes:
        if not self.key:
            return bytes(32)
        return result_proof(
            self.key, self.challenge_id, self.challenge, self.nonce,
            dfs_id=self.dfs_id, cs_id=self.cs_id, transcript=self.transcript,
        )  # fmt: skip
