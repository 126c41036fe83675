# SPDX-License-Identifier: Apache-2.0
"""The highest claim of each group, which this DFS must not forget (wire protocol 11.1).

A claim that is higher than all before is obeyed once it is on the disk: an agent that started again
in between would obey an older CS.  A disk that fails or hangs costs that promise, which is said,
and no connection: the claim is obeyed all the same.

    epochs.is_kept(group_id, claim, now)  # False: the claim waits
    epochs.take()                               # what is to be written now, for the runtime
    epochs.written(), epochs.failed(reason, now)
    epochs.released()                           # whose claims need not wait any more
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from admin.state import Kind, Section, StateError
from data_flow_segment.peers.fencing import NO_CLAIM, Claim

KEEP_WAIT_S: Final = 0.5
"""How long a claim waits for the disk at most: less than a take-over takes."""

RETRY_S: Final = 30.0
"""Between attempts while the disk fails."""

_RECORD: Final = struct.Struct(">HIH")  # group_id, role_epoch, segment_id


class RoleEpochs:
    """What is on the disk, and what is on its way there."""

    def __init__(self, known: Mapping[int, Claim] | None = None) -> None:
        """`known`: what the file says, by group_id; None: there is no file, and nothing is kept."""
        self._has_file = known is not None
        self._highest = dict(known or {})
        self._on_disk: Mapping[int, Claim] = dict(self._highest)
        self._let_go: Mapping[int, Claim] = {}  # obeyed, and not on the disk
        self._writing: dict[int, Claim] | None = None
        self._wait_until: float | None = None
        self._retry_at: float | None = None  # after a failure
        self._waiting: set[int] = set()  # claims, by connection
        self._log: list[str] = []

    def of(self, group_id: int) -> Claim:
        """The highest that this DFS has ever seen."""
        return self._highest.get(group_id, NO_CLAIM)

    def is_kept(self, group_id: int, claim: Claim, now: float) -> bool:
        """Whether a claim may be obeyed; if not, it is written."""
        if claim.rank > self.of(group_id).rank:
            self._highest[group_id] = claim
        if not self._has_file or self._may_pass(group_id, claim):
            return True
        if self._let_go:  # the disk is known not to take it
            self._let_go = dict(self._highest)
            return True
        if self._wait_until is None:
            self._wait_until = now + KEEP_WAIT_S
        return False

    def _may_pass(self, group_id: int, claim: Claim) -> bool:
        kept = (each.get(group_id, NO_CLAIM) for each in (self._on_disk, self._let_go))
        return any(claim.rank <= each.rank for each in kept)

    def wait(self, connection_id: int) -> None:
        """The claim on this connection waits."""
        self._waiting.add(connection_id)

    def released(self) -> list[int]:
        """The connections whose claims may be judged again, once."""
        if self._wait_until is not None:
            return []
        waiting, self._waiting = sorted(self._waiting), set()
        return waiting

    def forget(self, connection_id: int) -> None:
        """The connection is over."""
        self._waiting.discard(connection_id)

    # --- the disk ------------------------------------------------------------------------------

    def take(self) -> dict[int, Claim] | None:
        """All that is to be in the file, by group_id; None while nothing is to be written."""
        if not self._has_file or self._writing is not None or self._retry_at is not None:
            return None
        if self._highest == self._on_disk:
            return None
        self._writing = dict(self._highest)
        return self._writing

    def written(self) -> None:
        """What was taken is on the disk."""
        assert self._writing is not None, "nothing was taken"
        self._on_disk, self._writing = self._writing, None
        if self._let_go:
            self._let_go = {}
            self._log.append("is written again")
        self._look()

    def failed(self, reason: str, now: float) -> None:
        """It cannot be brought there; the claims are obeyed all the same."""
        if not self._let_go:
            self._warn(f"cannot be written: {reason}; trying again every {RETRY_S:.0f} s")
        self._writing, self._retry_at = None, now + RETRY_S
        self._let_go = dict(self._highest)
        self._look()

    def take_log(self) -> list[str]:
        """What became of the file, in sentences that begin with it, once."""
        log, self._log = self._log, []
        return log

    def _look(self) -> None:
        """Whether a claim still waits for the disk."""
        if all(self._may_pass(*each) for each in self._highest.items()):
            self._wait_until = None

    def get_timer(self) -> float | None:
        """When `handle_timer` has something to do."""
        timers = (self._wait_until, self._retry_at)
        return min((timer for timer in timers if timer is not None), default=None)

    def handle_timer(self, now: float) -> None:
        """Wait no longer for a disk that hangs; try one again that failed."""
        if self._retry_at is not None and now >= self._retry_at:
            self._retry_at = None
        if self._wait_until is not None and now >= self._wait_until:
            if not self._let_go:
                self._warn(f"is not written after {KEEP_WAIT_S} s")
            self._let_go = dict(self._highest)
            self._wait_until = None

    def _warn(self, what: str) -> None:
        self._log.append(
            f"{what}; if this DFS starts again before, it may obey a CS that was replaced"
        )


def sections(claims: Mapping[int, Claim]) -> Iterator[Section]:
    """What a file of them holds (`admin.state`)."""
    records = b"".join(_RECORD.pack(group_id, *claims[group_id]) for group_id in sorted(claims))
    yield Section(int(Kind.CLAIMS), "", _RECORD.size, records)


def of_sections(found: Iterable[Section]) -> dict[int, Claim]:
    """What they say; StateError if that cannot be read."""
    claims: dict[int, Claim] = {}
    for section in found:
        if section.kind != Kind.CLAIMS:
            continue
        if section.record_size != _RECORD.size:
            raise StateError(f"its claims have {section.record_size} octets each")
        for group_id, *claim in _RECORD.iter_unpack(section.records):
            claims[group_id] = Claim(*claim)
    return claims
