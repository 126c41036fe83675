# SPDX-License-Identifier: Apache-2.0
"""The metrics of rules, of a CS's virtual servers that read what clients say."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from admin.answers import VirtualServer
from admin.metrics.tables import Group, Metric


class RuleCount(NamedTuple):
    """A rule, and how many connections it decided."""

    virtual_server: str
    rule: str
    action: str
    number: int


RULE: Final[Group[RuleCount]] = Group(
    "each rule of a virtual server",
    ("virtual_server", "rule", "action"),
    lambda it: (it.virtual_server, it.rule, it.action),
    (
        Metric(
            "splitplane_cs_rule_connections_total", "counter",
            "Connections that it decided; `action` is `pool` or `refuse`. A rule that keeps its"
            " name keeps its count when the configuration is reloaded.",
            lambda it: it.number,
        ),
    ),
)  # fmt: skip


def of_servers(servers: Iterable[VirtualServer]) -> list[RuleCount]:
    """Those of all virtual servers; as many as the configuration has rules."""
    return [
        RuleCount(
            server.name or "", rule.name, "refuse" if rule.pool is None else "pool", rule.matched
        )
        for server in servers
        for rule in server.rules or ()
    ]
