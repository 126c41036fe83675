# SPDX-License-Identifier: Apache-2.0
"""Both runtimes over real sockets of the loopback; the memory target stands for the cables."""

import asyncio
import os
import random
import select
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, Final

import pytest

from admin.faults import COUNTER
from admin.state import encode
from control_segment.config import ControlSegmentConfig
from control_segment.runtime.runtime import ControlSegmentRuntime
from data_flow_segment.agent import QUIET_S
from data_flow_segment.config.segment import DataFlowSegmentConfig
from data_flow_segment.outbox import Endpoint
from data_flow_segment.peers.epochs import sections
from data_flow_segment.peers.fencing import Claim
from data_flow_segment.runtime.segment import (
    DATAGRAMS_AT_ONCE,
    DataFlowSegmentRuntime,
    DatagramFilter,
)
from data_flow_segment.runtime.state_file import StateFile
from data_flow_segment.targets.contract import (
    Command,
    Event,
    FinishedMessages,
    InjectPacket,
    PacketIn,
    RemoveFlow,
    TargetError,
    TransmitPacket,
)
from data_flow_segment.targets.grants import BeginGrants, EndGrants, ExtendLease
from data_flow_segment.targets.memory import MemoryTarget
from data_flow_segment.targets.registry import open_target
from data_flow_segment.targets.virtual_server_key import VirtualServerKey
from ssmb.addresses import to_text
from ssmb.codec import encode as encode_message
from ssmb.constants import TCP, MessageType
from ssmb.messages import Delete, FlowSignature
from support.octets.frames import SYN, ends_of, framed, tcp_packet
from support.ports import free_port
from support.segments.agent_rig import (
    CLIENT,
    EXTERNAL,
    EXTERNAL_MAC,
    INTERNAL,
    NODE,
    ROUTER_MAC,
    VIP,
    options,
)
from support.segments.real_dfs import run_with_dfs

KEY = b"sixteen octets or more"


def dfs_config(**changes: Any) -> DataFlowSegmentConfig:
    return DataFlowSegmentConfig.model_validate(
        {
            "segment_id": 256,
            "target": "memory",
            "csmb": {"address": "127.0.0.1", "port": free_port()},
            "ssmb": {"address": "127.0.0.1", "port": free_port()},
            "key_file": "unused",
            **changes,
        }
    )


def cs_config(csmb_port: int) -> ControlSegmentConfig:
    return ControlSegmentConfig.model_validate(
        {
            "segment_id": 1,
            "ssmb": {"address": "127.0.0.1", "port": free_port()},
            "key_file": "unused",
            "data_flow_segments": [{"address": "127.0.0.1", "port": csmb_port}],
            "pools": [
                {
                    "name": "web",
                    "nodes": [{"name": "one", "address": to_text(NODE[0]), "port": NODE[1]}],
                }
            ],
            "virtual_servers": [
                {
                    "name": "www",
                    "address": to_text(VIP[0]),
                    "port": VIP[1],
                    "protocol": "tcp",
                    "pool": "web",
                }
            ],
        }
    )


