# SPDX-License-Identifier: Apache-2.0
"""The command as its user meets it: what it prints, and its documented exit codes."""

from __future__ import annotations

import asyncio
import errno
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import click
import pytest
from click.testing import CliRunner, Result

from admin.answers import ApiLinkStatus, ControlSegmentStatus, Identity, Node, TraceEntry
from admin.errors import AddressError, CommandError, ConfigError, MachineError, from_os_error
from admin.server import AdminServer, Ongoing
from splitplane.cli import cli
from splitplane.commands.show import parse_flow
from splitplane.commands.tables import amount, table_of
from support.segments.admin import flow


def node(name: str, address: str, **changes: Any) -> Node:
    fields = {
        "state": "enabled", "weight": 1, "connection_limit": 0, "active": 3, "total": 40,
        "connections_per_second": 1.5, "response_ms": None, "idle_ms": 5, "packets_in": 1,
        "bytes_in": 40, "packets_out": 0, "bytes_out": 0, **changes,
    }  # fmt: skip
    return Node(pool="web", name=name, address=address, port=80, **fields)


ANSWERED = [node("web1", "10.0.0.1"), node("web[2]", "fd00::1", state="draining")]
STORY = {
    "cs": [TraceEntry(time=10.002, ago_ms=1, what="chose web1: round robin")],
    "dfs": [
        TraceEntry(time=10.001, ago_ms=2, what="sent QUERY"),
        TraceEntry(time=10.003, ago_ms=0, what="installed"),
    ],
}


STATUS = ControlSegmentStatus(
    segment_id=1,
    boot_id=1,
    uptime_s=1.0,
    laboratory=False,
    flows=0,
    flow_capacity=1,
    group_id=1,
    active=True,
    native=False,
    sessions_without_flow=0,
    data_flow_segments=[],
)


class FakeSegment:
    """Answers like a segment, and remembers what it was asked."""

    def __init__(self, kind: Literal["cs", "dfs"], api: ApiLinkStatus | None = None) -> None:
        self.kind = kind
        self.api = api
        self.asked: list[tuple[str, dict[str, object]]] = []

    def handle_admin(self, command: str, arguments: dict[str, object]) -> object:
        self.asked.append((command, arguments))
        answers: dict[str, Any] = {
            "nodes": ANSWERED,
            "flows": [flow(data_flow_segment=1 if self.kind == "cs" else 2)],
            "trace": STORY[self.kind],
            "set_node": ANSWERED[0],
            "set_nodes": ANSWERED,
            "status": replace(STATUS, api=self.api),
        }
        if command == "reload":
            return self._reload()
        if command not in answers:
            raise ValueError(f"there is no {command!r}")
        return answers[command]

    def _reload(self) -> Ongoing:
        """It ends when somebody has heard what it does."""
        heard = asyncio.Event()

        def doing() -> str:
            heard.set()
            return "reading 100,000 nodes"

        async def read() -> None:
            await heard.wait()

        return Ongoing(read(), doing)


@contextmanager
def serving(folder: Path, *segments: FakeSegment) -> Iterator[list[str]]:
    """Serve fakes in a thread; gives the --socket options that name them."""
    ready, end = threading.Event(), threading.Event()
    options: list[str] = []

    async def serve() -> None:
        servers = []
        for number, segment in enumerate(segments, 1):
            path = folder / f"{segment.kind}-{number}.sock"
            options.extend(["--socket", str(path)])
            identity = Identity(role=segment.kind, segment_id=number, release="0", pid=1)
            servers.append(AdminServer(path, identity, segment.handle_admin))
            await servers[-1].__aenter__()
        ready.set()
        await asyncio.to_thread(end.wait)
        for server in servers:
            await server.__aexit__(None, None, None)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(60)
    try:
        yield options
    finally:
        end.set()
        thread.join()


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments, prog_name="splitplane")


def test_nodes_are_a_table(tmp_path: Path) -> None:
    with serving(tmp_path, FakeSegment("cs")) as sockets:
        result = run("show", "nodes", *sockets)
    assert result.exit_code == 0, result.output
    assert "web[2]" in result.output  # brackets in a name are no markup
    assert "draining" in result.output


def test_json_is_one_array_with_an_element_a_segment(tmp_path: Path) -> None:
    with serving(tmp_path, FakeSegment("cs"), FakeSegment("cs")) as sockets:
        result = run("show", "nodes", "--json", *sockets)
    answers = json.loads(result.output)
    assert [answer["segment"] for answer in answers] == ["cs-1", "cs-2"]
    assert answers[0]["data"] == [asdict(node) for node in ANSWERED]


