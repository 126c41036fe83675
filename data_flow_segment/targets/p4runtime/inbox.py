# SPDX-License-Identifier: Apache-2.0
"""Results on their way from the driver's thread to the agent's."""

from __future__ import annotations

import contextlib
import os
import select
from collections import deque
from typing import Final

from data_flow_segment.targets.p4runtime.operations import PacketUp, Result

PACKETS_MAX: Final = 16384
"""That wait for the agent; the next ones are dropped and counted."""


class Inbox:
    """From the driver's thread to the agent's; the descriptor is readable while something is in."""

    def __init__(self) -> None:
        self._results: deque[Result] = deque()
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._event, select.POLLIN)
        self._signalled = False
        self.dropped = 0

    def put(self, result: Result) -> None:
        """Called by the driver's thread only."""
        if type(result) is PacketUp and len(self._results) >= PACKETS_MAX:
            self.dropped += 1
            return
        self._results.append(result)
        if not self._signalled:
            self._signalled = True
            os.eventfd_write(self._event, 1)

    def take(self, limit: int | None = None) -> list[Result]:
        """Everything, or the first `limit`, in order of arrival.

        What is left waits here, where PACKETS_MAX counts it.  Called by the agent's thread only.
        """
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._event)
        self._signalled = False  # before the results are taken: nothing is put in unseen
        count = len(self._results)
        taken = [
            self._results.popleft() for _ in range(count if limit is None else min(count, limit))
        ]
        if self._results:
            self.wake()
        return taken

    def wait(self, timeout_s: float) -> bool:
        """Whether something is in, at the latest after this time."""
        return bool(self._results) or bool(self._poll.poll(timeout_s * 1000))

    def wake(self) -> None:
        """Be readable although nothing is in.  Called by the agent's thread."""
        os.eventfd_write(self._event, 1)

    def fileno(self) -> int:
        """To be polled."""
        return self._event

    def close(self) -> None:
        """Once, or more often."""
        if self._event >= 0:
            os.close(self._event)
            self._event = -1
