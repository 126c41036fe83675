# SPDX-License-Identifier: Apache-2.0
"""The screen of `splitplane run`: what a laboratory does, drawn anew each second.

`Sampler` asks the segments and keeps what is needed for rates; `draw` turns a sample into something
that rich prints.  Neither knows a terminal.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from admin.answers import (
    CS_STATUS,
    FLOWS,
    MESSAGES,
    NODES,
    VIRTUAL_SERVERS,
    Flow,
    Messages,
    Node,
)
from admin.errors import CommandError
from splitplane.commands.tables import Decided, amount, decided
from splitplane.lab import Lab
from splitplane.lab.load import Tally

FLOWS_ASKED: Final = 40
_BAR_WIDTH: Final = 8  # with it a line of the table has 76 characters
_FIXED_LINES: Final = 14  # of the screen, beside the rows of nodes and flows
_MESSAGE_LINES: Final = 2  # for messages
_PAGE_LINES: Final = 2  # that say where the page is
_FLOWS: Final = 3  # where the output has no height
_WIDTH: Final = 76  # what the tables need; with less, they have fewer columns


@dataclass(frozen=True, slots=True)
class Sample:
    """What was seen at one time."""

    now: float
    tally: Mapping[str, float]
    by_server: Mapping[str, int]
    connect_ms: tuple[float, float]  # median, 99th percentile
    last_failure: str
    nodes: Sequence[Node]
    flows: Sequence[Flow]
    flow_count: int
    # (message, direction as the CS sees it) -> how many so far
    messages: Mapping[tuple[str, str], int] = field(default_factory=dict)
    rules: Sequence[Decided] = ()
    unreachable: str = ""


class Sampler:
    """Asks a laboratory's segments."""

    def __init__(self, lab: Lab, tally: Tally) -> None:
        self._lab = lab
        self._tally = tally

    def sample(self, now: float) -> Sample:
        """Now; a segment that does not answer (it may be restarting) leaves its part empty."""
        tally = self._tally
        nodes: list[Node] = []
        flows: list[Flow] = []
        messages: dict[tuple[str, str], int] = {}
        rules: list[Decided] = []
        count = 0
        unreachable = ""
        try:
            nodes = self._lab.admin("cs1", NODES)
            messages = message_counts(self._lab.admin("cs1", MESSAGES))
            flows = self._lab.admin("cs1", FLOWS, limit=FLOWS_ASKED)
            count = self._lab.admin("cs1", CS_STATUS).flows
            servers = self._lab.admin("cs1", VIRTUAL_SERVERS)
            rules = decided(servers)
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
            rules=rules,
            unreachable=unreachable,
        )


def message_counts(messages: Messages) -> dict[tuple[str, str], int]:
    """(message, direction) -> count."""
    directions = {"received": messages.received, "sent": messages.sent}
    return {
        (name, direction): count
        for direction, counts in directions.items()
        for name, count in counts.items()
    }


def draw(
    lab: Lab,
    before: Sample,
    now: Sample,
    running_s: float,
    lines: int | None = None,
    width: int = _WIDTH,
) -> RenderableType:
    """The whole screen, for so many lines (None: as many as it takes) of so many characters."""
    seconds = max(now.now - before.now, 1e-9)
    nodes = [node for node in now.nodes if node.total]  # pools that nobody has used yet say nothing
    page = 0 if lab.api is None else _PAGE_LINES
    rules = 1 if now.rules else 0
    flows = _FLOWS if lines is None else lines - _FIXED_LINES - page - rules - len(nodes)
    return Group(
        _headline(lab, before, now, seconds, running_s),
        "",
        _nodes(before, nodes, seconds, narrow=width < _WIDTH),
        _messages(before, now, seconds, width),
        *([_rules(now.rules)] if now.rules else []),
        "",
        _flows(now, flows, narrow=width < _WIDTH),
    )


def line(before: Sample, now: Sample) -> str:
    """The same in one line, where the output is no terminal."""
    seconds = max(now.now - before.now, 1e-9)
    rate = _rates(before.tally, now.tally, seconds)
    ssmb = sum(_risen(before, now).values())
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


def _risen(before: Sample, now: Sample) -> dict[tuple[str, str], int]:
    """How many messages came or went in between; a CS that was restarted counts from zero."""
    return {
        name: count - before.messages.get(name, 0)
        for name, count in now.messages.items()
        if count > before.messages.get(name, 0)
    }