def test_flows_come_from_the_cs_unless_asked_otherwise(tmp_path: Path) -> None:
    with serving(tmp_path, FakeSegment("dfs"), FakeSegment("cs")) as sockets:
        by_default = json.loads(run("show", "flows", "--json", *sockets).output)
        from_dfs = json.loads(run("show", "flows", "--json", "--from", "dfs", *sockets).output)
    assert by_default[0]["data"][0]["data_flow_segment"] == 1
    assert from_dfs[0]["data"][0]["data_flow_segment"] == 2


def test_a_trace_is_one_story_of_both_segments(tmp_path: Path) -> None:
    segments = FakeSegment("dfs"), FakeSegment("cs")
    with serving(tmp_path, *segments) as sockets:
        result = run("trace", "198.51.100.7:40000-203.0.113.10:80", *sockets)
    lines = [line.split() for line in result.output.splitlines()]
    assert [line[2] for line in lines] == ["dfs-1", "cs-2", "dfs-1"]
    assert [line[0] for line in lines] == ["0.000", "1.000", "2.000"]
    assert segments[1].asked[-1] == (
        "trace",
        {"client": "198.51.100.7:40000", "vip": "203.0.113.10:80", "protocol": "tcp"},
    )


def test_set_node_asks_the_cs(tmp_path: Path) -> None:
    segment = FakeSegment("cs")
    with serving(tmp_path, segment) as sockets:
        result = run("set-node", "web", "web1", "--weight", "0", *sockets)
    assert result.exit_code == 0, result.output
    assert segment.asked[0] == ("set_node", {"pool": "web", "node": "web1", "weight": 0})
    assert result.output == ""


def test_set_node_says_that_the_api_will_have_its_way(tmp_path: Path) -> None:
    link = ApiLinkStatus(url="https://api.example:8443", linked=True, linked_ms=5, reason="")
    with serving(tmp_path, FakeSegment("cs", link)) as sockets:
        result = run("set-node", "web", "web1", "--weight", "0", *sockets)
    assert result.exit_code == 0, result.output
    assert "cs-1 follows the API at https://api.example:8443: this holds until" in result.stderr
    assert "splitplane node web web1 sets it for good" in result.stderr


def test_set_node_asks_once_for_several_nodes(tmp_path: Path) -> None:
    segment = FakeSegment("cs")
    with serving(tmp_path, segment) as sockets:
        result = run("set-node", "web", "web1", "web2", "--state", "down", *sockets)
    assert result.exit_code == 0, result.output
    wanted = {"pool": "web", "nodes": ["web1", "web2"], "state": "down"}
    assert segment.asked[0] == ("set_nodes", wanted)


def test_set_node_without_a_change_is_wrong_use() -> None:
    result = run("set-node", "web", "web1")
    assert result.exit_code == 2
    assert "give --weight, --state, or both" in result.output


def test_reload_waits_and_says_for_what(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("admin.server.PROGRESS_S", 0.002)
    with serving(tmp_path, FakeSegment("cs")) as options:
        result = run("reload", *options)
    assert result.exit_code == 0, result.output
    assert "cs-1: reading 100,000 nodes ..." in result.stderr
    assert result.stdout == "cs-1: reloaded\n"


def test_a_segments_refusal_is_one_line_and_code_1(tmp_path: Path) -> None:
    with serving(tmp_path, FakeSegment("cs")) as sockets:
        result = run("show", "messages", *sockets)
    assert result.exit_code == 1
    assert result.output.count("\n") == 1
    assert result.output.endswith(": there is no 'messages'\n")


def test_no_segment_is_one_line_and_code_1(tmp_path: Path) -> None:
    result = run("show", "nodes", "--socket", str(tmp_path / "none.sock"))
    assert result.exit_code == 1
    assert "no segment answers here" in result.output


@pytest.mark.parametrize("segment", ["cs", "dfs"])
def test_a_wrong_configuration_is_code_3_and_starts_with_file_and_line(
    tmp_path: Path, segment: str
) -> None:
    config = tmp_path / "wrong.yaml"
    config.write_text("segment_id: many\ncolour: blue\n")
    result = run(segment, str(config))
    assert result.exit_code == 3
    assert f"{config}:1: segment_id: 'many' is not a whole number; give one" in result.output
    assert f"{config}:2: colour: unknown field" in result.output


def test_a_missing_configuration_is_code_3(tmp_path: Path) -> None:
    result = run("cs", str(tmp_path / "none.yaml"))
    assert result.exit_code == 3
    assert "there is no such file" in result.output


def test_unknown_commands_are_code_2() -> None:
    assert run("shwo").exit_code == 2
    assert run("trace", "one-two").exit_code == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("trace 1.2.3.4:65536-5.6.7.8:80", "is not a flow; write CLIENT:PORT-VIRTUAL:PORT"),
        ("trace 1.2.3.4:5-5.6.7.8:99999/udp", "is not a flow"),
        ("trace 1.2.3.256:5-5.6.7.8:80", "is not a flow"),
        ("trace [::g]:5-[::1]:80", "is not a flow"),
        ("show flows --client 1.2.3.4:65536", "expected an address or address:port, like"),
        ("show flows --client me", "expected an address or address:port, like"),
        ("show flows --limit 0", "is not in the range"),
        ("show flows --limit 1000001", "is not in the range"),
        ("set-node web web1 --weight 1001", "is not in the range 0<=x<=1000"),
        ("set-node web web1 --weight -1", "is not in the range"),
        ("lab up --method best", "'best' is not one of round_robin, "),
        ("lab up --name A/b", "'A/b' is not a valid laboratory name"),
        ("lab exec --name ../x client1 true", "is not a valid laboratory name"),
        ("lab clean --name ../x", "is not a valid laboratory name"),
        ("run --rate nan", "'nan' is not a finite number"),
        ("run --seconds inf", "'inf' is not a finite number"),
        ("run --rate 0.5", "is not in the range"),
        ("run --target p4", "'p4' is not one of bpf, "),
    ],
)
def test_an_argument_that_cannot_be_meant_is_wrong_use(words: str, says: str) -> None:
    """Before a segment is asked or a laboratory started."""
    result = run(*words.split())
    assert result.exit_code == 2, result.output
    assert says in " ".join(result.output.split())


