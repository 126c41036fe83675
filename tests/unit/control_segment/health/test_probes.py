# SPDX-License-Identifier: Apache-2.0
"""Each kind of probe against a real server on the loopback."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from control_segment.health.config import MonitorConfig
from control_segment.health.machine import Order, Said
from control_segment.health.targets import Target
from control_segment.runtime.probes.runner import Runner
from support import certificates
from support.ports import free_port

HOST = "127.0.0.1"
UNKNOWN = Said()
Streams: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def monitor(kind: str, **changes: Any) -> MonitorConfig:
    """One that needs a single probe to be sure, and is soon there again."""
    times = {"rise": 1, "fall": 1, "interval_ms": 20, "timeout_ms": 10_000}
    return MonitorConfig.model_validate({"name": "m", "kind": kind, **times, **changes})


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(story())


async def said_of(
    configured: MonitorConfig,
    port: int,
    *,
    address: str = HOST,
    scripts: Path | None = None,
    before: Said = UNKNOWN,
    wanted: Callable[[Said], bool] = lambda said: True,
) -> Said:
    """What is said of a target, as soon as it is other than before and what is wanted."""
    answer: asyncio.Future[Said] = asyncio.get_running_loop().create_future()

    def tell(target: Target, said: Said) -> None:
        if not answer.done() and wanted(said):
            answer.set_result(said)

    async with asyncio.TaskGroup() as tasks:
        runner = Runner(tasks, tell, scripts=scripts)
        probed = tasks.create_task(_until(answer))
        runner.schedule.add(
            Target("m", address, port), configured, before, asyncio.get_running_loop().time()
        )
        runner.go_on()
        said = await probed
        runner.schedule.remove(Target("m", address, port))
        runner.close()
    return said


async def _until(answer: asyncio.Future[Said]) -> Said:
    return await asyncio.wait_for(answer, 10)


@contextlib.asynccontextmanager
async def serving(handle: Streams, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A TCP server; its port."""
    handling: set[asyncio.Task[None]] = set()

    async def noted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handling.add(task)
        await handle(reader, writer)

    server = await asyncio.start_server(noted, HOST, 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()
        if handling:
            await asyncio.wait(handling)


def answering(*octets: bytes) -> Streams:
    """Reads what is asked, and says this, piece by piece."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            for piece in octets:
                writer.write(piece)
                await writer.drain()
        writer.close()

    return handle


async def saying_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        await reader.read()
    writer.close()


# --- tcp -----------------------------------------------------------------------------------------


def test_a_node_that_accepts_connections_is_up_and_its_server_is_not_bothered() -> None:
    met: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            met.append(await reader.read())
        writer.close()

    async def story() -> None:
        async with serving(handle) as port:
            assert await said_of(monitor("tcp"), port) == Said("up")

    run(story)
    assert not any(met)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_node_that_refuses_connections_is_down(address: str) -> None:
    async def story() -> None:
        said = await said_of(monitor("tcp"), free_port(), address=address)
        assert said == Said("down", reason="connection refused")

    run(story)


def test_a_node_that_does_not_answer_a_connection_is_down() -> None:
    with socket.socket() as full:
        full.bind((HOST, 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:  # so that its queue is full
            each.setblocking(False)
            each.connect_ex((HOST, port))

        async def story() -> None:
            said = await said_of(monitor("tcp", timeout_ms=200), port)
            assert said == Said("down", reason="no answer")

        run(story)
        for each in waiting:
            each.close()


# --- http ----------------------------------------------------------------------------------------

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nready"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nrea\r\n2\r\ndy\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "section", "reason"),
    [
        ([OK], {}, ""),
        ([OK[:30], OK[30:]], {"expect_body": "^read"}, ""),
        ([CHUNKED], {"expect_body": "ready"}, ""),
        ([b"HTTP/1.0 200 OK\r\n\r\nready"], {"expect_body": "ready"}, ""),
        ([b"HTTP/1.1 100 Go on\r\n\r\n", OK], {}, ""),
        ([b"HTTP/1.1 302 Found\r\ncontent-length: 0\r\n\r\n"], {}, ""),
        ([OK], {"method": "HEAD"}, ""),
        ([b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n"], {}, "it answers status 503"),
        ([OK], {"expect_status": [204]}, "it answers status 200"),
        ([OK], {"expect_body": "sorry"}, "the expected text is not in the answer"),
        ([b"SSH-2.0-x\r\n\r\n"], {}, "what it answers is no HTTP"),
        ([b""], {}, "what it answers is no HTTP"),
    ],
)
def test_http_is_up_if_the_answer_is_as_expected(
    answer: list[bytes], section: dict[str, Any], reason: str
) -> None:
    async def story() -> None:
        async with serving(answering(*answer)) as port:
            said = await said_of(monitor("http", http=section), port)
            assert said.health == ("down" if reason else "up")
            assert said.reason.startswith(reason)

    run(story)


def test_http_looks_no_further_than_16_kb() -> None:
    async def story() -> None:
        body = b"x" * 20_000 + b"ready"
        answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
        async with serving(answering(answer)) as port:
            said = await said_of(monitor("http", http={"expect_body": "ready"}), port)
            assert said.reason == "the expected text is not in the answer"

    run(story)


def test_http_asks_what_the_file_says() -> None:
    asked: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(OK)
        writer.close()

    async def story() -> None:
        section = {"method": "OPTIONS", "path": "/a?b", "host": "www", "headers": {"X-A": "b"}}
        async with serving(handle) as port:
            await said_of(monitor("http", http=section), port)

    run(story)
    assert asked[0].startswith(b"OPTIONS /a?b HTTP/1.1\r\n")
    assert b"\r\nhost: www\r\n" in asked[0].lower()
    assert b"\r\nx-a: b\r\n" in asked[0].lower()


# --- TLS -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server_context(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    folder = tmp_path_factory.mktemp("short")
    return certificates.server_context(folder, name="DNS:node.test", days=10)


@pytest.fixture(scope="module")
def authority(server_context: ssl.SSLContext, tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.getbasetemp() / "short0" / "ca.pem")


@pytest.mark.parametrize(
    ("tls", "reason"),
    [
        ({}, ""),
        ({"verify": True, "server_name": "node.test", "ca_file": "own"}, ""),
        ({"verify": True, "ca_file": "own"}, ""),
        ({"verify": True, "server_name": "other.test", "ca_file": "own"}, "its certificate is ref"),
        ({"verify": True}, "its certificate is refused: self-signed certificate"),
    ],
)
def test_https_looks_at_the_certificate_if_it_is_told_to(
    server_context: ssl.SSLContext, authority: str, tls: dict[str, Any], reason: str
) -> None:
    if "ca_file" in tls:
        tls = {**tls, "ca_file": authority}

    async def story() -> None:
        async with serving(answering(OK), server_context) as port:
            said = await said_of(monitor("https", tls=tls), port)
            assert said.health == ("down" if reason else "up")
            assert said.reason.startswith(reason)

    run(story)


@pytest.mark.parametrize(
    ("section", "health", "says"),
    [
        ({"warn_days": 5}, "up", False),
        ({"warn_days": 14}, "up", True),
        ({"warn_days": 14, "down_days": 3}, "up", True),
        ({"warn_days": 14, "down_days": 12}, "down", True),
    ],
)
def test_a_certificate_that_ends_soon_is_said_and_may_take_the_node_down(
    server_context: ssl.SSLContext, section: dict[str, int], health: str, says: bool
) -> None:
    async def story() -> None:
        async with serving(saying_nothing, server_context) as port:
            said = await said_of(monitor("certificate", certificate=section), port)
            text = "its certificate is valid for 9 more days"
            assert said.health == health
            assert said.warning == (text if says else "")

    run(story)


def test_a_certificate_that_cannot_be_seen_takes_no_node_down_unless_it_may() -> None:
    async def story() -> None:
        port = free_port()
        said = await said_of(monitor("certificate"), port)
        assert said.health == "unknown"
        assert said.warning == "its certificate cannot be seen: connection refused"
        strict = monitor("certificate", certificate={"down_days": 1})
        assert await said_of(strict, port) == Said("down", reason="connection refused")

    run(story)


# --- udp, icmp -----------------------------------------------------------------------------------


class _Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, octets: bytes, address: Any) -> None:
        self._transport.sendto(b"you said " + octets, address)


@pytest.mark.parametrize(
    ("section", "reason"),
    [
        ({"send": "hello"}, ""),
        ({"send": "hello", "expect": "said hel+o$"}, ""),
        ({"send_hex": "00ff", "expect": r"\x00\xff"}, ""),
        ({"send": "a", "expect": "^b"}, "the reply is not the expected one"),
    ],
)
def test_udp_is_up_if_the_reply_is_as_expected(section: dict[str, str], reason: str) -> None:
    async def story() -> None:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(_Echo, (HOST, 0))
        port = transport.get_extra_info("sockname")[1]
        said = await said_of(monitor("udp", udp=section), port)
        assert said == (Said("down", reason=reason) if reason else Said("up"))
        transport.close()

    run(story)


def test_udp_is_down_where_nothing_listens_or_nothing_answers() -> None:
    async def story() -> None:
        asks = monitor("udp", udp={"send": "a"}, timeout_ms=200)
        assert (await said_of(asks, free_port())).reason == "connection refused"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
            silent.bind((HOST, 0))
            assert (await said_of(asks, silent.getsockname()[1])).reason == "no answer"

    run(story)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_icmp_is_up_if_the_node_answers_an_echo(address: str) -> None:
    async def story() -> None:
        said = await said_of(monitor("icmp"), 0, address=address)
        if said.warning:  # this process may not
            assert "net.ipv4.ping_group_range" in said.warning
        else:
            assert said == Said("up")

    run(story)


# --- agent ---------------------------------------------------------------------------------------


def agent_that_says(line: bytes) -> Streams:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(line)
        writer.close()

    return handle


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"up\n", Said("up")),
        (b"up 75%\r\n", Said("up", percent=75)),
        (b"75%\n", Said("unknown", percent=75)),
        (b"up,drain\n", Said("up", order=Order.DRAIN)),
        (b"ready up maint", Said("up", order=Order.MAINTENANCE)),
        (b"down\n", Said("down", reason="its agent says so")),
        (b"stopped #for lunch\n", Said("down", reason="its agent says so: for lunch")),
        (b"UP\nDOWN\n", Said("up")),
        (
            b"sideways\n",
            Said(warning="its agent says 'sideways', which means nothing"),
        ),
        (b"", Said(warning="its agent says nothing")),
    ],
)
def test_an_agent_is_understood_and_believed_at_once(line: bytes, expected: Said) -> None:
    async def story() -> None:
        async with serving(agent_that_says(line)) as port:
            assert await said_of(monitor("agent", port=port, rise=9, fall=9), port) == expected

    run(story)


def test_an_agent_that_is_silent_changes_nothing_but_is_mentioned() -> None:
    async def story() -> None:
        port = free_port()
        said = await said_of(monitor("agent", port=port), port, before=Said("up", percent=50))
        why = "its agent does not answer: connection refused"
        assert said == Said("up", percent=50, warning=why)

    run(story)


# --- script --------------------------------------------------------------------------------------


def script(folder: Path, text: str) -> None:
    path = folder / "check"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


RUNS_CHECK = {"name": "check", "arguments": ["one two"], "environment": {"COLOUR": "blue"}}


def test_a_script_is_told_what_it_looks_at(tmp_path: Path) -> None:
    script(tmp_path, f'echo "$1 $COLOUR $NODE_ADDRESS $NODE_PORT $MONITOR" >{tmp_path}/said')

    async def story() -> None:
        said = await said_of(monitor("script", script=RUNS_CHECK), 80, scripts=tmp_path)
        assert said == Said("up")

    run(story)
    assert (tmp_path / "said").read_text() == "one two blue 127.0.0.1 80 m\n"


def test_a_script_that_fails_says_why(tmp_path: Path) -> None:
    script(tmp_path, "echo 'the database is away'; echo more; exit 3")

    async def story() -> None:
        said = await said_of(monitor("script", script=RUNS_CHECK), 80, scripts=tmp_path)
        assert said == Said("down", reason="check exits with 3: the database is away")

    run(story)


def is_running(pid: int) -> bool:
    """Whether it is there, and no zombie that its parent has not heard of yet."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def test_a_script_that_takes_too_long_is_killed_with_what_it_started(tmp_path: Path) -> None:
    script(tmp_path, f"sleep 1000 & echo $! >{tmp_path}/pid; wait")

    async def story() -> None:
        configured = monitor("script", script=RUNS_CHECK, timeout_ms=500, interval_ms=60_000)
        said = await said_of(configured, 80, scripts=tmp_path)
        while not (tmp_path / "pid").exists():  # killed before a busy machine had it begin
            said = await said_of(configured, 80, scripts=tmp_path)
        assert said == Said("down", reason="no answer")

    run(story)
    pid = int((tmp_path / "pid").read_text())
    while is_running(pid):
        time.sleep(0.01)


def test_a_script_that_is_not_there_takes_no_node_down(tmp_path: Path) -> None:
    async def story() -> None:
        said = await said_of(monitor("script", script=RUNS_CHECK), 80, scripts=tmp_path)
        assert said.health == "unknown"
        assert said.warning == f"{tmp_path}/check cannot be run: No such file or directory"

    run(story)
