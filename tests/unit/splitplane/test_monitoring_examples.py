# SPDX-License-Identifier: Apache-2.0
"""The dashboard and the alerts that operators copy ask for metrics and labels that there are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from admin.metrics import cs, dfs
from admin.metrics.instruments import DECISIONS, delay
from api.metrics import alerts, collecting, requests
from data_flow_segment import counters as of_agents
from data_flow_segment.targets import counters as of_targets

EXAMPLES: Final = Path(__file__).parents[3] / "docs" / "examples"
DASHBOARD: Final = EXAMPLES / "grafana" / "splitplane.json"
CONFIG: Final = EXAMPLES / "prometheus" / "prometheus.yml"
RULES: Final = EXAMPLES / "prometheus" / "splitplane.rules.yml"
OF_TARGETS: Final = {"instance", "job"}  # Prometheus adds them
PROCESS: Final = {
    "process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds", "up",
}  # fmt: skip
LABELS: Final[dict[str, set[str]]] = {
    **{
        metric.name + ("_info" if metric.kind == "info" else ""): set(group.labels) | OF_TARGETS
        for groups in (cs.GROUPS, dfs.GROUPS, collecting.GROUPS)
        for group in groups
        for metric in group.metrics
    },
    **{delay(component).name + "_bucket": {"le"} | OF_TARGETS for component in ("cs", "dfs")},
    DECISIONS.name + "_bucket": {"le"} | OF_TARGETS,
    alerts.MESSAGES.name: {*alerts.MESSAGES.labels, *OF_TARGETS},
    requests.REQUESTS.name: {*requests.REQUESTS.labels, *OF_TARGETS},
    requests.SECONDS.name + "_bucket": {"le", *requests.SECONDS.labels, *OF_TARGETS},
    **dict.fromkeys(PROCESS, OF_TARGETS),
}
COUNTERS: Final = {name for name in LABELS if name.endswith(("_total", "_bucket"))}
_METRIC: Final = re.compile(r"\b((?:splitplane|process)_\w+|up(?=[{ ]))(\{[^}]*\})?(\[)?")
_MATCHER: Final = re.compile(r"(\w+) *(?:=~|!~|!=|=)")
_GROUPED: Final = re.compile(r"\b(?:by|on|group_left) \(([^)]*)\)")


def dashboard() -> Any:
    return json.loads(DASHBOARD.read_text())


def expressions() -> Iterator[tuple[str, str]]:
    """Where it is, and what is asked."""
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            yield f"panel {panel['title']!r}", target["expr"]
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            yield f"alert {rule['alert']}", rule["expr"]


def test_every_expression_asks_for_metrics_and_labels_that_there_are() -> None:
    seen = set[str]()
    for where, expression in expressions():
        used = _METRIC.findall(expression)
        assert used, f"{where} asks for nothing"
        grouped = {
            label for names in _GROUPED.findall(expression) for label in re.findall(r"\w+", names)
        }
        for name, matchers, is_range in used:
            assert name in LABELS, f"{where}: there is no metric {name}"
            for label in _MATCHER.findall(matchers):
                assert label in LABELS[name], f"{where}: {name} has no label {label}"
            assert (name in COUNTERS) == bool(is_range), f"{where}: {name} needs rate(), or has it"
            seen.add(name)
        known = set().union(*(LABELS[name] for name, *_ in used))
        assert grouped <= known, f"{where}: {grouped - known}"
    assert len(seen) > 30


def test_values_of_labels_are_those_that_there_are() -> None:
    """A misspelt role or state would be a panel that is always empty."""
    values = {
        "role": {"standby", "claiming", "active"},
        "normal": {"true", "false"},
        "health": {"up", "down", "unknown"},
    }
    found = set[tuple[str, str]]()
    for _, expression in expressions():
        found |= set(re.findall(r'(role|normal|health)="([^"]*)"', expression))
    assert {label for label, _ in found} == set(values)
    assert all(value in values[label] for label, value in found)
    counters = {*of_agents.MEANINGS, *of_targets.MEANINGS, *of_targets.OFFLOADED}
    for _, expression in expressions():
        for events in re.findall(r'event=~"([^"]*)"', expression):
            assert set(events.split("|")) <= counters


def test_legends_and_texts_name_labels_that_there_are() -> None:
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            labels = set().union(*(LABELS[name] for name, *_ in _METRIC.findall(target["expr"])))
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= labels, panel["title"]
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            labels = set().union(*(LABELS[name] for name, *_ in _METRIC.findall(rule["expr"])))
            texts = " ".join(rule["annotations"].values())
            assert set(re.findall(r"\$labels\.(\w+)", texts)) <= labels, rule["alert"]


def test_the_dashboard_has_what_grafana_imports() -> None:
    found = dashboard()
    assert (found["uid"], found["title"], found["id"]) == ("splitplane", "splitplane", None)
    assert found["schemaVersion"] >= 36  # Grafana 9: `datasource` is an object
    variables = {variable["name"] for variable in found["templating"]["list"]}
    assert variables == {"datasource", "cs", "dfs", "api"}
    panels = found["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = set[tuple[int, int]]()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        taken = {
            (place["x"] + across, place["y"] + down)
            for across in range(place["w"])
            for down in range(place["h"])
        }
        assert not taken & places, f"{panel['title']} lies over another panel"
        places |= taken
        if panel["type"] != "row":
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            assert [each["refId"] for each in panel["targets"]] == [
                chr(ord("A") + number) for number in range(len(panel["targets"]))
            ]
            assert panel["fieldConfig"]["defaults"]["unit"]


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    names = [rule["alert"] for rule in group["rules"]]
    assert len(names) == len(set(names))
    for rule in group["rules"]:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert set(rule["annotations"]) == {"summary", "description"}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_accepts_configuration_alerts_and_the_dashboards_expressions(
    tmp_path: Path,
) -> None:
    rules = [
        {"record": f"asked:{number}", "expr": expression.replace("$__rate_interval", "1m")}
        for number, (_, expression) in enumerate(expressions())
    ]
    asked = tmp_path / "asked.yml"
    asked.write_text(yaml.safe_dump({"groups": [{"name": "asked", "rules": rules}]}))
    for words in (["config", str(CONFIG)], ["rules", str(asked)]):
        done = subprocess.run(
            ["promtool", "check", *words],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
