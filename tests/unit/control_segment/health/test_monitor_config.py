# SPDX-License-Identifier: Apache-2.0
"""What monitors in a file may say, and what is said of mistakes in them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from admin.errors import ConfigError
from control_segment.config import GroupConfig
from control_segment.config_changes import validated
from control_segment.health.config import MonitorConfig
from support.segments.dfs_double import CONFIG, config


def with_monitor(pool: dict[str, Any] | None = None, **monitor: Any) -> dict[str, Any]:
    """A file with one monitor, which its pool names."""
    monitors = [{"name": "web", "kind": "tcp", **monitor}]
    pools = [{**CONFIG["pools"][0], "monitors": ["web"], **(pool or {})}]
    return {"monitors": monitors, "pools": pools}


NO_PORT = {"nodes": [{"name": "web1", "address": "10.1.1.2"}]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (with_monitor(name="other"), "pool web: there is no monitor 'web'; there are: other"),
        (with_monitor({"monitors": ["web", "web"]}), "monitor 'web' is given twice"),
        (with_monitor(NO_PORT), "node web1 has no port, and monitor web has none either"),
        (with_monitor(kind="http", udp={"send": "x"}), "udp is for kind udp, not http; remove it"),
        (with_monitor(kind="udp"), "monitor web: kind udp needs udp; add it"),
        (with_monitor(kind="udp", udp={}), "give send or send_hex, and not both"),
        (with_monitor(kind="udp", udp={"send": "a", "send_hex": "61"}), "send or send_hex, and"),
        (with_monitor(kind="udp", udp={"send_hex": "6"}), "'6' is not hexadecimal"),
        (with_monitor(kind="agent"), "kind agent needs port; add it"),
        (with_monitor(kind="icmp", port=7), "kind icmp asks no port; remove it"),
        (with_monitor(kind="script", script={"name": "check"}), "this CS runs no scripts; give"),
        (with_monitor(kind="script", script={"name": "../x"}), "'../x' is no file name"),
        (with_monitor(kind="ping"), "Input should be 'tcp', 'http'"),
        (with_monitor(fast_interval_ms=3000), "fast_interval_ms 3000 is more than interval_ms 200"),
        (with_monitor(rise=0), "greater than or equal to 1"),
        (with_monitor(kind="http", http={"path": "x"}), "'x' is no path"),
        (with_monitor(kind="http", http={"expect_status": ["9-1"]}), "must ascend and be within"),
        (with_monitor(kind="http", http={"expect_status": ["ok"]}), "'ok' is no status or range"),
        (with_monitor(kind="http", http={"expect_body": "("}), "is no regular expression"),
        (with_monitor(kind="http", http={"headers": {"a b": "c"}}), "should match pattern"),
        (with_monitor(kind="http", http={"headers": {"AUTHORIZATION": "x"}}), "in secret_headers"),
        (with_monitor(kind="http", http={"headers": {"X-Api-key": "x"}}), "in secret_headers"),
        (with_monitor(kind="http", http={"headers": {"cookie": "x"}}), "in secret_headers"),
        (
            with_monitor(kind="https", http={"headers": {"Proxy-Authorization": "x"}}),
            "header Proxy-Authorization is a secret, which whoever reads",
        ),
        (
            with_monitor(kind="http", http={"headers": {"a": "x"}, "secret_headers": {"A": "x"}}),
            "header A is given twice",
        ),
        (
            with_monitor(kind="http", http={"secret_headers": {"Authorization": "web"}}),
            "monitor web: this CS has no secrets; give the folder that they are in as monitor_secr",
        ),
        (
            with_monitor(
                kind="script", script={"name": "check", "secret_environment": {"PASSWORD": "web"}}
            ),
            "monitor web: this CS has no secrets",
        ),
        (
            with_monitor(
                kind="script",
                script={"name": "x", "environment": {"A": "b"}, "secret_environment": {"A": "c"}},
            ),
            "variable A is given twice",
        ),
        (with_monitor(kind="http", http={"host": "a\nb"}), "characters that HTTP does not allow"),
    ],
)
def test_a_mistake_in_a_monitor_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config(**changes)


def test_two_monitors_of_one_name_are_refused() -> None:
    twice = [{"name": "web", "kind": "tcp"}] * 2
    with pytest.raises(ValidationError, match="monitor 'web' is given twice"):
        config(monitors=twice)


def test_a_monitor_with_a_port_of_its_own_serves_nodes_that_have_none() -> None:
    assert config(**with_monitor(NO_PORT, port=80)).pools[0].monitors == ("web",)


def test_scripts_run_where_the_file_of_the_cs_says_where_they_are() -> None:
    changes = with_monitor(kind="script", script={"name": "check", "arguments": ["-v"]})
    made = config(**changes, monitor_scripts="monitors")
    assert made.monitors[0].script is not None
    assert made.monitors[0].script.arguments == ("-v",)


def test_secrets_are_named_where_the_file_of_the_cs_says_where_they_are() -> None:
    changes = with_monitor(kind="http", http={"secret_headers": {"Authorization": "web-token.1"}})
    made = config(**changes, monitor_secrets="secrets")
    assert made.monitors[0].http is not None
    assert made.monitors[0].http.secret_headers == {"Authorization": "web-token.1"}


@pytest.mark.parametrize("text", ["Bearer hunter2", "hunter2/", "../hunter2", ".hunter2", "a\n2"])
def test_what_is_no_name_of_a_secret_is_refused_without_being_repeated(text: str) -> None:
    monitors = [{"name": "m", "kind": "http", "http": {"secret_headers": {"Authorization": text}}}]
    with pytest.raises(ConfigError) as refused:
        validated(GroupConfig, {"monitors": monitors})
    (said,) = refused.value.problems
    assert said.startswith("/monitors/0/http/secret_headers/Authorization: ")
    assert "give that of a file in monitor_secrets" in said
    assert text not in said


def test_a_plain_header_that_is_a_secret_is_refused_at_its_place_without_its_value() -> None:
    monitors = [{"name": "m", "kind": "http", "http": {"headers": {"Authorization": "hunter2"}}}]
    with pytest.raises(ConfigError) as refused:
        validated(GroupConfig, {"monitors": monitors})
    (said,) = refused.value.problems
    assert said.startswith("/monitors/0/http/headers/Authorization: header Authorization is a")
    assert "hunter2" not in said


def test_a_certificate_is_looked_at_every_hour_unless_the_file_says_otherwise() -> None:
    assert MonitorConfig.model_validate({"name": "a", "kind": "certificate"}).interval_ms == 3600000
    sooner = {"name": "a", "kind": "certificate", "interval_ms": 1000}
    assert MonitorConfig.model_validate(sooner).interval_ms == 1000


def test_a_status_may_be_a_number() -> None:
    made = MonitorConfig.model_validate(
        {"name": "a", "kind": "http", "http": {"expect_status": [204, "300-399"]}}
    )
    assert made.http is not None
    assert made.http.expect_status == ("204", "300-399")
