# SPDX-License-Identifier: Apache-2.0
"""Talks to the switch, so that the agent's thread need not wait for it.

      agent's thread                      driver's thread (line.py)
    submit ---- operations ---------->  one after the other, while primary
    take  <---- inbox, eventfd -------  results, packets, and what happened to the connection

After a loss it tries again for ever.  Operations belong to the connection that the agent knew when
it submitted them: those of an earlier one are not carried out, and their results say LOST.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Final

from data_flow_segment.targets.contract import Waiting
from data_flow_segment.targets.p4runtime.inbox import Inbox
from data_flow_segment.targets.p4runtime.line import CLOSE_S, FORGET_S, Line
from data_flow_segment.targets.p4runtime.operations import Connected, Operation, Result
from data_flow_segment.targets.p4runtime.options import P4RuntimeOptions
from data_flow_segment.targets.p4runtime.program import Program

SIGNAL_S: Final = 0.5
"""After so long at most an agent that waits for its switch heeds a signal."""


class Driver:
    """One switch.  Every method is the agent's thread's."""

    def __init__(self, options: P4RuntimeOptions, program: Program) -> None:
        self._inbox = Inbox()
        self._epoch = 0  # the connection that the agent knows
        self._line = Line(options, program, self._inbox)
        self._thread = threading.Thread(
            target=self._line.run, name="p4runtime", daemon=True
        )  # a process that ends does not wait for a switch

    @classmethod
    def open(
        cls,
        options: P4RuntimeOptions,
        program: Program,
        *,
        on_wait: Callable[[Waiting], None] | None = None,
    ) -> Driver:
        """Wait until this agent is primary; TargetError if that cannot become true by itself.

        `on_wait` hears for what it waits; an exception of it ends the wait.  The first result is
        Connected.
        """
        driver = cls(options, program)
        driver._thread.start()
        try:
            while not isinstance(news := driver._next_news(), Connected):
                if isinstance(news, BaseException):
                    raise news
                if on_wait is not None:
                    on_wait(news)
        except BaseException:
            driver.close()
            raise
        return driver

    def _next_news(self) -> Connected | Waiting | BaseException:
        """A signal that comes just before a thread begins to wait for a lock does not end that wait
        (Python handles it afterwards): so the wait is a short one, again and again."""
        while True:
            with contextlib.suppress(queue.Empty):
                return self._line.news.get(timeout=SIGNAL_S)

    def submit(self, operations: Sequence[Operation]) -> None:
        """Carry them out, in order, behind those before."""
        self._line.submit(self._epoch, operations)

    def take(self, limit: int | None = None) -> list[Result]:
        """What happened since the last call, at most `limit` results of it; never waits.

        TargetError if the driver's thread has ended.
        """
        self._line.check()
        results = self._inbox.take(limit)
        self._epoch += sum(type(result) is Connected for result in results)
        return results

    def wait(self, timeout_s: float) -> bool:
        """Whether `take` has something, at the latest after this time."""
        return self._inbox.wait(timeout_s)

    def fileno(self) -> int:
        """Readable while `take` has something."""
        return self._inbox.fileno()

    def wake(self) -> None:
        """Let `fileno` be readable: the agent has more to do itself."""
        self._inbox.wake()

    @property
    def dropped(self) -> int:
        """Packets that came up while too many waited."""
        return self._inbox.dropped

    def close(self, *, forget: bool = False) -> None:
        """End the session, when what was submitted before is carried out, or after a second.

        With `forget` the program starts over: the switch then has no entries.
        """
        self._line.close(forget=forget)
        self._thread.join((FORGET_S if forget else CLOSE_S) + 2.0)
        if not self._thread.is_alive():  # else it goes with the process
            self._inbox.close()
