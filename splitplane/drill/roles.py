# SPDX-License-Identifier: Apache-2.0
"""Who was active when: the segments' own word at their admin sockets, several times per second."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from admin.client import AdminClient
from admin.errors import CommandError

INTERVAL_S: Final = 0.1
ASK_TIMEOUT_S: Final = 0.5  # a segment that hangs shows as such
SILENT: Final = "no answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleChange:
    """From then on a segment said something else of its role."""

    at_s: float  # monotonic; the question that was answered so
    segment: str
    role: str  # "active", "standby" ... of a CS; "obeys cs1" of a DFS; SILENT


def active_at(status: Mapping[str, Any]) -> str | None:
    """The CS that a DFS obeys, by its answer to `status`: "cs2"; of several groups all of them."""
    active = [group["active"] for group in status["groups"] if group["active"] is not None]
    return "+".join(f"cs{peer['segment_id']}" for peer in active) or None


def role_of(status: Mapping[str, Any]) -> str:
    """What a segment says of its role in an answer to `status`, of this release or another."""
    if status["role"] == "dfs":
        active = active_at(status)
        return f"obeys {active}" if active else "obeys no CS"
    if role := status.get("group_role"):
        return str(role)
    roles = {str(dfs.get("group_role") or "unconnected") for dfs in status["data_flow_segments"]}
    return "+".join(sorted(roles))


def are_redundant(sockets: Mapping[str, Path]) -> bool:
    """Whether a DFS of these segments obeys a CS, and every other CS could take over at once; also
    if it is not known, because a kind of segment has no socket here."""
    return is_redundant([status_of(path) for path in sockets.values()])


def is_redundant(statuses: Iterable[Mapping[str, Any] | None]) -> bool:
    """The same of their answers to `status`; None: there was none."""
    return all(
        status is not None
        and (active_at(status) is not None if status["role"] == "dfs" else _is_whole(status))
        for status in statuses
    )


def _is_whole(status: Mapping[str, Any]) -> bool:
    """Whether a CS has its DFS, and if it is a standby, everything to take over at once.

    That its copy differs from the active CS's is no obstacle: under load it does so now and then,
    and a flow that only the active CS still has is ended by its timers.  What the copy lacks makes
    it incomplete (`control_segment.copy_state`).
    """
    if status.get("waits_for_records"):
        return False
    for dfs in status["data_flow_segments"]:
        sync, copy = dfs["sync"], dfs.get("copy")
        if not dfs["ready"] or not dfs["ssmb_authenticated"] or sync is None or sync["running"]:
            return False
        if copy is not None and not copy["complete"]:
            return False
    return True


def status_of(path: Path) -> dict[str, Any] | None:
    """What the segment at this admin socket says; None: nothing."""
    try:
        with AdminClient(path, ASK_TIMEOUT_S) as client:
            status: dict[str, Any] = client.call("status")
            return status
    except CommandError:
        return None


class Sampler:
    """Asks each segment in a thread of its own, so that one that hangs delays no other."""

    def __init__(self, sockets: Mapping[str, Path]) -> None:
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._changes: list[RoleChange] = []
        self._threads = [
            threading.Thread(target=self._watch, args=(name, path), name=f"roles-{name}")
            for name, path in sockets.items()
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    @property
    def changes(self) -> list[RoleChange]:
        """So far, in order of time."""
        with self._lock:
            return sorted(self._changes, key=lambda change: change.at_s)

    def _watch(self, name: str, path: Path) -> None:
        last = ""
        while not self._stopping.is_set():
            asked = time.monotonic()
            role = _ask(path)
            if role != last:
                last = role
                with self._lock:
                    self._changes.append(RoleChange(at_s=asked, segment=name, role=role))
            self._stopping.wait(max(0.0, asked + INTERVAL_S - time.monotonic()))


def _ask(path: Path) -> str:
    status = status_of(path)
    return SILENT if status is None else role_of(status)
