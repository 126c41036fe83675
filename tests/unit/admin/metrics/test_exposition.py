# SPDX-License-Identifier: Apache-2.0
"""Readings are written as Prometheus reads them, by its library's own parsers and by promtool."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Final

import pytest
from prometheus_client import Metric as Family
from prometheus_client.openmetrics.parser import text_string_to_metric_families as of_openmetrics
from prometheus_client.parser import text_string_to_metric_families as of_text

from admin.answers import Node
from admin.metrics import cs, dfs
from admin.metrics.collecting import Count, LeftOut
from admin.metrics.exposition import AT_ONCE, Exposition
from admin.metrics.tables import AnyGroup, AnyReading, Reading
from api.metrics import collecting as api

OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0"
FORMATS: Final = {"": of_text, "text/plain; version=0.0.4": of_text, OPENMETRICS: of_openmetrics}
NODE: Final = Node(
    pool="web", name="one", address="fd00::1", port=80, weight=1, state="enabled",
    connection_limit=0, active=3, total=9, connections_per_second=1.5, response_ms=1.25, idle_ms=3,
    packets_in=1, bytes_in=2, packets_out=3, bytes_out=4,
)  # fmt: skip
UNITS: Final = re.compile("_(ms|milliseconds|octets|kilobytes|minutes)(_|$)")

Parser = Callable[[str], Iterable[Family]]


def written(readings: Iterable[AnyReading], accept: str = "") -> str:
    return b"".join(Exposition(accept).pieces(readings)).decode()


@pytest.mark.parametrize(("accept", "parse"), FORMATS.items())
def test_each_format_is_parsed_back_to_what_was_read(accept: str, parse: Parser) -> None:
    nodes = [NODE, replace(NODE, name="two", state="down", response_ms=None)]
    readings: list[AnyReading] = [
        Reading(cs.NODE, nodes),
        Reading(cs.LEFT_OUT, [LeftOut("pools", 7)]),
    ]
    families = {family.name: family for family in parse(written(readings, accept))}
    enabled = families["splitplane_cs_node_enabled"]
    assert enabled.type == "gauge"
    assert [(sample.labels, sample.value) for sample in enabled.samples] == [
        ({"pool": "web", "node": "one", "address": "[fd00::1]:80"}, 1),
        ({"pool": "web", "node": "two", "address": "[fd00::1]:80"}, 0),
    ]
    (response,) = families["splitplane_cs_node_response_seconds"].samples
    assert response.value == 0.00125
    sessions = families["splitplane_cs_node_sessions"]
    assert (sessions.type, sessions.samples[0].name) == (
        "counter",
        "splitplane_cs_node_sessions_total",
    )
    assert families["splitplane_cs_series_left_out"].samples[0].value == 7
    assert "process_cpu_seconds" in families


@pytest.mark.parametrize(("accept", "parse"), FORMATS.items())
def test_a_label_may_have_any_characters(accept: str, parse: Parser) -> None:
    odd = 'a"b\\c\nd{}=,é'
    text = written([Reading(cs.SENT, [Count(odd, 1)])], accept)
    (family,) = [it for it in parse(text) if it.name == "splitplane_cs_messages_sent"]
    assert family.samples[0].labels == {"type": odd}


def test_a_long_list_comes_in_pieces_and_says_once_what_it_is() -> None:
    nodes = [replace(NODE, name=f"n{number}") for number in range(3 * AT_ONCE)]
    pieces = list(Exposition(OPENMETRICS).pieces([Reading(cs.NODE, nodes)]))
    assert max(piece.count(b"\n") for piece in pieces) <= AT_ONCE + 3
    text = b"".join(pieces).decode()
    for metric in cs.NODE.metrics:
        assert text.count(f"# TYPE {metric.name.removesuffix('_total')} ") == 1
    assert text.endswith("# EOF\n")
    assert text.count("# EOF") == 1


@pytest.mark.parametrize(
    ("component", "groups"), [("cs", cs.GROUPS), ("dfs", dfs.GROUPS), ("api", api.GROUPS)]
)
def test_names_follow_the_convention_and_are_given_once(
    component: str, groups: tuple[AnyGroup, ...]
) -> None:
    metrics = [metric for group in groups for metric in group.metrics]
    names = [metric.name for metric in metrics]
    assert len(names) == len(set(names))
    for metric in metrics:
        assert metric.name.startswith(f"splitplane_{component}"), metric.name
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        assert not UNITS.search(metric.name), metric.name
        assert metric.meaning.endswith("."), metric.name


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
@pytest.mark.parametrize("groups", [cs.GROUPS, dfs.GROUPS, api.GROUPS])
def test_promtool_finds_nothing_to_complain_about(groups: tuple[AnyGroup, ...]) -> None:
    some: dict[int, list[Any]] = {id(cs.NODE): [NODE], id(cs.SENT): [Count("REPLY", 1)]}
    text = written([Reading(group, some.get(id(group), [])) for group in groups])
    done = subprocess.run(
        ["promtool", "check", "metrics"],
        input=text, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
