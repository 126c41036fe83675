# SPDX-License-Identifier: Apache-2.0
"""The P4Runtime target with BMv2 between two cables, as the contract suite wants it."""

from __future__ import annotations

import contextlib
import select
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from data_flow_segment.targets.contract import Waiting
from data_flow_segment.targets.p4runtime.options import P4RuntimeOptions
from data_flow_segment.targets.p4runtime.target import P4RuntimeTarget
from support.targets.bmv2 import DEVICE_ID, PORT, Cables, running_switch
from support.targets.rig import Frame, MemoryRig, Rig, Side
from support.targets.veth_rig import VethRig, is_late_answer


def _opened(options: P4RuntimeOptions) -> P4RuntimeTarget:
    """The switch is there: whatever has to be waited for is a fault."""

    def fail(waiting: Waiting) -> None:
        raise RuntimeError(waiting.reason)

    return P4RuntimeTarget.open(options, on_wait=fail)


class P4Rig(VethRig):
    """Real packets through a real switch; what a kernel knows of its network the options say."""

    name = "p4"

    def __init__(self, flow_capacity: int = 4096) -> None:
        self._events = []
        self._away = False
        self._numbers = PORT
        self.keeps_chatter = False
        cables = self._cables = Cables()
        self._wires = cables.wires
        self._stack = contextlib.ExitStack()
        self._stack.callback(cables.close)
        try:
            folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="p4-"))
            self._folder = Path(folder)
            self._running = self._stack.enter_context(contextlib.ExitStack())
            address = self._running.enter_context(running_switch(cables, self._folder))
            memory = MemoryRig(flow_capacity).options
            self.options = P4RuntimeOptions(
                address,
                memory.interfaces,
                memory.routes,
                memory.neighbours,
                device_id=DEVICE_ID,
                replace_program=True,
                flow_capacity=flow_capacity,
                half_open_timeout_s=1,
            )
            self.target = self._switch = _opened(self.options)
        except BaseException:
            self._stack.close()
            raise

    def inside(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def exchange(self, frames: Iterable[Frame]) -> list[Frame]:
        out: list[Frame] = []
        last: Side | None = None
        for side, octets in frames:
            if last not in (None, side):
                out += self._settled()  # the switch reads its ports in turn
            self._wires[side].send(octets)
            last = side
        return out + self._received()

    def _is_chatter(self, octets: bytes) -> bool:
        """The agent's questions for MAC addresses, which it repeats; noise has it ask for many."""
        if is_late_answer(octets):
            return True
        if self.keeps_chatter:
            return False
        if octets[12:14] == b"\x08\x06":
            return octets[20:22] == b"\x00\x01" and octets[28:32] != octets[38:42]
        return octets[12:14] == b"\x86\xdd" and octets[20] == 58 and octets[54:55] == b"\x87"

    def _pump(self) -> bool:
        if self._away:
            return False
        for _ in range(2):  # what came up, and what it led to
            self._switch.settle()
        super()._pump()
        return True

    @contextlib.contextmanager
    def sized(self, flow_capacity: int) -> Iterator[Rig]:
        other = P4Rig(flow_capacity)
        try:
            yield other
        finally:
            other.close()

    @contextlib.contextmanager
    def agent_away(self) -> Iterator[None]:
        self.target.close(detach=False)
        self._away, self._events = True, []
        yield
        self._away = False
        self.target = self._switch = _opened(self.options)

    def restart_switch(self) -> None:
        """The switch dies, and one without memory takes its place, which the agent fills."""
        self._running.close()
        self._await("lost")
        self._running.enter_context(running_switch(self._cables, self._folder))
        self._await("ready")
        self._switch.settle()

    def _await(self, phase: str) -> None:
        deadline = time.monotonic() + 20
        while self._switch.phase != phase:
            assert time.monotonic() < deadline, f"the switch is {self._switch.phase}"
            select.select([self._switch.fileno()], [], [], 1)
            self._events += self._switch.events()

    def reopened(self, options: P4RuntimeOptions) -> P4RuntimeTarget:
        """Another agent with other options."""
        self.options = options
        with self.agent_away():
            pass
        return self._switch

    def close(self) -> None:
        try:
            self.target.close(detach=True)
        finally:
            self._stack.close()
