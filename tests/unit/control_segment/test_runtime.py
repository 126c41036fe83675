# SPDX-License-Identifier: Apache-2.0
"""The runtime with real sockets on the loopback: against the DFS's own runtime, and with losses."""

from __future__ import annotations

import asyncio
import logging
import socket
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from admin.answers import ControlSegmentStatus, DataFlowSegmentPeer
from admin.faults import COUNTER
from admin.native import SWITCH
from control_segment.config import ControlSegmentConfig, NodeConfig, PoolConfig
from control_segment.runtime import memory, native
from control_segment.runtime.runtime import ControlSegmentRuntime
from control_segment.runtime.streams import Stream
from data_flow_segment.config.segment import DataFlowSegmentConfig
from data_flow_segment.runtime.segment import DataFlowSegmentRuntime
from data_flow_segment.targets.memory import MemoryTarget
from data_flow_segment.targets.registry import open_target
from ssmb.addresses import from_text, to_text
from ssmb.messages import Stats
from ssmb.seal import Sealer
from support.octets.frames import SYN, framed, tcp_packet
from support.ports import free_port
from support.require import require
from support.segments import agent_rig
from support.segments.dfs_double import CLIENT, CONFIG, changed_server

KEY = b"0123456789abcdef"


@pytest.fixture(autouse=True, params=["native", "python"])
def implementation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every test of this file runs with the native part, where it is compiled, and without it."""
    if request.param == "python":
        monkeypatch.setenv(SWITCH, "0")
    else:
        require("dataplane", None if native.ARTIFACT.exists() else "run make bpf")
    return str(request.param)


def cs_config(
    port: int, dfs_port: int, *, host: str = "127.0.0.1", **changes: Any
) -> ControlSegmentConfig:
    return ControlSegmentConfig.model_validate(
        {
            **CONFIG,
            "ssmb": {"address": host, "port": port},
            "data_flow_segments": [{"address": host, "port": dfs_port}],
            "settings": {"hello_interval_s": 1},
            **changes,
        }
    )


def dfs_runtime(
    port: int,
    key: bytes = KEY,
    host: str = "127.0.0.1",
    *,
    segment_id: int = 256,
    target: MemoryTarget | None = None,
    **options: Any,
) -> DataFlowSegmentRuntime:
    config = DataFlowSegmentConfig.model_validate(
        {
            "segment_id": segment_id,
            "target": "memory",
            "external": ["ext0"],
            "internal": ["int0"],
            "csmb": {"address": host, "port": port},
            "ssmb": {"address": host, "port": port},
            "key_file": "unused",
            "flow_capacity": 1024,
        }
    )
    opened = open_target(config, print) if target is None else target
    return DataFlowSegmentRuntime(config, opened, key=key, **options)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, a minute at most."""
    for _ in range(12_000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise TimeoutError


def status(runtime: ControlSegmentRuntime) -> DataFlowSegmentPeer:
    answer = runtime.handle_admin("status", {})
    assert isinstance(answer, ControlSegmentStatus)
    return answer.data_flow_segments[0]


def is_served(runtime: ControlSegmentRuntime) -> bool:
    dfs = status(runtime)
    return dfs.ssmb_authenticated and dfs.sync is not None and not dfs.sync.running


async def together(
    story: Callable[[], Awaitable[None]],
    *runtimes: ControlSegmentRuntime | DataFlowSegmentRuntime,
) -> None:
    """Run a story beside its segments, and stop them."""
    async with asyncio.TaskGroup() as tasks:
        for runtime in runtimes:
            tasks.create_task(runtime.run())
        await asyncio.sleep(0)
        try:
            await story()
        finally:
            for runtime in runtimes:
                runtime.stop()


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(story())


def test_status_and_log_say_what_handles_datagrams(
    implementation: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        cs = ControlSegmentRuntime(cs_config(free_port(), free_port()), KEY)

        async def story() -> None:
            await until(lambda: cs.is_running)
            answer = cs.handle_admin("status", {})
            assert isinstance(answer, ControlSegmentStatus)
            assert answer.native == (implementation == "native")

        with caplog.at_level(logging.INFO):
            await together(story, cs)

    run(test)
    said = "native code" if implementation == "native" else "Python alone: SPLITPLANE_NATIVE=0"
    assert said in caplog.text


def test_a_cs_finds_its_dfs_and_tells_it_the_virtual_servers_also_after_a_reload() -> None:
    async def test() -> None:
        port, dfs_port = free_port(), free_port()
        ready: list[bool] = []
        cs = ControlSegmentRuntime(
            cs_config(port, dfs_port), KEY, on_ready=lambda: ready.append(True)
        )
        dfs = dfs_runtime(dfs_port)

        async def story() -> None:
            await until(lambda: bool(ready) and is_served(cs))
            listed = await dfs.handle_admin("virtual_servers", {})
            assert isinstance(listed, list)
            assert len(listed) == 2
            await cs.apply_config(cs_config(port, dfs_port, virtual_servers=[]))
            for _ in range(2000):
                if not await dfs.handle_admin("virtual_servers", {}):
                    return
                await asyncio.sleep(0.005)
            raise TimeoutError

        await together(story, dfs, cs)

    run(test)


def test_a_small_change_leaves_to_be_collected_what_there_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where one comes every second, nothing would ever be collected otherwise."""

    class Thing:
        itself: Thing

    tend = memory.tend
    monkeypatch.setattr(memory, "tend", lambda: None)  # not by the CS's own timer

    async def test() -> None:
        port, dfs_port = free_port(), free_port()
        cs = ControlSegmentRuntime(cs_config(port, dfs_port), KEY)

        async def story() -> None:
            await until(lambda: cs.is_running)
            tend()
            thing = Thing()
            thing.itself = thing
            gone = weakref.ref(thing)
            del thing
            assert gone() is not None
            await cs.apply_config(cs_config(port, dfs_port, virtual_servers=[]))
            tend()
            assert gone() is None

        await together(story, cs)

    run(test)


def test_how_long_answers_take_is_counted() -> None:
    async def test() -> None:
        port, dfs_port = free_port(), free_port()
        target = MemoryTarget(agent_rig.options(), asyncio.get_running_loop().time)
        address, at = to_text(agent_rig.VIP[0]), agent_rig.VIP[1]
        cs = ControlSegmentRuntime(
            cs_config(port, dfs_port, virtual_servers=changed_server(address=address, port=at)[:1]),
            KEY,
        )

        async def story() -> None:
            await until(lambda: cs.is_running and is_served(cs) and bool(target.virtual_servers()))
            assert sum(cs.decisions.counts) == 0
            packet = tcp_packet((agent_rig.CLIENT[0], 1000), agent_rig.VIP, SYN, seq=1)
            frame = framed(packet, agent_rig.ROUTER_MAC, agent_rig.EXTERNAL_MAC)
            target.receive(agent_rig.EXTERNAL, frame)
            await until(lambda: sum(cs.decisions.counts) > 0)
            assert cs.decisions.total > 0

        await together(story, dfs_runtime(dfs_port, target=target), cs)

    run(test)


def test_both_buses_run_over_ipv6() -> None:
    async def test() -> None:
        port, dfs_port = free_port(), free_port()
        cs = ControlSegmentRuntime(cs_config(port, dfs_port, host="::1"), KEY)

        async def story() -> None:
            await until(lambda: cs.is_running and is_served(cs))

        await together(story, dfs_runtime(dfs_port, host="::1"), cs)

    run(test)


def test_lost_doubled_and_late_datagrams_only_delay_the_beginning() -> None:
    async def test() -> None:
        port, dfs_port = free_port(), free_port()
        counter = 0

        def bad_path(direction: str, octets: bytes) -> list[tuple[float, bytes]]:
            nonlocal counter
            counter += 1
            kinds: tuple[list[tuple[float, bytes]], ...]
            kinds = ([], [(0.0, octets), (0.0, octets)], [(0.02, octets)], [(0.0, octets)])
            return kinds[counter % len(kinds)]

        cs = ControlSegmentRuntime(cs_config(port, dfs_port), KEY, datagram_filter=bad_path)

        async def story() -> None:
            await until(lambda: cs.is_running and is_served(cs))

        await together(story, dfs_runtime(dfs_port), cs)
        assert counter > 3

    run(test)


def test_a_wrong_key_is_said_and_tried_again() -> None:
    async def test() -> None:
        port, dfs_port = free_port(), free_port()
        cs = ControlSegmentRuntime(cs_config(port, dfs_port), KEY)

        async def story() -> None:
            await until(lambda: cs.is_running and "not connected yet" not in status(cs).reason)
            await until(lambda: bool(status(cs).reason))
            assert not status(cs).ready

        await together(story, dfs_runtime(dfs_port, key=b"another key, 16+"), cs)

    run(test)


def test_without_a_dfs_the_reason_is_shown() -> None:
    async def test() -> None:
        cs = ControlSegmentRuntime(cs_config(free_port(), free_port()), KEY)

        async def story() -> None:
            await until(lambda: cs.is_running and "refused" in status(cs).reason)

        await together(story, cs)

    run(test)


def test_a_port_in_use_is_an_os_error() -> None:
    async def test() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind(("127.0.0.1", 0))
            cs = ControlSegmentRuntime(cs_config(taken.getsockname()[1], 1), KEY)
            with pytest.raises(OSError, match="in use"):
                await cs.run()

    run(test)


def test_a_dfs_that_goes_and_comes_back_is_found_again() -> None:
    async def test() -> None:
        port, dfs_port = free_port(), free_port()
        cs = ControlSegmentRuntime(cs_config(port, dfs_port), KEY)

        async def serve() -> None:
            await until(lambda: cs.is_running and is_served(cs))

        async def story() -> None:
            await together(serve, dfs_runtime(dfs_port))
            await until(lambda: not status(cs).ready)
            await together(serve, dfs_runtime(dfs_port))

        await together(story, cs)

    run(test)


def test_response_times_are_measured_for_the_method_that_wants_them() -> None:
    async def test() -> None:
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
        node_port = server.sockets[0].getsockname()[1]
        # no file may name such nodes, but every machine has the address
        nodes = tuple(
            NodeConfig.model_construct(name=name, address="127.0.0.1", port=port)
            for name, port in (("here", node_port), ("nobody", free_port()))
        )
        pool = PoolConfig(name="web", method="fastest_response").model_copy(update={"nodes": nodes})
        config = cs_config(free_port(), free_port()).model_copy(update={"pools": (pool,)})
        cs = ControlSegmentRuntime(config, KEY)

        def measured() -> dict[str, Any]:
            answer = cs.handle_admin("nodes", {})
            assert isinstance(answer, list)
            return {node.name: node.response_ms for node in answer}

        async def story() -> None:
            await until(lambda: cs.is_running and measured()["here"] is not None)
            assert measured()["nobody"] is None

        async with server:
            await together(story, cs)

    run(test)


@pytest.mark.faults
def test_a_running_cs_outlives_a_mistake_in_the_stream_of_one_dfs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Over real sockets: before, the exception of one stream ended all of them and the process."""
    exchange = Stream._exchange

    async def mistaken(stream: Stream, *streams: Any) -> bytes | None:
        if stream._index == 0:
            raise ZeroDivisionError
        return await exchange(stream, *streams)

    async def test() -> None:
        port, bad_port, good_port = free_port(), free_port(), free_port()
        listed = [{"address": "127.0.0.1", "port": each} for each in (bad_port, good_port)]
        cs = ControlSegmentRuntime(cs_config(port, bad_port, data_flow_segments=listed), KEY)
        bad, good = dfs_runtime(bad_port), dfs_runtime(good_port, segment_id=257)

        async def story() -> None:
            def good_one_is_served() -> bool:
                answer: Any = cs.handle_admin("status", {})
                return bool(answer.data_flow_segments[1].ssmb_authenticated)

            await until(lambda: cs.is_running and good_one_is_served())
            await until(lambda: cs.segment.statistics.drops[COUNTER] == 1)
            assert status(cs).reason == "internal error, see the log"

        await together(story, bad, good, cs)

    monkeypatch.setattr(Stream, "_exchange", mistaken)
    run(test)


def test_of_two_dfss_with_one_segment_id_the_second_is_refused_in_both_logs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A cloned configuration file, over real sockets; the first one is served all the while."""
    caplog.set_level("INFO")

    async def test() -> None:
        port, first_port, second_port = free_port(), free_port(), free_port()
        listed = [{"address": "127.0.0.1", "port": each} for each in (first_port, second_port)]
        cs = ControlSegmentRuntime(cs_config(port, first_port, data_flow_segments=listed), KEY)
        first, second = dfs_runtime(first_port), dfs_runtime(second_port)

        def said(logger: str, text: str) -> bool:
            records = (record for record in caplog.records if record.name == logger)
            return any(text in record.getMessage() for record in records)

        async def story() -> None:
            await until(lambda: cs.is_running and is_served(cs))
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(second.run())
                try:
                    wrong = f"refused: its segment_id 256 is that of 127.0.0.1 port {first_port}"
                    await until(lambda: said("control_segment", wrong))
                    await until(lambda: said("splitplane.dfs", "DUPID (another segment with this"))
                finally:
                    second.stop()
            assert is_served(cs)
            assert cs.segment.peers[256].boot_id == first.target.boot_id

        await together(story, first, cs)

    run(test)


def test_a_waiting_cs_takes_over_from_the_active_one_over_real_sockets() -> None:
    """Both are configured as active; the DFS has the virtual servers of one of them at a time."""

    async def test() -> None:
        dfs_port = free_port()
        first = ControlSegmentRuntime(cs_config(free_port(), dfs_port), KEY)
        servers = changed_server(port=8080)
        config = cs_config(free_port(), dfs_port, segment_id=2, virtual_servers=servers)
        second, dfs = ControlSegmentRuntime(config, KEY), dfs_runtime(dfs_port)

        def ports() -> set[int | None]:
            return {entry.key.virt_port for entry in dfs.target.virtual_servers()}

        async def story() -> None:
            await until(lambda: first.is_running and status(first).active and 80 in ports())
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(second.run())
                await until(lambda: second.is_running and is_served(second))
                assert (status(second).group_role, status(second).active) == ("standby", False)
                assert 8080 not in ports()
                first.stop()
                await until(lambda: status(second).active)
                assert status(second).role_epoch == 2
                await until(lambda: 8080 in ports() and 80 not in ports())
                second.stop()

        await together(story, dfs, first)

    run(test)


def test_both_segments_log_the_receive_buffer_that_they_got(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And as a warning if it is less than was asked for."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("admin.receive_buffer.size_of", lambda _: 212_992)

    async def test() -> None:
        port, dfs_port = free_port(), free_port()
        cs = ControlSegmentRuntime(cs_config(port, dfs_port), KEY)
        dfs = dfs_runtime(dfs_port)

        async def story() -> None:
            await until(lambda: cs.is_running and is_served(cs))

        await together(story, dfs, cs)

    run(test)
    lines = [record for record in caplog.records if "receive buffer" in record.message]
    assert {record.name for record in lines} == {"control_segment", "splitplane.dfs"}
    assert all("has 212,992 octets" in record.message for record in lines)
    assert all(record.levelno == logging.WARNING for record in lines)


def test_a_cs_that_hears_wrong_seals_only_connects_again_by_itself() -> None:
    """Over real sockets: the connection is closed outside its stream's turn."""

    async def test() -> None:
        port, dfs_port = free_port(), free_port()
        cs = ControlSegmentRuntime(cs_config(port, dfs_port), KEY)
        dfs = dfs_runtime(dfs_port)

        async def story() -> None:
            await until(lambda: cs.is_running and is_served(cs))
            (peer,) = dfs.agent.peers
            peer.link._sealer = Sealer(b"keys of nobody..")
            peer.link.send(Stats())
            dfs.settle()
            await until(lambda: not status(cs).ready)
            await until(lambda: is_served(cs))
            assert cs.segment.statistics.drops["bad_seal"] > 0

        await together(story, dfs, cs)

    run(test)


def test_what_persistence_remembers_outlives_the_process(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    persistence = {"kind": "source_address", "timeout_s": 300}
    config = cs_config(
        free_port(), free_port(), virtual_servers=changed_server(persistence=persistence)
    )

    def remembered(cs: ControlSegmentRuntime) -> list[int | None]:
        answer: Any = cs.handle_admin("virtual_servers", {})
        return [server.persistence for server in answer]

    async def test() -> None:
        first = ControlSegmentRuntime(config, KEY, state_file=tmp_path / "cs.state")

        async def begins() -> None:
            await until(lambda: first.is_running)
            (table,) = first.segment.model.persistence.by_name.values()
            now = asyncio.get_running_loop().time()
            table.remember(CLIENT, (from_text("10.1.1.3"), 8080), now)

        await together(begins, first)
        second = ControlSegmentRuntime(config, KEY, state_file=tmp_path / "cs.state")

        async def goes_on() -> None:
            await until(lambda: second.is_running)
            assert remembered(second) == [1, None]

        await together(goes_on, second)
        assert "no state_file" not in caplog.text
        third = ControlSegmentRuntime(config, KEY)

        async def knows_nothing() -> None:
            await until(lambda: third.is_running)
            assert remembered(third) == [0, None]

        await together(knows_nothing, third)
        assert "no state_file: what persistence remembers is lost" in caplog.text

    run(test)
