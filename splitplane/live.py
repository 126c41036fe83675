# SPDX-License-Identifier: Apache-2.0
"""The screen of `splitplane run`: what a laboratory does, drawn anew each second.

`Sampler` asks the segments and keeps what is needed for rates; `draw` turns a sample into something
that rich prints.  Neither knows a terminal.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from splitplane.commands.shapes import flow_row, message_rows
from splitplane.commands.tables import amount
from splitplane.errors import CommandError
from splitplane.lab import Lab
from splitplane.lab.load import Tally

FLOWS_SHOWN: Final = 8
_BAR_WIDTH: Final = 24


@dataclass(frozen=True, slots=True)
class Sample:
    """What was seen at one time."""

    now: float
    tally: Mapping[str, float]
    by_server: Mapping[str, int]
    connect_ms: tuple[float, float]  # median, 99th percentile
    last_failure: str
    nodes: Sequence[Mapping[str, Any]]
    flows: Sequence[Mapping[str, Any]]
    flow_count: int
    # (message, direction as the CS sees it) -> how many so far
    messages: Mapping[tuple[str, str], int] = field(default_factory=dict)
    unreachable: str = ""


class Sampler:
    """Asks a laboratory's segments."""

    def __init__(self, lab: Lab, tally: Tally) -> None:
        self._lab = lab
        self._tally = tally

    def sample(self, now: float) -> Sample:
        """Now; a segment that does not answer (it may be restarting) leaves its part empty."""
        tally = self._tally
        nodes: list[Mapping[str, Any]] = []
        flows: list[Mapping[str, Any]] = []
        messages: dict[tuple[str, str], int] = {}
        count = 0
        unreachable = ""
        try:
            nodes = self._lab.admin("cs1", "nodes")
            messages = message_counts(self._lab.admin("cs1", "messages"))
            flows = self._lab.admin("cs1", "flows", limit=10_000)
            count = len(flows)
        except CommandError as error:
            unreachable = str(error)
        latencies = sorted(tally.connect_ms)
        return Sample(
            now=now,
            tally={
                "connections": tally.connections,
                "requests": tally.requests,
                "octets": tally.octets,
                "failures": tally.failures,
            },
            by_server=dict(tally.by_server),
            connect_ms=(
                statistics.median(latencies) if latencies else 0.0,
                latencies[len(latencies) * 99 // 100] if latencies else 0.0,
            ),
            last_failure=tally.last_failure,
            nodes=nodes,
            flows=flows,
            flow_count=count,
            messages=messages,
            unreachable=unreachable,
        )


def message_counts(data: Mapping[str, Any]) -> dict[tuple[str, str], int]:
    """(message, direction) -> count, out of what a segment answers to `messages`."""
    return {
        (row["message"], direction): row[direction]
        for row in message_rows(data)
        for direction in ("received", "sent")
    }


def draw(lab: Lab, before: Sample, now: Sample, started: float) -> RenderableType:
    """The whole screen."""
    seconds = max(now.now - before.now, 1e-9)
    columns = Table.grid(padding=(0, 4))
    columns.add_row(_nodes(before, now, seconds), _messages(before, now, seconds))
    return Group(_headline(lab, before, now, seconds, now.now - started), "", columns, _flows(now))


def line(before: Sample, now: Sample) -> str:
    """The same in one line, where the output is no terminal."""
    seconds = max(now.now - before.now, 1e-9)
    rate = _rates(before.tally, now.tally, seconds)
    ssmb = sum(now.messages.values()) - sum(before.messages.values())
    shares = " ".join(f"{name} {now.by_server[name]}" for name in sorted(now.by_server))
    return (
        f"{rate['connections']:.0f} connections/s, {rate['requests']:.0f} requests/s,"
        f" {rate['octets'] * 8 / 1e6:.0f} Mbit/s, {now.flow_count} flows,"
        f" {ssmb / seconds:.0f} messages/s, {now.tally['failures']} failures; {shares}"
    )


def _rates(
    before: Mapping[str, float], now: Mapping[str, float], seconds: float
) -> dict[str, float]:
    return {name: (now[name] - before.get(name, 0)) / seconds for name in now}


def _headline(
    lab: Lab, before: Sample, now: Sample, seconds: float, running_s: float
) -> RenderableType:
    rate = _rates(before.tally, now.tally, seconds)
    failures = int(now.tally["failures"])
    text = Text()
    text.append(f"splitplane laboratory {lab.name!r}", style="bold")
    text.append(
        f"   {len(lab.topology.of('client'))} clients -> {', '.join(lab.virtual_addresses)} ->"
        f" {len(lab.topology.of('server'))} servers   {running_s:.0f} s   Ctrl-C ends it\n"
    )
    text.append(
        f"{rate['connections']:.0f} connections/s   {rate['requests']:.0f} requests/s"
        f"   {rate['octets'] * 8 / 1e6:.0f} Mbit/s   connect {now.connect_ms[0]:.2f} ms,"
        f" 99 % {now.connect_ms[1]:.2f} ms   {int(now.tally['requests'])} requests,"
    )
    text.append(f" {failures} failures", style="bold red" if failures else "green")
    if failures:
        text.append(f"\nlast failure: {now.last_failure}", style="red")
    if now.unreachable:
        text.append(f"\n{now.unreachable}", style="yellow")
    return text


def _nodes(before: Sample, now: Sample, seconds: float) -> RenderableType:
    table = Table(title="nodes", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("pool", "node", "state"):
        table.add_column(heading)
    for heading in ("weight", "active", "total", "new/s"):
        table.add_column(heading, justify="right")
    table.add_column("share")
    totals = {(row["pool"], row["name"]): row["total"] for row in before.nodes}
    highest = max((row["total"] for row in now.nodes), default=0) or 1
    for row in now.nodes:
        new = (row["total"] - totals.get((row["pool"], row["name"]), 0)) / seconds
        table.add_row(
            row["pool"],
            row["name"],
            row["state"],
            str(row["weight"]),
            str(row["active"]),
            str(row["total"]),
            f"{new:.1f}",
            "█" * round(_BAR_WIDTH * row["total"] / highest),
        )
    return table


def _messages(before: Sample, now: Sample, seconds: float) -> RenderableType:
    table = Table(
        title="messages at the CS", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False
    )
    table.add_column("message")
    table.add_column("direction")
    table.add_column("total", justify="right")
    table.add_column("/s", justify="right")
    for (name, direction), count in sorted(now.messages.items()):
        if count:
            rate = (count - before.messages.get((name, direction), 0)) / seconds
            table.add_row(name, direction, amount(count), f"{rate:.0f}")
    return table


def _flows(now: Sample) -> RenderableType:
    latest = [flow_row(flow) for flow in now.flows][-FLOWS_SHOWN:]
    table = Table(
        title=f"flows ({now.flow_count}, the latest)",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    shown = [
        name
        for name in ("client", "vip", "node", "at", "state", "idle_ms", "bytes_in", "bytes_out")
        if any(name in row for row in latest)
    ]
    for name in shown:
        table.add_column(name.replace("_", " "))
    for row in reversed(latest):
        table.add_row(*(str(row.get(name, "")) for name in shown))
    return table