async def until(condition: Callable[[], bool] | Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while True:
            met = condition()
            if met if isinstance(met, bool) else await met:
                return
            await asyncio.sleep(0.005)


@asynccontextmanager
async def planes(
    config: DataFlowSegmentConfig,
    target: MemoryTarget,
    datagram_filter: DatagramFilter | None,
    state_file: Path | None = None,
) -> AsyncIterator[DataFlowSegmentRuntime]:
    """A DFS and a CS that found each other."""
    dfs = DataFlowSegmentRuntime(
        config, target, key=KEY, datagram_filter=datagram_filter, state_file=state_file
    )
    cs = ControlSegmentRuntime(cs_config(config.csmb.port), KEY)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(dfs.run())
        await dfs.ready.wait()
        tasks.create_task(cs.run())

        def can_ask() -> bool:
            peer = dfs.agent.peers.active_of(1)
            return peer is not None and peer.may_ask and bool(target.virtual_servers())

        try:
            await until(can_ask)
            yield dfs
        finally:
            cs.stop()
            dfs.stop()


class Reporting(MemoryTarget):
    """While it is busy, flows end all the time of which the agent knows nothing."""

    descriptor = -1
    is_mistaken = False
    asked = 0

    def be_busy(self) -> None:
        os.eventfd_write(self.descriptor, 1)

    def rest(self) -> None:
        os.eventfd_read(self.descriptor)

    @property
    def is_busy(self) -> bool:
        return bool(select.select([self.descriptor], [], [], 0)[0])

    def late_fileno(self) -> int:
        return self.descriptor

    def events(self) -> Sequence[Event]:
        self.asked += 1
        if self.is_mistaken:
            raise ZeroDivisionError
        ended = FinishedMessages(77, int(MessageType.DELETE), encode_message(Delete(), 2))
        return [*super().events(), *([ended] if self.is_busy else [])]


def run(
    scenario: Callable[[DataFlowSegmentRuntime, Any], Awaitable[None]],
    datagram_filter: DatagramFilter | None = None,
    state_file: Path | None = None,
    kind: type[MemoryTarget] = MemoryTarget,
) -> None:
    async def main() -> None:
        target = kind(options(), asyncio.get_running_loop().time)
        async with planes(dfs_config(), target, datagram_filter, state_file) as dfs:
            await scenario(dfs, target)

    asyncio.run(main())


def syn(port: int) -> bytes:
    packet = tcp_packet((CLIENT[0], port), VIP, SYN, seq=1)
    return framed(packet, ROUTER_MAC, EXTERNAL_MAC)


def test_a_real_cs_places_a_flow_over_real_sockets() -> None:
    async def scenario(dfs: DataFlowSegmentRuntime, target: MemoryTarget) -> None:
        target.receive(EXTERNAL, syn(1000))
        await until(lambda: target.flow_count() == 1)
        ((interface, frame),) = target.transmitted()
        assert interface == INTERNAL
        assert ends_of(frame) == ((CLIENT[0], 1000), NODE, 6)

    run(scenario)


def test_the_cs_that_was_obeyed_is_known_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "dfs.state"
    epochs = []

    async def scenario(dfs: DataFlowSegmentRuntime, target: MemoryTarget) -> None:
        assert path.exists()  # before the CS is obeyed
        epochs.append(dfs.agent.peers.groups[1].claim)

    run(scenario, state_file=path)
    assert epochs == [Claim(1, 1)]
    assert StateFile(path, 256, lambda: 0.0).read().of(1) == Claim(1, 1)
    later = sections({1: Claim(8, 2)})  # another one took over meanwhile
    path.write_bytes(b"".join(encode(256, 1.0, later)))
    run(scenario, state_file=path)
    assert epochs[-1] == Claim(9, 1)


def test_datagrams_that_are_lost_or_doubled_cost_a_repeat_and_no_flow() -> None:
    dice = random.Random(5)

    def lossy(direction: str, octets: bytes) -> list[tuple[float, bytes]]:
        return [(dice.choice((0.0, 0.002)), octets) for _ in range(dice.choice((0, 1, 1, 1, 2)))]

    async def scenario(dfs: DataFlowSegmentRuntime, target: MemoryTarget) -> None:
        def all_installed() -> bool:
            if not len(dfs.agent.new_flows.pending):  # clients repeat what was given up
                for port in range(1000, 1030):
                    target.receive(EXTERNAL, syn(port))
            return target.flow_count() == 30

        await until(all_installed)
        assert dfs.agent.outbox.counters["query_retries"] > 0
        assert dfs.agent.outbox.counters["drop_replayed"] > 0

    run(scenario, lossy)


def test_the_operator_sees_flows_servers_messages_counters_status_and_a_trace() -> None:
    async def scenario(dfs: DataFlowSegmentRuntime, target: MemoryTarget) -> None:
        target.receive(EXTERNAL, syn(1000))
        await until(lambda: target.flow_count() == 1)
        client = f"{to_text(CLIENT[0])}:1000"
        flows: Any = await dfs.handle_admin("flows", {"client": client, "limit": 5})
        assert [flow.node for flow in flows] == ["10.1.1.2:8080"]
        assert await dfs.handle_admin("flows", {"client": "192.0.2.77"}) == []
        servers: Any = await dfs.handle_admin("virtual_servers", {})
        assert (servers[0].address, servers[0].active_cs) == ("203.0.113.10", 1)
        messages: Any = await dfs.handle_admin("messages", {})
        assert messages.sent["QUERY"] == 1
        assert messages.received["REPLY"] == 1
        counters: Any = await dfs.handle_admin("counters", {})
        assert counters["new_flows"].value == 1
        assert counters["up_calls"].value == 1  # the target's are there too
        status: Any = await dfs.handle_admin("status", {})
        assert status.groups[0].active.segment_id == 1
        asked: dict[str, object] = {"client": client, "vip": "203.0.113.10:80", "protocol": "tcp"}
        trace: Any = await dfs.handle_admin("trace", asked)
        assert [entry.what.split()[0] for entry in trace] == ["QUERY", "installed"]
        bad: list[tuple[str, dict[str, object]]] = [
            ("no such", {}),
            ("flows", {"limit": 0}),
            ("trace", {"client": "10.0.0.1"}),
            ("trace", {**asked, "protocol": "sctp"}),
        ]
        for command, arguments in bad:
            with pytest.raises(ValueError, match=r"."):
                await dfs.handle_admin(command, arguments)

    run(scenario)


@pytest.fixture
def reporting(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Reporting]]:
    monkeypatch.setattr(Reporting, "descriptor", os.eventfd(0, os.EFD_NONBLOCK))
    yield Reporting
    os.close(Reporting.descriptor)


