# SPDX-License-Identifier: Apache-2.0
"""Which node a new session gets, within the limits of nodes: by what its client says, by
persistence, by the pool's method."""

from __future__ import annotations

from typing import NamedTuple

from control_segment.content.conditions import Rule
from control_segment.content.content import Wanted
from control_segment.content.said import Said
from control_segment.nodes import Node
from control_segment.pools import Pool, serving
from control_segment.virtual_servers import VirtualServer
from control_segment.wire import src_of


class Choice(NamedTuple):
    """What was chosen."""

    pool: Pool
    node: Node | None  # None: none takes the session
    why: str  # for the trace
    remember_as: bytes | None  # what persistence is to know the session by; None: by nothing
    rule: Rule | None = None  # that holds; it may say that the request is refused

    @property
    def is_refused(self) -> bool:
        """Whether the rule says so."""
        return self.rule is not None and self.rule.config.refuse

    @property
    def by_rule(self) -> str:
        """For people, behind what comes of it; empty: there is no rule."""
        return "" if self.rule is None else self.rule.words


def choose(server: VirtualServer, key: bytes, now: float) -> Choice:
    """For a session of which only the ends are known."""
    pool, client = server.pool, src_of(key)
    if server.persistence is not None:
        node = server.remembered_node(client, now, pool)
        if node is not None:
            return Choice(pool, node, "persistence", client)
    return Choice(pool, pool.method.pick(key, now), pool.method_name, client)


def choose_by_content(server: VirtualServer, key: bytes, said: Said, now: float) -> Choice:
    """For a session whose client has said something (docs/design/0012-content.md)."""
    content = server.content
    if content is None:  # it was of another kind when the DFS asked
        return choose(server, key, now)
    wanted = content.wanted(said, src_of(key))
    rule = wanted.rule
    own, fallback = _pools(server, rule)
    pool = own if fallback is None else serving(own, fallback)
    if rule is not None and rule.config.refuse:
        return Choice(pool, None, "", None, rule)
    if wanted.by_rules_alone:
        return Choice(pool, pool.method.pick(key, now), pool.method_name, None, rule)
    node, why, remember_as = _node(server, pool, wanted, key, now)
    return Choice(pool, node, why, remember_as, rule)


def _pools(server: VirtualServer, rule: Rule | None) -> tuple[Pool, Pool | None]:
    """A pool and its fallback pool; a rule's are its own."""
    if rule is None or rule.config.pool is None:
        return server.own_pool, server.fallback
    pools, fallback = server.rule_pools, rule.config.fallback_pool
    return pools[rule.config.pool], None if fallback is None else pools[fallback]


def names_of(server: VirtualServer, choice: Choice) -> str:
    """The pools of which one would have taken the session, for people."""
    return " or ".join(pool.name for pool in _pools(server, choice.rule) if pool is not None)


def _node(
    server: VirtualServer, pool: Pool, wanted: Wanted, key: bytes, now: float
) -> tuple[Node | None, str, bytes | None]:
    """The node, by what it was chosen, and what it is to be remembered as."""
    for name in wanted.names:
        node = pool.nodes.get(name)
        if node is not None and node.has_room and node.takes_new_sessions:
            return node, f"the node's name in {wanted.by}", wanted.remember_as
    for known_as in wanted.known_as:
        node = server.remembered_node(known_as, now, pool)
        if node is not None:
            return node, "persistence", wanted.remember_as or known_as
    if wanted.hashed is not None:
        return pool.hashed(wanted.hashed, now), f"a hash of {wanted.by}", wanted.remember_as
    return pool.method.pick(key, now), pool.method_name, wanted.remember_as
