# SPDX-License-Identifier: Apache-2.0
"""Whether a DFS seals with keys that this CS does not have (wire protocol 12.4).

A datagram with a wrong seal proves nothing: anyone can send one.  It begins a doubt; the CS
challenges the DFS, under the seal.  If anything with a right seal comes, be it the answer, all is
well.  If nothing does, the two have lost each other's keys, and only a new authentication helps.
"""

from __future__ import annotations

from typing import Final

SEAL_DOUBT_S: Final = 2.0  # six challenges, so that a lossy path is no reason


class SealDoubt:
    """About one DFS; what it has `heard` is a number that each right seal changes."""

    __slots__ = ("_heard", "_since")

    def __init__(self) -> None:
        self._since: float | None = None
        self._heard = 0

    def bad_seal(self, heard: int, now: float) -> bool:
        """One came; return whether that begins a doubt, and so the DFS is to be challenged."""
        if self._since is not None:
            return False
        self._since, self._heard = now, heard
        return True

    def get_timer(self) -> float | None:
        """When to ask for the verdict."""
        return None if self._since is None else self._since + SEAL_DOUBT_S

    def is_confirmed(self, heard: int, now: float) -> bool:
        """Whether the doubt is over, and nothing with a right seal came meanwhile."""
        due = self.get_timer()
        if due is None or now < due:
            return False
        self._since = None
        return heard == self._heard