def test_while_flows_come_and_go_datagrams_wake_nobody_up_and_are_read(
    reporting: type[Reporting],
) -> None:
    async def scenario(dfs: DataFlowSegmentRuntime, target: Reporting) -> None:
        assert dfs.is_listening
        target.be_busy()
        await until(lambda: not dfs.is_listening)
        counters = dfs.agent.outbox.counters
        receive, was_listening = dfs.agent.receive_datagram, []

        def noted(octets: bytes, endpoint: Endpoint, now: float) -> None:
            was_listening.append(dfs.is_listening)
            receive(octets, endpoint, now)

        dfs.agent.receive_datagram = noted  # type: ignore[method-assign]
        with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as stranger:
            for _ in range(DATAGRAMS_AT_ONCE + 3):
                stranger.sendto(b"?", (dfs.config.ssmb.address, dfs.config.ssmb.port))
        await until(lambda: counters["drop_unknown_source"] == DATAGRAMS_AT_ONCE + 3)
        # those that were not read at once wait for no other wake-up
        assert was_listening == [False] * DATAGRAMS_AT_ONCE + [True] * 3
        await until(lambda: not dfs.is_listening)  # again
        target.rest()
        await until(lambda: dfs.is_listening)

    run(scenario, kind=reporting)


def test_whoever_waits_for_an_answer_is_woken_up_by_it(reporting: type[Reporting]) -> None:
    lost = False

    def lossy(direction: str, octets: bytes) -> list[tuple[float, bytes]]:
        return [] if lost and direction == "in" else [(0.0, octets)]

    async def scenario(dfs: DataFlowSegmentRuntime, target: Reporting) -> None:
        nonlocal lost
        target.be_busy()
        await until(lambda: not dfs.is_listening)
        lost = True
        target.receive(EXTERNAL, syn(1000))
        await until(lambda: dfs.is_listening)
        assert dfs.agent.new_flows.pending.by_session
        lost = False
        await until(lambda: target.flow_count() == 1)
        await until(lambda: not dfs.is_listening)

    run(scenario, lossy, kind=reporting)


@pytest.mark.faults
def test_a_mistake_among_the_reports_keeps_no_datagram_waiting(reporting: type[Reporting]) -> None:
    async def scenario(dfs: DataFlowSegmentRuntime, target: Reporting) -> None:
        target.be_busy()
        await until(lambda: not dfs.is_listening)
        counters = dfs.agent.outbox.counters
        target.is_mistaken = True
        await until(lambda: counters[COUNTER] > 0)
        assert dfs.is_listening
        before = counters["drop_unknown_source"]
        with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as stranger:
            stranger.sendto(b"?", (dfs.config.ssmb.address, dfs.config.ssmb.port))
        await until(lambda: counters["drop_unknown_source"] > before)
        target.is_mistaken = False
        await until(lambda: not dfs.is_listening)

    run(scenario, kind=reporting)


def test_for_a_while_behind_a_packet_datagrams_wake_it_up(reporting: type[Reporting]) -> None:
    """The node's answer to what a CS carries comes when the node likes."""

    async def scenario(dfs: DataFlowSegmentRuntime, target: Reporting) -> None:
        target.receive(EXTERNAL, syn(1000))
        await until(lambda: target.flow_count() == 1)
        target.be_busy()
        await until(lambda: target.asked > 20)
        agent = dfs.agent
        assert agent.outbox.packet_at > 0
        heard = agent.outbox.packet_at + QUIET_S
        assert dfs.is_listening or asyncio.get_running_loop().time() >= heard
        await until(lambda: not dfs.is_listening)
        assert asyncio.get_running_loop().time() >= heard

    run(scenario, kind=reporting)


