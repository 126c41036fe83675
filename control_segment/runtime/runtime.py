# SPDX-License-Identifier: Apache-2.0
"""Run a Control Segment: wires sockets, clock and log to `control_segment.segment`."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from admin.distribution import DECISION_BOUNDS_S, Distribution
from admin.happened import Happened, Observe
from control_segment.batches import Answered, Opened
from control_segment.config import ControlSegmentConfig
from control_segment.differences import Difference, between
from control_segment.happenings import Watch
from control_segment.peers import Datagram
from control_segment.runtime import admin, memory
from control_segment.runtime.batch_socket import BatchSocket
from control_segment.runtime.datagrams import DatagramFilter, DatagramSocket
from control_segment.runtime.group_socket import GroupSocket
from control_segment.runtime.native import load
from control_segment.runtime.probes.prober import Prober
from control_segment.runtime.response_times import measure_response_times
from control_segment.runtime.state_file import StateFile
from control_segment.runtime.streams import Stream
from control_segment.runtime.turns import short_turns
from control_segment.segment import ControlSegment
from ssmb.constants import GRANT_VALID_MS, MessageType
from ssmb.seal import KeyRing

_LOOK_S: Final = 0.002  # between looks at what DFSs have confirmed
# How long datagrams wait at most, beside one step
SLICE_S: Final = 0.002

_LEVELS: Final = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

_log = logging.getLogger("control_segment")


async def _whole(pieces: Iterator[list[object]]) -> list[object]:
    """A long list; datagrams are answered between its pieces."""
    whole: list[object] = []
    for piece in pieces:
        whole += piece
        await asyncio.sleep(0)
    return whole


class ControlSegmentRuntime:
    """A running CS; `run` ends after `stop`, or fails with OSError if the port cannot be had."""

    def __init__(
        self,
        config: ControlSegmentConfig,
        key: bytes,
        *,
        datagram_filter: DatagramFilter | None = None,
        state_file: Path | None = None,
        scripts: Path | None = None,
        secrets: Path | None = None,
        on_ready: Callable[[], None] | None = None,
        read_from: str = "",
    ) -> None:
        """`state_file`: what outlives this process; None: nothing does.  `scripts`: the folder of
        monitors' scripts; None: it runs none.  `secrets`: that of the secrets that monitors name;
        None: there are none.  `read_from`: from what Python runs the decisions, for the log."""
        self._config = config
        self._key = key
        self._filter = datagram_filter
        self._state_path = state_file
        self._scripts = scripts
        self._secrets = secrets
        self._prober: Prober | None = None
        self._on_ready = on_ready
        self._read_from = read_from
        self._stopping = asyncio.Event()
        self._segment: ControlSegment | None = None
        self._udp: DatagramSocket | None = None
        self._streams: list[Stream] = []
        self._timer: asyncio.TimerHandle | None = None
        self._tend_at = 0.0
        self.decisions = Distribution(DECISION_BOUNDS_S)
        self.observers: list[Observe] = []  # of what happens
        self._watch = Watch(config.segment_id)

    @property
    def is_running(self) -> bool:
        """Whether the sockets are open."""
        return self._udp is not None

    @property
    def segment(self) -> ControlSegment:
        """The decisions, for observers; only while running."""
        if self._segment is None:
            raise ValueError("the Control Segment is not running yet")
        return self._segment

    async def run(self) -> None:
        """Run until stopped."""
        loop = asyncio.get_running_loop()
        # A filter wants to see each datagram; native code knows one socket, and answers there
        shared = self._config.ssmb.multicast
        is_plain = self._filter is None and shared is None
        native, said = load() if is_plain else (None, "")
        self._segment = segment = ControlSegment(
            self._config,
            key=self._key,
            cs_boot_id=secrets.randbits(32),
            now=loop.time(),
            random_octets=secrets.token_bytes,
            new_keys=KeyRing if native is None else partial(KeyRing, native.opener, native.sealer),
        )
        segment.batches.is_native = native is not None
        if self._config.laboratory_no_authentication:
            _log.warning(
                "laboratory_no_authentication: authentication is off:"
                " any host can control the DFSs of this CS"
            )
        state_file = self._restore(segment, loop.time())
        ssmb = self._config.ssmb
        if shared is not None:
            self._udp = GroupSocket(
                ssmb.address, ssmb.port, shared, self._handle, self._handle_shared, self._filter
            )
        elif native is None:
            self._udp = DatagramSocket(ssmb.address, ssmb.port, self._handle, self._filter)
        else:
            self._udp = BatchSocket(
                ssmb.address, ssmb.port, native, segment.batches, self._handle_opened
            )
        if said:
            _log.info("%s", said)
        if self._read_from:
            _log.info("decisions run from %s", self._read_from)
        try:
            self._streams = [
                Stream(segment, index, self._changed)
                for index in range(len(segment.connections.links))
            ]
            with memory.without_automatic_collection(), short_turns():
                await self._serve(segment, state_file)
        finally:
            if self._timer is not None:
                self._timer.cancel()
            self._udp.close()
            self._udp = None

    async def _serve(self, segment: ControlSegment, state_file: StateFile | None) -> None:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(stream.run()) for stream in self._streams]
            running.append(tasks.create_task(measure_response_times(segment)))
            self._prober = Prober(segment, self._scripts, self._changed, secrets=self._secrets)
            running.append(tasks.create_task(self._prober.run()))
            if state_file is not None:
                tasks.create_task(state_file.keep(self._stopping))  # which writes a last time
            self._changed()
            if self._on_ready is not None:
                self._on_ready()
            await self._stopping.wait()
            for task in running:
                task.cancel()

    def _restore(self, segment: ControlSegment, now: float) -> StateFile | None:
        if self._state_path is not None:
            state_file = StateFile(self._state_path, segment)
            state_file.restore(now)
            return state_file
        if segment.model.persistence.by_name:
            _log.warning("no state_file: what persistence remembers is lost when this CS ends")
        return None

    def stop(self) -> None:
        """Let `run` end."""
        self._stopping.set()

    async def apply_config(
        self,
        config: ControlSegmentConfig,
        difference: Difference | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Put another configuration in force; ValueError, nothing changed: it needs a restart.
        `difference`: all that is other in it, if that is known: then nothing else is looked at.

        A large one takes seconds.  Datagrams are answered meanwhile; call it again only when it
        has returned.  `say`: what is being done, for people who wait.
        """
        loop, segment = asyncio.get_running_loop(), self.segment
        if difference is None:
            difference = await asyncio.to_thread(between, segment.config, config)
        steps, changes, done = segment.applying(config, difference), None, 0
        made: object = None
        parts = len(difference.pools) + len(difference.virtual_servers)
        replaced = memory.parts_of(segment.config) if parts > memory.FREED_AT_ONCE else []
        leaves_many = memory.leaves_many(difference)
        while changes is None:
            say(f"putting in force {min(done, parts)} of {parts} pools and virtual servers")
            until, beside = loop.time() + SLICE_S, None
            try:
                while loop.time() < until and beside is None:
                    beside = steps.send(made)
                    made = None
                    done += beside is None
            except StopIteration as end:
                changes = end.value
            else:
                # a thread holds the interpreter for a short turn at most
                made = None if beside is None else await asyncio.to_thread(beside)
                await asyncio.sleep(0)
            if leaves_many:
                memory.set_aside()
        for _ in segment.looking(changes):
            await asyncio.sleep(0)
        segment.announce(changes, loop.time())
        self._changed()
        await self._in_force()
        await memory.let_go(replaced)

    def handle_admin(self, command: str, arguments: dict[str, object]) -> object:
        """Answer a command, or return what is to be awaited for it; ValueError says what is wrong
        with it."""
        answer = admin.handle(self.segment, command, arguments, asyncio.get_running_loop().time())
        self._changed()
        if self.segment.grants.is_void_unconfirmed:
            return self._answer_in_force(answer)
        return _whole(answer) if isinstance(answer, Iterator) else answer

    async def _answer_in_force(self, answer: object) -> object:
        await self._in_force()
        return await _whole(answer) if isinstance(answer, Iterator) else answer

    async def _in_force(self) -> None:
        """Wait until no DFS uses decisions that were made before a change; 50 ms at most."""
        loop = asyncio.get_running_loop()
        until = loop.time() + GRANT_VALID_MS / 1000
        for _ in range(round(GRANT_VALID_MS / 1000 / _LOOK_S)):
            if not self.segment.grants.is_void_unconfirmed or loop.time() >= until:
                return
            await asyncio.sleep(_LOOK_S)

    # --- between the sockets and the segment ---------------------------------------------------

    def _handle(self, datagrams: list[Datagram], now: float) -> list[Datagram]:
        assert self._segment is not None
        sent = self._segment.statistics.sent
        before = sent[MessageType.REPLY]
        replies = self._segment.process_batch(datagrams, now)
        self._decided(sent[MessageType.REPLY] - before, now)
        replies += self._segment.datagrams_to_send()
        if self._segment.batches.is_touched:
            self._after(now)
        return replies

    def _decided(self, count: int, now: float) -> None:
        """So many QUERYs that were read *now* have been answered."""
        if count:
            self.decisions.add(asyncio.get_running_loop().time() - now, count)

    def _handle_shared(self, datagrams: list[bytes], now: float) -> list[Datagram]:
        assert self._segment is not None
        self._segment.receive_shared(datagrams, now)
        self._after(now)
        return self._segment.datagrams_to_send()

    def _handle_opened(
        self, datagrams: list[Opened], now: float
    ) -> tuple[list[Answered], list[Datagram]]:
        assert self._segment is not None
        sent = self._segment.statistics.sent
        before = sent[MessageType.REPLY]
        answered, others = self._segment.batches.handle_opened(datagrams, now)
        self._decided(sent[MessageType.REPLY] - before, now)
        others += self._segment.datagrams_to_send()
        if self._segment.batches.is_touched:
            self._after(now)
        return answered, others

    def _changed(self) -> None:
        """Send what the segment wants sent, and look at it again in time."""
        assert self._segment is not None
        assert self._udp is not None
        for stream in self._streams:
            stream.flush()
        self._udp.send(self._segment.datagrams_to_send())
        self._look()
        self._after(asyncio.get_running_loop().time())

    def _after(self, now: float) -> None:
        segment = self.segment
        segment.batches.is_touched = False
        if segment.log:
            for line in segment.log:
                _log.info("%s", line)
            segment.log.clear()
        if segment.happened:
            self._tell(segment.happened)
        for line in segment.faults.take_log():
            _log.error("%s", line)
        if self._prober is not None:
            self._prober.look()
        due = segment.get_timer()
        if self._timer is not None:
            if self._timer.when() <= due:
                return
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(max(due, now), self._timer_due)

    def _look(self) -> None:
        """Pass on what is other in roles and connections; the log has its own words for it."""
        segment = self.segment
        election, links = segment.group.election, segment.connections.links
        dfss = segment.config.data_flow_segments
        for event in self._watch.look(election.role, election.epoch, links, dfss):
            for observe in self.observers:
                observe(event, time.clock_gettime(time.CLOCK_REALTIME))

    def _tell(self, happened: list[Happened]) -> None:
        """Log events, and pass them on."""
        at = time.clock_gettime(time.CLOCK_REALTIME)
        for event in happened:
            _log.log(_LEVELS[event.severity], "%s", event.what)
            for observe in self.observers:
                observe(event, at)
        happened.clear()

    def _timer_due(self) -> None:
        self._timer = None
        segment = self.segment
        now = asyncio.get_running_loop().time()
        segment.handle_timer(now)
        if now >= self._tend_at:
            self._tend_at = now + memory.INTERVAL_S
            memory.tend()
        self._changed()
