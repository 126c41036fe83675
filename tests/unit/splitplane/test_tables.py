# SPDX-License-Identifier: Apache-2.0
"""What segments answer becomes rows for people, whichever segment answered."""

from __future__ import annotations

from typing import Any

import pytest

from splitplane.commands.shapes import endpoint, message_rows, shaped


def test_both_segments_flows_look_alike() -> None:
    cs = {
        "source_address": "2001:db8::7", "source_port": 40000,
        "destination_address": "2001:db8::10", "destination_port": 80,
        "node_address": "fd00::1", "node_port": 8080, "node": "web1", "serial": 255,
    }  # fmt: skip
    dfs = {"client": "[2001:db8::7]:40000", "vip": "[2001:db8::10]:80", "serial": 255}
    ((_, (cs_row,)),) = shaped("flows", [cs])
    ((_, (dfs_row,)),) = shaped("flows", [dfs])
    assert {name: cs_row[name] for name in dfs_row} == dfs_row
    assert cs_row["at"] == "[fd00::1]:8080"
    assert cs_row["serial"] == "0xff"


def test_messages_are_named_as_on_the_wire_and_counted_both_ways() -> None:
    assert message_rows({"sent": {"AppQuery": 2}, "received": {"APP_QUERY": 3, "QUERY": 1}}) == [
        {"message": "APP_QUERY", "sent": 2, "received": 3},
        {"message": "QUERY", "sent": 0, "received": 1},
    ]


def test_what_was_dropped_is_told_only_where_something_was() -> None:
    drop = {"value": 0, "normal": False, "meaning": "forged"}
    data: dict[str, Any] = {"sent": {}, "received": {}, "drops": {"bad_seal": drop}}
    assert shaped("messages", data) == [("", [])]
    drop["value"] = 4
    assert shaped("messages", data)[1] == (
        "drops",
        [{"name": "bad_seal", "count": 4, "normal": False, "meaning": "forged"}],
    )


def test_a_status_has_a_table_for_each_list_of_peers() -> None:
    data = {"segment_id": 1, "links": [{"address": "a", "sync": {"running": False}}]}
    assert shaped("status", data) == [
        ("", [{"name": "segment id", "value": 1}]),
        ("links", [{"name": "address", "value": "a"}, {"name": "sync: running", "value": False}]),
    ]


@pytest.mark.parametrize("data", [[{"a": 1}], {"a": 1}, "text", [1, 2], {}, []])
def test_whatever_comes_has_a_shape(data: Any) -> None:
    ((title, rows),) = shaped("unheard_of", data)
    assert title == ""
    assert all(isinstance(row, dict) for row in rows)


@pytest.mark.parametrize(
    ("address", "text"), [("10.0.0.1", "10.0.0.1:80"), ("::1", "[::1]:80"), ("*", "*:80")]
)
def test_an_ipv6_endpoint_has_brackets(address: str, text: str) -> None:
    assert endpoint(address, 80) == text