def test_no_reader_is_left_behind_a_run(reporting: type[Reporting]) -> None:
    """A connection that is just accepted lets another one's octets be handled meanwhile."""

    async def main() -> None:
        target = reporting(options(), asyncio.get_running_loop().time)
        config = dfs_config()
        dfs = DataFlowSegmentRuntime(config, target, key=KEY)
        place = config.csmb.address, config.csmb.port
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(dfs.run())
            await dfs.ready.wait()
            with (
                closing(socket.create_connection(place)) as one,
                closing(socket.create_connection(place)) as two,
            ):
                one.send(b"\1")
                await until(lambda: dfs.agent.outbox.counters["csmb_connections"] == 1)
                two.send(b"\1")
                await asyncio.sleep(0)
                one.send(b"\0")
                dfs.stop()
        assert not dfs.is_listening

    asyncio.run(main())


GRANTED: Final = VirtualServerKey(VIP[0], VIP[1], TCP)
FLOW: Final = FlowSignature(CLIENT[0], VIP[0], CLIENT[1], VIP[1], TCP, 0)
PACKET: Final = PacketIn(0, FLOW, SYN, EXTERNAL, b"", None)
WAITED: Final[list[Command]] = [InjectPacket(PACKET), TransmitPacket(b"")]


@pytest.mark.parametrize(
    ("commands", "is_first"),
    [
        ([BeginGrants(GRANTED, 1, 8, 1, inside=False)], True),
        ([EndGrants(GRANTED)], True),
        ([ExtendLease(1, 0.0)], True),
        ([RemoveFlow(FLOW)], True),
        ([*WAITED, EndGrants(GRANTED)], True),
        (WAITED, False),
    ],
)
def test_what_is_sent_tells_of_nothing_that_is_not_carried_out(
    commands: list[Command], is_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between both, the process may wait for a processor for as long as others want it."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as cs:
        cs.bind(("127.0.0.1", 0))
        cs.setblocking(False)
        had_come: list[bool] = []

        async def scenario(dfs: DataFlowSegmentRuntime) -> None:
            target = dfs.target

            def apply(applied: Iterable[Command]) -> None:
                if list(applied) == commands:
                    had_come.append(bool(select.select([cs], [], [], 0)[0]))

            monkeypatch.setattr(target, "apply", apply)
            dfs.agent.outbox.commands += commands
            dfs.agent.outbox.datagrams.append((cs.getsockname(), b"confirmed"))
            dfs.settle()

        run_with_dfs(scenario)
        assert had_come == [not is_first]
        assert cs.recv(100) == b"confirmed"


def test_a_port_in_use_is_an_os_error() -> None:
    async def main() -> None:
        config = dfs_config()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind(("127.0.0.1", config.ssmb.port))
            target = MemoryTarget(options(), asyncio.get_running_loop().time)
            with pytest.raises(OSError, match="in use"):
                await DataFlowSegmentRuntime(config, target, key=KEY).run()

    asyncio.run(main())


def test_the_memory_target_opens_from_a_configuration() -> None:
    target = open_target(dfs_config(external=["a"], internal=["b"], flow_capacity=9), print)
    assert target.flow_capacity == 9
    assert not target.adopted
    assert target.boot_id


@pytest.mark.parametrize("call", ["events", "sweep", "apply", "scan"])
def test_what_the_target_cannot_do_ends_the_run_with_its_words(
    call: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whichever callback of the loop it was."""

    def fails(*_: object, **__: object) -> None:
        raise TargetError(f"{call}: another agent has it")

    async def scenario(dfs: DataFlowSegmentRuntime, target: MemoryTarget) -> None:
        monkeypatch.setattr(target, call, fails)
        if call == "apply":
            target.receive(EXTERNAL, syn(1000))
        if call == "scan":
            with pytest.raises(ValueError, match="another agent has it"):
                await dfs.handle_admin("flows", {})
        await until(lambda: False)  # until the end of the run cancels this

    with pytest.raises(ExceptionGroup) as told:
        run(scenario)
    assert [str(error) for error in told.value.exceptions] == [f"{call}: another agent has it"]
    assert "Exception in callback" not in caplog.text


@pytest.mark.faults
def test_a_mistake_in_what_the_event_loop_calls_is_noted_and_the_dfs_goes_on() -> None:
    """Before, its timer was never set again: no sweep, no repeat, no keep-alive."""

    async def scenario(dfs: DataFlowSegmentRuntime, target: MemoryTarget) -> None:
        sweep, met = target.sweep, []

        def mistaken(limit: int, *, stats: bool) -> bool:
            met.append(limit)
            if len(met) == 1:
                raise ZeroDivisionError
            return sweep(limit, stats=stats)

        target.sweep = mistaken  # type: ignore[method-assign]
        await until(lambda: len(met) > 1)
        assert dfs.agent.outbox.counters[COUNTER] == 1
        target.receive(EXTERNAL, syn(1000))
        await until(lambda: target.flow_count() == 1)

    run(scenario)
