# SPDX-License-Identifier: Apache-2.0
"""What a list of alerts may say, and what is refused, with its place."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from admin.alerts.alerts import Alerts
from admin.alerts.config import AlertConfig
from admin.errors import ConfigError
from admin.happened import Happened
from control_segment.config import ControlSegmentConfig
from splitplane.config import parse

HEAD = (
    "segment_id: 1\nssmb: {address: 192.0.2.1}\nlaboratory_no_authentication: true\n"
    "data_flow_segments: [{address: 192.0.2.2}]\nalerts:\n"
)
MAIL = "host: mail.example.net, from: lb@example.net, to: [ops@example.net]"


def alerts_of(*entries: str) -> tuple[AlertConfig, ...]:
    text = HEAD + "".join(f"  - {{name: {entry}}}\n" for entry in entries)
    return parse(text, "cs.yaml", ControlSegmentConfig).alerts


def test_ports_and_filters_have_what_is_usual() -> None:
    first, second, third = alerts_of(
        f"a, email: {{{MAIL}}}",
        f"b, email: {{{MAIL}, tls: tls}}, severity: error, without: [node_ejected]",
        "c, webhook: {url: 'https://hooks.example.net/x?y=1'}, kinds: [role], severity: info",
    )
    assert first.email is not None
    assert second.email is not None
    assert (first.email.port_used, second.email.port_used) == (587, 465)
    assert first.email.sender == "lb@example.net"
    node_down, ejected, role = (
        Happened("error", "node_down", "x"),
        Happened("error", "node_ejected", "x"),
        Happened("info", "role", "x"),
    )
    assert [first.wants(each) for each in (node_down, ejected, role)] == [True, True, False]
    assert [second.wants(each) for each in (node_down, ejected, role)] == [True, False, False]
    assert [third.wants(each) for each in (node_down, ejected, role)] == [False, False, True]


WRONG = {
    "a": "alerts[0].name: alert a: give email or webhook, and not both",
    f"a, email: {{{MAIL}, user: me}}": "alerts[0].email.user: give user and password_file",
    f"a, email: {{{MAIL}, tls: none, user: me, password_file: p}}": "alerts[0].email.tls: the"
    " password would cross the network readable; use starttls or tls",
    "a, email: {host: m, from: 'a b@c', to: [x@y]}": "alerts[0].email.from: 'a b@c' is not an",
    "a, email: {host: m, from: a@c, to: ['x@y, z@y']}": "alerts[0].email.to[0]: 'x@y, z@y' is not",
    'a, email: {host: m, from: "a@c\\r\\nBcc: x@y", to: [x@y]}': "alerts[0].email.from: 'a@c",
    "a, email: {host: m, from: a@c, to: []}": "alerts[0].email.to: ",
    "a, webhook: {url: 'ftp://x'}": "alerts[0].webhook.url: this is not a URL; give one like",
    "a, webhook: {url: 'https://u:secret@x'}": "alerts[0].webhook.url: no user or password in",
    "a, webhook: {url: 'http://h.example', headers_file: h}": "alerts[0].webhook.url: http://",
    "a, webhook: {url: 'http://h.example', ca_file: h}": "alerts[0].webhook.ca_file: only https",
    "a, webhook: {url: 'https://h.example'}, severity: bad": "alerts[0].severity: ",
}


@pytest.mark.parametrize(("entry", "problem"), WRONG.items())
def test_what_cannot_be_right_is_refused_at_its_place(entry: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        alerts_of(entry)
    (found,) = caught.value.problems
    assert found.startswith(f"cs.yaml:6: {problem}")
    assert "secret" not in found


def test_two_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="alert name 'a' is given twice"):
        alerts_of(f"a, email: {{{MAIL}}}", f"a, email: {{{MAIL}}}")


def files_of(folder: Path, content: str | None, mode: int = 0o600) -> tuple[AlertConfig, ...]:
    if content is not None:
        (folder / "h").write_text(content)
        (folder / "h").chmod(mode)
    return alerts_of("a, webhook: {url: 'https://h.example', headers_file: h}")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "h: there is no such file; create it, with mode 600"),
        ("Authorization Bearer\n", "h:1: this is no header; give lines like Name: value"),
        ("A: b\nC: \0\n", "h:2: this is no header"),
    ],
)
def test_a_file_that_cannot_be_right_is_named_at_the_start(
    tmp_path: Path, content: str | None, problem: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        Alerts(files_of(tmp_path, content), tmp_path)
    assert problem in str(caught.value)


def test_a_secret_that_others_may_read_is_refused(tmp_path: Path) -> None:
    readable = stat.S_IRUSR | stat.S_IRGRP
    with pytest.raises(ConfigError, match="other users may read this secret; run chmod 600"):
        Alerts(files_of(tmp_path, "A: b\n", readable), tmp_path)
