# SPDX-License-Identifier: Apache-2.0
"""The screen of `splitplane run` fits the terminal that it is drawn for."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.console import Console

from admin.answers import Node
from splitplane.commands.live import Sample, draw
from splitplane.lab import Lab
from support.segments.admin import flow

FLOWS = 30
MESSAGES = ("QUERY", "APP_QUERY", "LEASE", "GRANT", "TAKEN", "DELETE", "HEARTBEAT")


def node(number: int) -> Node:
    return Node(
        pool=("web", "echo", "web6", "echo6")[number % 4],
        name=f"server{number % 3 + 1}",
        address="10.2.1.2",
        port=8080,
        weight=1,
        state="enabled",
        connection_limit=0,
        active=7,
        total=38,
        connections_per_second=5.0,
        response_ms=None,
        idle_ms=0,
        packets_in=0,
        bytes_in=0,
        packets_out=0,
        bytes_out=0,
    )


def sample(now: float) -> Sample:
    return Sample(
        now=now,
        tally={"connections": 47 * now, "requests": 158 * now, "octets": 3e7 * now, "failures": 0},
        by_server={"server1": 300},
        connect_ms=(10.62, 102.20),
        last_failure="",
        nodes=[*map(node, range(11)), replace(node(11), pool="beta", total=12345)],
        flows=[flow(client=f"10.1.1.2:{40000 + number}") for number in range(FLOWS)],
        flow_count=1000,
        messages={(name, "received"): int(47 * now) for name in MESSAGES},
    )


def lines_of(lines: int | None, width: int = 80) -> list[str]:
    console = Console(width=width, height=lines or 25)
    drawn = draw(Lab("lab"), sample(1.0), sample(2.0), 2.0, lines, width)
    with console.capture() as captured:
        console.print(drawn)
    return captured.get().splitlines()


@pytest.mark.parametrize("lines", [24, 30, 40, 80])
def test_the_screen_has_no_more_lines_than_the_terminal(lines: int) -> None:
    said = lines_of(lines)
    assert len(said) <= lines
    shown = sum("10.1.1.2:4" in line for line in said)
    assert shown == min(max(0, lines - 26), FLOWS)
    assert any("1000 flows" in line for line in said)


def test_the_figures_fit_into_one_line_of_80_characters() -> None:
    (line,) = [line for line in lines_of(40) if "connections/s" in line]
    assert line.rstrip().endswith("connect 10.62 ms (99 %: 102.20 ms)")


def test_no_column_is_cut_at_80_characters_and_no_message_either() -> None:
    said = lines_of(40)
    (at,) = [number for number, line in enumerate(said) if line.startswith("pool")]
    assert " ".join(said[at].split()) == "pool node state weight active total new/s share"
    rows = said[at + 2 : at + 14]
    assert not any("…" in row for row in rows)
    assert rows[-1].split()[0] == "beta"
    assert rows[-1].rstrip().endswith("100%")
    first, second, behind = (line.rstrip() for line in said[at + 14 : at + 17])
    assert first.startswith("SSMB  329 messages/s  658 in total  ▸ ")
    assert behind == ""
    shown = f"{first} {second}".split("▸ ")[1:]
    assert {item.split()[0] for item in shown} == set(MESSAGES)
    assert {item.split()[1] for item in shown} == {"47"}


def test_where_the_output_has_no_height_some_flows_are_shown() -> None:
    assert sum("10.1.1.2:4" in line for line in lines_of(None)) == 3