def _headline(
    lab: Lab, before: Sample, now: Sample, seconds: float, running_s: float
) -> RenderableType:
    rate = _rates(before.tally, now.tally, seconds)
    failures = int(now.tally["failures"])
    text = Text()
    text.append("splitplane", style="bold")
    text.append(
        f"  laboratory {lab.name!r}: {len(lab.topology.of('client'))} clients,"
        f" {len(lab.topology.of('server'))} servers, {running_s:.0f} s; Ctrl-C stops it\n"
    )
    text.append("virtual addresses " + ", ".join(lab.virtual_addresses) + "\n", style="dim")
    if lab.api is not None:
        text.append(f"page {lab.api.url}  sign in, once and within ten minutes:\n{lab.api.link}\n")
    text.append(
        f"{rate['connections']:.0f} connections/s  {rate['requests']:.0f} requests/s "
        f" {rate['octets'] * 8 / 1e6:.0f} Mbit/s "
        f" connect {now.connect_ms[0]:.2f} ms (99 %: {now.connect_ms[1]:.2f} ms)\n"
    )
    text.append(f"{int(now.tally['requests'])} requests, every octet checked, ")
    text.append(f"{failures} failures", style="bold red" if failures else "green")
    if failures:
        text.append(f"\nlast failure: {now.last_failure}", style="red")
    if now.unreachable:
        text.append(f"\n{now.unreachable}", style="yellow")
    return text


def _table(title: str, left: Sequence[str], right: Sequence[str]) -> Table:
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
    )
    for heading in left:
        table.add_column(heading, no_wrap=True)
    for heading in right:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _nodes(
    before: Sample, nodes: Sequence[Node], seconds: float, *, narrow: bool
) -> RenderableType:
    left, right = ["pool", "node"], ["active", "new/s"]
    if not narrow:
        left, right = [*left, "state"], ["weight", "active", "total", "new/s"]
    table = _table("nodes", left, right)
    table.add_column("share", no_wrap=True)
    totals = {(node.pool, node.name): node.total for node in before.nodes}
    of_pool: Counter[str] = Counter()
    for node in nodes:
        of_pool[node.pool] += node.total
    for node in nodes:
        new = node.total - totals.get((node.pool, node.name), 0)
        share = node.total / of_pool[node.pool]
        shown = {
            "pool": node.pool,
            "node": node.name,
            "state": node.state,
            "weight": node.weight,
            "active": node.active,
            "total": amount(node.total),
            "new/s": f"{new / seconds:.1f}",
        }
        bar = "" if narrow else f"{'█' * round(_BAR_WIDTH * share)} "
        table.add_row(*(str(shown[name]) for name in [*left, *right]), f"{bar}{share:.0%}")
    return table


def _messages(before: Sample, now: Sample, seconds: float, width: int) -> RenderableType:
    """The messages that came or went since the last look, the most frequent ones first, and all of
    them together; two lines, neither of which ends within an item."""
    risen = _risen(before, now)
    head = f"SSMB  {sum(risen.values()) / seconds:.0f} messages/s"
    lines = [f"{head}  {sum(now.messages.values())} in total"]
    for (name, direction), count in sorted(risen.items(), key=lambda item: -item[1]):
        arrow = "▸" if direction == "received" else "◂"
        item = f"{arrow} {name} {count / seconds:.0f}"
        if len(lines[-1]) + 2 + len(item) <= width:
            lines[-1] += f"  {item}"
        elif len(lines) < _MESSAGE_LINES:
            lines.append(f"      {item}")
    text = Text("\n".join(lines), no_wrap=True)
    text.stylize("bold", 0, len(head))
    return text


def _rules(rules: Sequence[Decided]) -> RenderableType:
    """One line: what the rules have decided so far."""
    text = Text(no_wrap=True, overflow="ellipsis")
    server = ""
    for each in rules:
        if each.virtual_server != server:
            server = each.virtual_server
            text.append(f"{server}  ", style="bold")
        text.append(f"{each.rule} {each.connections}  ")
    return text


def _flows(now: Sample, lines: int, *, narrow: bool) -> RenderableType:
    if lines < 1:
        return Text(f"{now.flow_count} flows; a terminal with more lines shows them")
    names = ("client", "node") if narrow else ("client", "vip", "protocol", "node", "state")
    table = _table(f"{now.flow_count} flows, newest first", names, ())
    for flow in now.flows[:lines]:
        shown = {
            "client": flow.client,
            "vip": flow.vip,
            "protocol": flow.protocol,
            "node": flow.node_name or "",
            "state": flow.state,
        }
        table.add_row(*(shown[name] for name in names))
    return table
