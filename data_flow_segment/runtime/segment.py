# SPDX-License-Identifier: Apache-2.0
"""A DFS that runs: the agent, its target, its sockets and its clock in one event loop.

Each wake-up does the same: take what came, let the agent decide, then `settle`: commands to the
target in one call, datagrams out, octets to the CSMB streams, the timer set again.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import secrets
import socket
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, Literal

from admin.faults import PAUSE_S
from admin.happened import Happened, Observe
from csmb.settings import ConnectionSettings
from data_flow_segment.agent import Agent
from data_flow_segment.companions import Companions
from data_flow_segment.config.segment import DataFlowSegmentConfig
from data_flow_segment.outbox import Endpoint
from data_flow_segment.runtime.admin import Admin
from data_flow_segment.runtime.bursts import bursts, send
from data_flow_segment.runtime.callbacks import callback
from data_flow_segment.runtime.multicast import MulticastSockets
from data_flow_segment.runtime.sockets import open_udp
from data_flow_segment.runtime.state_file import StateFile
from data_flow_segment.runtime.streams import Streams
from data_flow_segment.targets.contract import PACKET_COMMANDS, SetAnswers, Target, TargetError
from ssmb.addresses import from_text

DatagramFilter = Callable[[Literal["in", "out"], bytes], Iterable[tuple[float, bytes]]]
"""For tests: (direction, datagram) -> (delay in seconds, datagram) for each copy that gets through;
nothing for a loss."""

DATAGRAMS_AT_ONCE: Final = 64
"""Per wake-up: a flood of datagrams must not starve packets, and the other way round."""

POLL_S: Final = 0.002
"""How often a target without a descriptor is asked for events."""

_DATAGRAM_MAX: Final = 2048  # more than SSMB_DGRAM_MAX: an oversized one shows itself
_LOG: Final = logging.getLogger("splitplane.dfs")


def _wall_clock() -> float:
    return time.clock_gettime(time.CLOCK_REALTIME)


class DataFlowSegmentRuntime:
    """Runs one DFS until `stop`.  The target is the caller's: opened before, closed after."""

    def __init__(
        self,
        config: DataFlowSegmentConfig,
        target: Target,
        *,
        key: bytes,
        datagram_filter: DatagramFilter | None = None,
        state_file: Path | None = None,
        read_from: str = "",
    ) -> None:
        """`key` is the pre-shared key, read by the caller; b"" in a laboratory.
        `read_from`: what the agent runs from, for the log.
        `state_file`: what outlives this process; None: nothing does."""
        self.config = config
        self.target = target
        self._read_from = read_from
        settings = ConnectionSettings(
            segment_id=config.segment_id,
            key=key,
            ssmb_ipaddr=from_text(config.ssmb.address),
            ssmb_port=config.ssmb.port,
            laboratory=config.laboratory_no_authentication,
        )
        self._clock = time.monotonic
        self._state_file = StateFile(state_file, config.segment_id, self._clock)
        answers = config.virtual_addresses
        self.agent = Agent(
            settings,
            target,
            random_octets=secrets.token_bytes,
            now=self._clock(),
            answers=SetAnswers(echo=answers.echo, unserved=answers.unserved == "refuse"),
            may_ask=config.ask != "agent",
            epochs=self._state_file.read(),
            wall_clock=_wall_clock,
        )
        self.admin = Admin(self.agent, self._clock)
        self._filter = datagram_filter
        self._streams = Streams(self, self.agent.connections, self._clock)
        shared = config.ssmb.multicast
        self._multicast = MulticastSockets(
            self.agent,
            config.ssmb.address,
            shared.interfaces,
            shared.ttl,
            self._shared_came,
            self._shared_taken,
        )
        self._companions = Companions()
        self._is_watching = False  # the target's late descriptor
        self.is_listening = False  # whether datagrams wake it up
        self._has_more = False  # datagrams than are taken at once
        self._udp: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._failure: TargetError | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        self._others_due = 0.0  # all that is not steady (`Outbox.is_steady`)
        self.ready = asyncio.Event()
        self.decisions: None = None  # it makes none
        self.observers: list[Observe] = []  # of what happens

    # --- what the owner calls ----------------------------------------------------------------

    async def run(self) -> None:
        """Serve until `stop`; OSError if an address cannot be used, TargetError if the target can
        no longer be worked with."""
        config, loop = self.config, asyncio.get_running_loop()
        self._loop = loop
        # What exists now stays: the collector need not examine it for every few hundred flows.
        gc.collect()
        gc.freeze()
        if config.laboratory_no_authentication:
            _LOG.warning(
                "laboratory_no_authentication: authentication is off: any host can control this DFS"
            )
        self._udp = open_udp(config.ssmb.address, config.ssmb.port)
        try:
            self._streams.listen(config.csmb.address, config.csmb.port)
            if self._read_from:
                _LOG.info("the agent runs from %s", self._read_from)
            self._state_file.warn_of_none()
            try:
                self._start_reading(loop)
                self.ready.set()
                await self._stopping.wait()
            finally:
                self._stop_reading(loop)
                await self._streams.close()
                self._listen(False)  # a stream may have had it settle once more
        finally:
            self._udp.close()
            self._udp = None
            gc.unfreeze()  # there may be a next one, in this process
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """End `run`; the data path goes on unless the caller detaches the target."""
        self._stopping.set()

    def fail(self, error: TargetError) -> None:
        """End `run` with this: the target can no longer be worked with."""
        if self._failure is None:
            self._failure = error
        self.stop()

    def go_on_after(self, error: Exception) -> None:
        """Note a mistake of this program; what is due is looked at again shortly."""
        self.agent.outbox.faults.note("handling what the event loop reported", error)
        self._log_faults()
        self._listen(True)  # whatever else waits
        if self._loop is not None and self._timer is None and not self._stopping.is_set():
            self._timer_at = self._clock() + PAUSE_S
            self._timer = self._loop.call_later(PAUSE_S, self._timer_fired)

    def _log_faults(self) -> None:
        for line in self.agent.outbox.faults.take_log():
            _LOG.error("%s", line)

    async def handle_admin(self, command: str, arguments: dict[str, object]) -> object:
        """Answer an operator; ValueError with a sentence for a bad request."""
        try:
            return await self.admin.handle(command, arguments)
        except TargetError as error:
            self.fail(error)
            raise ValueError(str(error)) from None

    # --- the event loop ----------------------------------------------------------------------

    def _start_reading(self, loop: asyncio.AbstractEventLoop) -> None:
        self._listen(True)
        if self.target.fileno() >= 0:
            loop.add_reader(self.target.fileno(), self._events_wait)
        else:
            loop.call_later(POLL_S, self._poll)
        self._watch_late()
        self.settle()

    def _stop_reading(self, loop: asyncio.AbstractEventLoop) -> None:
        self._multicast.close()
        if self.target.fileno() >= 0:
            loop.remove_reader(self.target.fileno())
        if self.target.late_fileno() >= 0:
            loop.remove_reader(self.target.late_fileno())
        self.agent.connections.close("this DFS is shutting down", self._clock())
        self._settle_finally()
        self._listen(False)
        if self._timer is not None:
            self._timer.cancel()

    @callback
    def _epochs_settled(self) -> None:
        """The disk has answered: claims that waited for it are obeyed."""
        if not self._stopping.is_set():
            self.agent.handle_timer(self._clock())
            self.settle()

    @callback
    def _settle_finally(self) -> None:
        self.settle()

    @callback
    def _datagrams_wait(self) -> None:
        self._take_datagrams(self._clock())
        self._settle_what_changed()

    def _take_datagrams(self, now: float) -> None:
        if self._udp is None:  # a run that was cancelled has ended
            return
        receive, agent = self._udp.recvfrom, self.agent
        self._has_more = False
        for _ in range(DATAGRAMS_AT_ONCE):
            try:
                octets, source = receive(_DATAGRAM_MAX)
            except BlockingIOError:
                return
            except OSError as error:  # an ICMP error about something that was sent
                _LOG.debug("SSMB socket: %s", error)
                continue
            endpoint = source if len(source) == 2 else source[:2]
            if self._filter is None:
                agent.receive_datagram(octets, endpoint, now)
            else:
                self._receive_filtered(octets, endpoint, now)
        self._has_more = True

    def _listen(self, wanted: bool) -> None:
        """Let datagrams wake this up, or not."""
        if wanted == self.is_listening or self._udp is None or self._loop is None:
            return
        if wanted and self._stopping.is_set():
            return
        if wanted:
            self._loop.add_reader(self._udp.fileno(), self._datagrams_wait)
        else:
            self._loop.remove_reader(self._udp.fileno())
        self.is_listening = wanted

    @callback
    def _events_wait(self) -> None:
        self.agent.handle_events(self.target.events(), self._clock())
        self.settle()
        # A CS on this machine has often answered before `sendto` returned: looking costs less
        # than another turn of the loop.
        if self._udp is not None and self.agent.new_flows.pending.by_session:
            self._datagrams_wait()

    def _watch_late(self) -> None:
        """Watch the target's late descriptor while nobody knows of something there."""
        descriptor, wanted = self.target.late_fileno(), self._companions.is_resting
        if self._loop is None or descriptor < 0 or wanted == self._is_watching:
            return
        if wanted:
            self._loop.add_reader(descriptor, self._reports_wait)
        else:
            self._loop.remove_reader(descriptor)
        self._is_watching = wanted

    @callback
    def _reports_wait(self) -> None:
        now = self._clock()
        self._companions.came(now, is_shared=self.agent.peers.has_standbys)
        if self._companions.is_due(now):
            self._take_late(now)
        self._watch_late()
        self._settle_what_changed()

    def _take_late(self, now: float) -> None:
        """What waited for companions, and whatever else there is."""
        is_shared = self.agent.peers.has_standbys
        self._companions.taken(now, some=True, is_shared=is_shared)
        events = self.target.events()
        if not events:
            self._companions.taken(now, some=False, is_shared=is_shared)
        self._watch_late()
        self.agent.handle_events(events, now)
        if not is_shared:
            self.agent.peers.hurry()
        if not self.is_listening:
            self._take_datagrams(now)

    def _poll(self) -> None:
        if not self._stopping.is_set() and self._loop is not None:
            self._events_wait()
            self._loop.call_later(POLL_S, self._poll)

    @callback
    def _timer_fired(self) -> None:
        self._timer = None
        self._timer_at = float("inf")
        now = self._clock()
        if self._companions.is_due(now):
            self._take_late(now)
        if now < self._others_due:
            self._settle_what_changed()
            return
        if not self.is_listening:  # nobody is silent whose words lie in the socket
            self._take_datagrams(now)
        self.agent.handle_timer(now)
        step = self.agent.sweeps.due(now)
        if step is not None:
            complete = self.target.sweep(step.limit, stats=step.stats)
            events = self.target.events()
            self.agent.sweeps.finished(complete, events)
            self.agent.handle_events(events, now)
        self.settle()

    @callback
    def _shared_came(self, octets: bytes, group: Endpoint, arrived_on: str | None) -> None:
        self.agent.receive_shared(octets, group, arrived_on, self._clock())

    @callback
    def _shared_taken(self) -> None:
        self.settle()

    def settle(self) -> None:
        """Carry out what the agent decided in this wake-up."""
        agent, now = self.agent, self._clock()
        if agent.heartbeats.copies:  # what the target carried out goes before them
            agent.handle_events(self.target.events(), now)
        agent.flush(now)
        self._let_go()
        self._multicast.settle()
        if agent.endings.leftovers.stages and self._loop is not None:
            self._loop.call_soon(self._events_wait)
        self._state_file.follow(agent.epochs, agent.outbox.faults, self._epochs_settled)
        for connection_id in agent.connections.take_touched():
            self._streams.write(connection_id)
        for sentence in agent.connections.take_log():
            _LOG.info("%s", sentence)
        if agent.outbox.log:
            sentences, agent.outbox.log = agent.outbox.log, []
            for sentence in sentences:
                _LOG.warning("%s", sentence)
                self._tell(Happened("warning", "dfs_warning", sentence))
        self._log_faults()
        timer = agent.get_other_timer()
        sweep_at = agent.sweeps.get_timer()
        self._others_due = sweep_at if timer is None else min(timer, sweep_at)
        agent.outbox.is_steady = not agent.endings.leftovers.stages
        self._listen_unless_busy(now)
        self._set_timer(now)

    def _settle_what_changed(self) -> None:
        """The same where nothing but grants and finished messages passed, in a fraction of the
        time: there is no end of these wake-ups while flows come and go."""
        agent, now = self.agent, self._clock()
        if not agent.outbox.is_steady or agent.outbox.log:
            self.settle()
            return
        agent.flush_steadily(now)
        self._let_go()
        self._listen_unless_busy(now)
        self._set_timer(now)

    def _listen_unless_busy(self, now: float) -> None:
        """While flows come and go, what CSs send (grants, mostly) waits for the next wake-up, as
        the target's reports do.  Not if packets wait for answers, or more came than was read."""
        is_awaited = self._has_more or self.agent.awaits_answers(now)
        self._listen(self._companions.is_resting or is_awaited)

    def _let_go(self) -> None:
        """Commands before what may tell of them: a CS that hears that grants are void counts on it
        at once.  But it decides while packets that waited are put back."""
        outbox = self.agent.outbox
        commands = outbox.take_commands()
        can_wait = all(isinstance(command, PACKET_COMMANDS) for command in commands)
        if commands and not can_wait:
            self.target.apply(commands)
        if outbox.datagrams and self._udp is not None:
            self._send(outbox.take_datagrams())
        if commands and can_wait:
            self.target.apply(commands)

    def _tell(self, happened: Happened) -> None:
        for observe in self.observers:
            observe(happened, time.clock_gettime(time.CLOCK_REALTIME))

    def _set_timer(self, now: float) -> None:
        """One timer; setting it earlier cancels, setting it later waits until it has fired."""
        wanted = self._others_due
        for timer in (self.agent.get_steady_timer(), self._companions.get_timer()):
            if timer is not None and timer < wanted:
                wanted = timer
        if wanted < self._timer_at and self._loop is not None and not self._stopping.is_set():
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = wanted
            self._timer = self._loop.call_later(max(0.0, wanted - now), self._timer_fired)

    # --- datagrams ---------------------------------------------------------------------------

    def _send(self, datagrams: list[tuple[Endpoint, bytes]]) -> None:
        assert self._udp is not None
        if self._filter is not None:
            for endpoint, octets in datagrams:
                self._send_filtered(octets, endpoint)
            return
        for endpoint, burst in bursts(datagrams):
            unsent = send(self._udp, endpoint, burst)
            if unsent:  # as if the network had lost it
                self.agent.outbox.counters["datagrams_unsent"] += unsent

    def _send_filtered(self, octets: bytes, endpoint: Endpoint) -> None:
        assert self._filter is not None
        assert self._loop is not None
        for delay_s, copy in self._filter("out", octets):
            self._loop.call_later(delay_s, self._send_late, copy, endpoint)

    def _send_late(self, octets: bytes, endpoint: Endpoint) -> None:
        if self._udp is not None:
            try:
                self._udp.sendto(octets, endpoint)
            except OSError:
                self.agent.outbox.counters["datagrams_unsent"] += 1

    def _receive_filtered(self, octets: bytes, endpoint: Endpoint, now: float) -> None:
        assert self._filter is not None
        assert self._loop is not None
        for delay_s, copy in self._filter("in", octets):
            if delay_s <= 0:
                self.agent.receive_datagram(copy, endpoint, now)
            else:
                self._loop.call_later(delay_s, self._receive_late, copy, endpoint)

    @callback
    def _receive_late(self, octets: bytes, endpoint: Endpoint) -> None:
        self.agent.receive_datagram(octets, endpoint, self._clock())
        self.settle()
