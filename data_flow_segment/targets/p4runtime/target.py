# SPDX-License-Identifier: Apache-2.0
"""A target that is a switch: the agent's handle on it.

All decisions are `Core`'s, made in the agent's thread; the driver's thread talks to the switch.
Examining a flow is a query to the switch: `lookup`, `scan` and `oldest` wait for the answer, a
millisecond as a rule and LOOK_S at most, after which the last one counts.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from data_flow_segment.targets.contract import (
    Command,
    Counter,
    Event,
    FlowState,
    TargetError,
    TargetLost,
    VirtualServerEntry,
    Waiting,
)
from data_flow_segment.targets.flow_table import FlowTable, is_crowded, worth
from data_flow_segment.targets.grants import GrantState
from data_flow_segment.targets.p4runtime.core import Core, Phase
from data_flow_segment.targets.p4runtime.driver import Driver
from data_flow_segment.targets.p4runtime.flows import SwitchFlow
from data_flow_segment.targets.p4runtime.options import P4RuntimeOptions
from data_flow_segment.targets.p4runtime.program import Program
from ssmb.messages import FlowSignature, Session

LOOK_S: Final = 0.1
OLDEST_MORE: Final = 32
SULK_S: Final = 1.0
"""How long a switch that did not answer in time is not waited for again."""

COUNTERS_S: Final = 0.3
STOP_S: Final = 0.5
_SWEEP_WAIT_S: Final = 0.001
EVENTS_WAITING: Final = 1024
RESULTS_AT_LEAST: Final = 64  # even then: among them may be what a look waits for
_EVENTS_AT_ONCE: Final = 256
_CURSOR_OCTETS: Final = 8
_LOG: Final = logging.getLogger("splitplane.dfs")


class P4RuntimeTarget:
    """A switch that speaks P4Runtime.  Made by `open`."""

    def __init__(self, core: Core, driver: Driver, clock: Callable[[], float]) -> None:
        self._core = core
        self._driver = driver
        self._clock = clock
        self._failure: TargetError | None = None
        self._look_again_at = 0.0
        self._heard = 0  # results, ever

    @classmethod
    def open(
        cls,
        options: P4RuntimeOptions,
        *,
        on_wait: Callable[[Waiting], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> P4RuntimeTarget:
        """Take the switch over, and what an earlier agent left in it; raises TargetError.

        While the switch is not there, or another agent is primary, this waits, and says for what
        to `on_wait`: once, then rarely.
        """
        program = Program.load(options.program)
        program.require_ports(options.interfaces)
        core = Core(options, program, secrets.randbits(32), clock())
        driver = Driver.open(options, program, on_wait=on_wait)
        target = cls(core, driver, clock)
        try:
            target._wait_until_ready()
        except BaseException:
            driver.close()
            raise
        return target

    @property
    def flow_capacity(self) -> int:
        return self._core.flows.table.capacity

    @property
    def adopted(self) -> bool:
        return self._core.adopted

    @property
    def boot_id(self) -> int:
        return self._core.boot_id

    @property
    def phase(self) -> str:
        """How far the switch has the desired state: lost, reading, ready."""
        return self._core.phase.value

    def apply(self, commands: Iterable[Command]) -> None:
        self._core.apply(commands, self._clock())
        self._submit()

    def events(self) -> Sequence[Event]:
        """TargetError if this agent can no longer work with the switch."""
        self._pump()
        if self._failure is not None:
            raise self._failure
        self._core.tick(self._clock())
        self._submit()
        waiting = self._core.events
        found = [waiting.popleft() for _ in range(min(len(waiting), _EVENTS_AT_ONCE))]
        if waiting or self._core.can_work:
            self._driver.wake()
        return found

    def fileno(self) -> int:
        return self._driver.fileno()

    def late_fileno(self) -> int:
        return -1

    @property
    def offloads(self) -> bool:
        return False

    def asking(self, group_id: int) -> str:
        return "this target cannot ask"

    def serial_key(self) -> bytes:
        return b""

    def renewed(self, session: Session) -> int:
        return 0

    def has_asked(self, session: Session) -> bool:
        return False

    def parked(self, frame: bytes) -> tuple[int, bytes]:
        return 0, frame

    def lookup(self, signature: FlowSignature) -> FlowState | None:
        flow = self._table.lookup(signature)
        if flow is None:
            return None
        self._look([flow])
        return flow.state(self._clock())

    def virtual_servers(self) -> Sequence[VirtualServerEntry]:
        return list(self._core.servers.entries.values())

    def sweep(self, limit: int, *, stats: bool) -> bool:
        core = self._core
        core.tick(self._clock())
        if core.phase is not Phase.READY:
            self._pump()
            return True
        is_complete = core.sweep.look(limit, stats=stats)
        self._submit()
        if core.sweep.is_waiting:
            self._driver.wait(_SWEEP_WAIT_S)
        self._pump()
        return is_complete

    def scan(self, cursor: bytes | None, limit: int) -> tuple[Sequence[FlowState], bytes | None]:
        number = 0 if cursor is None else int.from_bytes(cursor, "big")
        flows, last = self._table.after(number, limit)
        self._look(flows)
        now = self._clock()
        following = None if last is None else last.to_bytes(_CURSOR_OCTETS, "big")
        return [flow.state(now) for flow in flows], following

    def oldest(self, count: int) -> Sequence[FlowState]:
        # the order is by the last reports; some more are asked about, so that those that moved
        # meanwhile fall behind, and one without a report in time is no candidate
        began = self._clock()
        candidates = list(self._table.oldest(min(2 * count, count + OLDEST_MORE), began))
        self._look(candidates)
        fresh = [flow for flow in candidates if flow.reported_at >= began] or candidates
        now = self._clock()
        crowded = is_crowded(sum(flow.half_open for flow in fresh), len(fresh))
        fresh.sort(key=lambda flow: worth(flow, now, crowded=crowded))
        return [flow.state(now) for flow in fresh[:count]]

    @property
    def knows_nodes(self) -> bool:
        return False

    @property
    def makes_cookies(self) -> bool:
        return True

    @property
    def takes_grants(self) -> bool:
        return False

    def grant_states(self) -> Sequence[GrantState]:
        return ()

    def flow_count(self) -> int:
        return len(self._core.flows)

    def counters(self) -> Mapping[str, Counter]:
        core = self._core
        if self._answers:
            wanted = core.counters_read + 1
            core.read_counters()
            self._ask(lambda: core.counters_read >= wanted, COUNTERS_S)
        found = core.counters.as_mapping()
        found["drop_inbox_full"] = found["drop_inbox_full"]._replace(value=self._driver.dropped)
        return found

    def settle(self, longest_s: float = 5.0) -> bool:
        """Return when the switch has done everything that was sent, and reported the results."""
        core = self._core
        core.fence()
        self._submit()
        return self._await(lambda: core.fences == 0 and not core.is_working, longest_s)

    def close(self, *, detach: bool) -> None:
        self._core.stop_listening()
        self.settle(STOP_S)
        self._driver.close(forget=detach)

    # --- between the core and the driver -----------------------------------------------------

    @property
    def _table(self) -> FlowTable[SwitchFlow]:
        return self._core.flows.table

    def _pump(self) -> None:
        """Take what the switch said, and answer it."""
        core = self._core
        try:
            # no more than is handled soon: the rest waits in the inbox, whose bound then counts
            room = EVENTS_WAITING - len(core.events)
            results = self._driver.take(max(room, RESULTS_AT_LEAST))
            self._heard += len(results)
            core.handle(results, self._clock())
            core.work()
        except TargetError as error:
            self._failure = error  # `events` is where the agent hears of it
            self._driver.wake()
        self._submit()
        for sentence in core.log:
            _LOG.warning("%s", sentence)
        core.log.clear()

    def _submit(self) -> None:
        operations = self._core.take(self._clock())
        if operations:
            self._driver.submit(operations)

    @property
    def _answers(self) -> bool:
        """Whether it is worth asking the switch something and waiting for it."""
        return self._core.phase is Phase.READY and self._clock() >= self._look_again_at

    def _ask(self, is_done: Callable[[], bool], longest_s: float) -> None:
        """Wait for an answer; a switch that says nothing at all is not asked again at once."""
        self._submit()
        heard = self._heard
        if not self._await(is_done, longest_s) and self._heard == heard:
            self._look_again_at = self._clock() + SULK_S

    def _await(self, is_done: Callable[[], bool], longest_s: float) -> bool:
        """Go on with what the switch says until `is_done`."""
        deadline = self._clock() + longest_s
        while not (done := is_done()):
            remaining = deadline - self._clock()
            if remaining <= 0 or self._core.phase is Phase.LOST:
                break
            self._driver.wait(remaining)
            self._pump()
        if self._core.events or self._core.can_work:
            self._driver.wake()  # what came meanwhile is for `events`
        return done

    def _look(self, flows: Sequence[SwitchFlow]) -> None:
        """Have a fresh report of each, if the switch is there."""
        if flows and self._answers:
            reports = self._core.reports
            reports.ask_first(flows)
            self._ask(lambda: not any(map(reports.is_wanted, flows)), LOOK_S)
            reports.give_up(flows)

    def _wait_until_ready(self) -> None:
        while True:
            self._pump()
            if self._failure is not None:
                raise self._failure
            if self._core.phase is Phase.READY and not self._core.is_working:
                self.settle()
                return
            if self._core.phase is Phase.LOST and self._core.boot_id:
                raise TargetLost(f"lost the switch at {self._core.options.address}")
            if not self._core.can_work:
                self._driver.wait(1.0)
