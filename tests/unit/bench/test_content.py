# SPDX-License-Identifier: Apache-2.0
"""What bench/content.py configures is what the segments read, and its decision is one decision."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from control_segment.config import ControlSegmentConfig
from data_flow_segment.config.segment import DataFlowSegmentConfig
from splitplane.config import load

sys.path.insert(0, str(Path(__file__).parents[3] / "bench"))

from content import COLUMNS_HERE, Content, by_agent
from content_middles import (
    CONTENT,
    DO_NOT_DECIDE,
    DOMAIN,
    HOST,
    LARGE,
    PLAIN_PORT,
    PREFIX,
    SMALL,
    VARIANTS,
    configure,
    middles,
)
from report import table


@pytest.mark.parametrize("variant", VARIANTS)
def test_both_files_load(variant: str, tmp_path: Path) -> None:
    configure(VARIANTS[variant], tmp_path, CONTENT)
    load(tmp_path / "dfs.yaml", DataFlowSegmentConfig)
    cs = load(tmp_path / "cs.yaml", ControlSegmentConfig)
    web, plain = cs.virtual_servers
    nodes = {pool.name: [node.address for node in pool.nodes] for pool in cs.pools}
    assert nodes == {"pages": [CONTENT.addresses[0]], "images": [CONTENT.addresses[1]]}
    (rule,) = web.rules
    assert (web.kind, web.pool, rule.pool) == ("http", "pages", "images")
    assert (rule.match.host, rule.match.path_prefix) == ((f"*{DOMAIN}",), (PREFIX,))
    assert (plain.kind, plain.pool, plain.port) == ("plain", "images", PLAIN_PORT)


def test_what_is_asked_for_is_what_the_rule_is_for() -> None:
    assert HOST.endswith(DOMAIN)
    assert SMALL.startswith(PREFIX)
    assert LARGE.startswith(PREFIX)
    assert set(DO_NOT_DECIDE) < set(middles())


def test_the_way_is_read_from_the_counters() -> None:
    before = {"proxied_connections": 10, "APP_QUERY received by the CS": 10}
    after = {"proxied_connections": 35, "APP_QUERY received by the CS": 110}
    assert by_agent(before, after) == 0.25
    assert by_agent({}, {"proxied_connections": 3, "APP_QUERY received by the CS": 2}) == 1.0
    assert by_agent({}, {}) is None


def test_every_column_is_a_field() -> None:
    figures = Content(
        10_000, 0, 60, 200, 50, 0.0, 0.1, gbit_per_s=8.0, gbit_per_processor_s=4.0, of_plain=0.5,
        of_plain_by_processor=0.6, first_us=100, first_p99_us=300, by_agent=0.0,
    )  # fmt: skip
    head, _, row = table({"haproxy": [figures]}, {}, COLUMNS_HERE)
    shown = dict(zip(head.split(" | "), row.split(" | "), strict=True))
    assert shown["of HAProxy"] == shown["of HAProxy's"] == "1.00"
    assert shown["by the agent |"] == "0% |"