def test_a_laboratory_that_is_not_there_is_called_that() -> None:
    result = run("lab", "exec", "--name", "nosuchlab", "client1", "true")
    assert result.exit_code == 1
    assert "no laboratory 'nosuchlab' is running" in result.output


def test_more_flows_than_a_segment_shows_are_wrong_use(tmp_path: Path) -> None:
    with serving(tmp_path, FakeSegment("cs"), segment := FakeSegment("dfs")) as sockets:
        assert run("show", "flows", "--limit", "10001", *sockets).exit_code == 2
        asked = run("show", "flows", "--limit", "10001", "--from", "dfs", *sockets)
    assert asked.exit_code == 0, asked.output
    assert segment.asked == [("flows", {"limit": 10001})]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed_for(shell: str) -> None:
    result = run("completion", shell)
    assert result.exit_code == 0
    assert "_SPLITPLANE_COMPLETE" in result.output


@pytest.mark.parametrize(
    ("text", "client", "vip", "protocol"),
    [
        ("1.2.3.4:5-6.7.8.9:80", "1.2.3.4:5", "6.7.8.9:80", "tcp"),
        ("1.2.3.4:5-6.7.8.9:53/udp", "1.2.3.4:5", "6.7.8.9:53", "udp"),
        ("[2001:db8::7]:5-[::1]:80/tcp", "[2001:db8::7]:5", "[::1]:80", "tcp"),
    ],
)
def test_a_flow_is_written_as_the_client_sees_it(
    text: str, client: str, vip: str, protocol: str
) -> None:
    assert parse_flow(text) == {"client": client, "vip": vip, "protocol": protocol}


@pytest.mark.parametrize("text", ["", "1.2.3.4-5.6.7.8", "::1:5-::2:80", "1.2.3.4:5-6.7.8.9:80/x"])
def test_what_is_no_flow_says_how_to_write_one(text: str) -> None:
    with pytest.raises(click.BadParameter, match="write CLIENT:PORT-VIRTUAL:PORT"):
        parse_flow(text)


@pytest.mark.parametrize(
    ("number", "kind", "code"),
    [
        (errno.EADDRINUSE, AddressError, 5),
        (errno.EADDRNOTAVAIL, AddressError, 5),
        (errno.EPERM, MachineError, 4),
        (errno.EIO, CommandError, 1),
    ],
)
def test_the_systems_refusals_have_their_codes(
    number: int, kind: type[CommandError], code: int
) -> None:
    error = from_os_error(OSError(number, "refused"), "SSMB socket")
    assert type(error) is kind
    assert error.exit_code == code
    assert "SSMB socket: refused" in str(error)


def test_a_configuration_error_keeps_every_problem() -> None:
    assert ConfigError(["a", "b"]).problems == ("a", "b")


def test_a_table_without_rows_says_so() -> None:
    assert [column.header for column in table_of([]).columns] == ["none"]


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (9_999, "9999"), (10_000, "10 K"), (123_456_789, "123 M")]
)
def test_an_amount_is_short(number: int, text: str) -> None:
    assert amount(number) == text


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_on_a_full_disk_ends_with_one_line(option: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "splitplane", option],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "splitplane: the system refused: No space left on device\n"
