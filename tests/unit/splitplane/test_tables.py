# SPDX-License-Identifier: Apache-2.0
"""What segments answer becomes rows for people, whichever segment answered."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from admin.answers import (
    ControlSegmentPeer,
    Counter,
    DataFlowSegmentStatus,
    Group,
    Messages,
    Node,
    Rule,
    VirtualServer,
)
from splitplane.commands.sockets import Segment
from splitplane.commands.tables import (
    ROWS_LAID_OUT_MAX,
    decided,
    lines_of,
    message_rows,
    print_tables,
    table_of,
    tables_of,
)
from support.segments.admin import flow
from support.work import lines_run


def headings(answer: object) -> list[object]:
    return [column.header for _, rows in tables_of(answer) for column in table_of(rows).columns]


def test_both_segments_flows_look_alike_and_a_column_that_nobody_knows_is_left_out() -> None:
    from_dfs = headings([flow()])
    from_cs = headings([flow(), flow(virtual_server="www", pool="web", node_name="web1")])
    assert [name for name in from_cs if name in from_dfs] == from_dfs
    assert set(from_cs) - set(from_dfs) == {"server", "node name"}


def test_why_a_node_gets_no_sessions_is_shown_where_there_is_a_reason() -> None:
    fine = Node(
        pool="web", name="web1", address="10.1.1.2", port=80, weight=1, state="enabled",
        connection_limit=0, active=0, total=0, connections_per_second=0.0, response_ms=None,
        idle_ms=None, packets_in=0, bytes_in=0, packets_out=0, bytes_out=0,
    )  # fmt: skip
    ejected = replace(fine, name="web2", ejected_for_ms=9000, ejection_reason="3 were refused")
    assert not {"ejected ms", "ejection reason", "health reason"} & set(headings([fine]))
    assert set(headings([fine, ejected])) - set(headings([fine])) == {
        "ejected ms",
        "ejection reason",
    }


def test_rules_are_followed_by_what_none_of_them_decided() -> None:
    plain = VirtualServer(
        name="www", address="192.0.2.1", port=80, protocol="tcp", group_id=1, forward_mode="nat",
        answer_arp=True, pool="web",
    )  # fmt: skip
    rules = [Rule(name="img", pool="images", matched=5), Rule(name="admin", pool=None, matched=2)]
    shop = replace(plain, name="shop", kind="http", rules=rules, unmatched=7, unreadable=1)
    rows = [(it.rule, it.pool, it.connections) for it in decided([plain, shop])]
    assert rows == [
        ("img", "images", 5),
        ("admin", None, 2),
        ("(no rule)", "web", 7),
        ("(unreadable)", None, 1),
    ]


def test_messages_are_counted_both_ways() -> None:
    messages = Messages(sent={"APP_QUERY": 2}, received={"QUERY": 1, "APP_QUERY": 3}, dropped={})
    assert message_rows(messages) == [
        {"message": "APP_QUERY", "sent": 2, "received": 3},
        {"message": "QUERY", "sent": 0, "received": 1},
    ]


def test_what_was_dropped_or_refused_is_shown_only_where_something_was() -> None:
    def messages(count: int) -> Messages:
        dropped = {"bad_seal": Counter(value=count, normal=False, meaning="forged")}
        return Messages(sent={}, received={}, dropped=dropped, refused={"NOTAVAIL": count})

    assert tables_of(messages(0)) == [("", [])]
    assert tables_of(messages(4)) == [
        ("", []),
        ("refused", [{"name": "NOTAVAIL", "count": 4}]),
        ("dropped", [{"name": "bad_seal", "count": 4, "normal": False, "meaning": "forged"}]),
    ]


def test_counters_that_are_zero_are_not_shown() -> None:
    counters = {
        "up_calls": Counter(value=2, normal=True, meaning="packets"),
        "evictions": Counter(value=0, normal=False, meaning="flows"),
    }
    ((_, rows),) = tables_of(counters)
    assert [row["name"] for row in rows] == ["up_calls"]


def test_a_status_has_a_table_for_each_group_of_peers() -> None:
    peers = [
        ControlSegmentPeer(
            segment_id=number, ssmb_address="10.0.0.1:1", ssmb_version=2, ssmb_authenticated=True,
            active=number == 1, role_epoch=0, takes_queries=True, synced=True, connections=1,
        )
        for number in (1, 2)
    ]  # fmt: skip
    status = DataFlowSegmentStatus(
        segment_id=256, boot_id=1, uptime_s=1.5, laboratory=False, flows=3, flow_capacity=10,
        adopted=False, pending=0, negative=0, lingering=0, held_octets=0,
        groups=[Group(group_id=1, asks="data path", active=peers[0], standbys=peers[1:])],
    )  # fmt: skip
    (_, plain), (title, group) = tables_of(status)
    assert {"name": "flow capacity", "value": 10} in plain
    assert title == "groups"
    assert {"name": "active: segment id", "value": 1} in group
    assert {"name": "standbys 1: segment id", "value": 2} in group


def test_a_long_table_has_the_lines_of_a_short_one() -> None:
    rows = tables_of([flow(), flow(virtual_server="www", idle_ms=70_000)])[0][1]
    console = Console(width=1000, file=io.StringIO(), color_system=None)
    console.print(table_of(rows))
    assert isinstance(console.file, io.StringIO)
    shown = [line.rstrip() for line in console.file.getvalue().splitlines()]
    assert [" ".join(line.split()) for line in lines_of(rows)][::2] == [
        " ".join(line.split()) for line in shown
    ][::2]


def test_twice_the_nodes_are_twice_the_work(capsys: pytest.CaptureFixture[str]) -> None:
    segment = Segment("cs", 1, Path("cs.sock"))

    def work(number: int) -> int:
        data = [flow() for _ in range(number)]
        return lines_run(lambda: print_tables([(segment, data)]))

    few = work(ROWS_LAID_OUT_MAX + 1)
    assert work(2 * ROWS_LAID_OUT_MAX) < 2.5 * few
    assert few < 500 * ROWS_LAID_OUT_MAX  # rich runs some 3,000 lines per row
