# SPDX-License-Identifier: Apache-2.0
"""What people may ask a running CS about nodes and virtual servers."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

from admin import answers
from admin.arguments import Arguments
from control_segment.content.config import PLUGIN_KINDS
from control_segment.content.content import Content
from control_segment.nodes import Health, Node, NodeState
from control_segment.pools import Pool
from control_segment.runtime.admin_flows import COMMANDS
from control_segment.segment import ControlSegment
from control_segment.virtual_servers import VirtualServer
from ssmb.addresses import to_text

__all__ = ["COMMANDS", "describe_node"]

_AT_ONCE: Final = 250  # nodes or virtual servers: some 3 ms
_COUNTED: Final = 2000  # likewise
_OFFSET_MAX: Final = 1 << 31


@COMMANDS.answers(answers.NODES)
def _nodes(
    segment: ControlSegment, arguments: Arguments, now: float
) -> Iterator[list[answers.Node]]:
    piece: list[answers.Node] = []
    for pool in segment.model.every_pool():
        piece += [describe_node(pool, node, now) for node in pool.every_node()]
        if len(piece) >= _AT_ONCE:
            yield piece
            piece = []
    if piece:
        yield piece


def describe_node(pool: Pool, node: Node, now: float) -> answers.Node:
    ejection = node.record if node.is_ejected else None
    response_ms = pool.response_ms(node, now)
    return answers.Node(
        name=node.name,
        pool=node.pool_name,
        address=to_text(node.address),
        port=node.port,
        weight=node.weight,
        state="removed" if node.removed else node.state.value,
        connection_limit=node.connection_limit,
        active=node.active - node.granted,
        total=node.total - node.granted,
        connections_per_second=round(node.rate, 2),
        response_ms=None if response_ms is None else round(response_ms, 3),
        idle_ms=round((now - node.last_active) * 1000) if node.total else None,
        failed=node.failed,
        sessions_without_flow=node.without_flow,
        failing=round(node.failing_now(now), 2),
        priority=node.priority,
        in_reserve=node.is_able and node.in_reserve and not node.is_ejected,
        ejected_for_ms=None if ejection is None else round((ejection.until - now) * 1000),
        ejection_reason="" if ejection is None else ejection.reason,
        packets_in=node.pkts_in,
        bytes_in=node.bytes_in,
        packets_out=node.pkts_out,
        bytes_out=node.bytes_out,
        health=None if node.health is None else node.health.value,
        health_reason=node.health_reason,
        health_since_ms=None if node.health is None else round((now - node.health_since) * 1000),
        effective_weight=round(node.effective_weight, 2),
    )


@COMMANDS.answers(answers.VIRTUAL_SERVERS)
def _virtual_servers(
    segment: ControlSegment, arguments: Arguments, now: float
) -> Iterator[list[answers.VirtualServer]]:
    group_id = segment.config.group_id
    servers = iter(list(segment.model.virtual_servers.values()))
    while piece := list(islice(servers, _AT_ONCE)):
        yield [_describe_server(segment, server, group_id, now) for server in piece]


def _describe_server(
    segment: ControlSegment, server: VirtualServer, group_id: int, now: float
) -> answers.VirtualServer:
    config = server.config
    return answers.VirtualServer(
        name=config.name,
        address=config.address,
        port=config.port,
        protocol=config.protocol,
        group_id=group_id,
        pool=config.pool,
        method=server.own_pool.method_name,
        forward_mode=config.forward_mode,
        answer_arp=config.answer_arp and config.address != "*",
        maintenance=config.maintenance,
        connection_limit=config.connection_limit,
        persistence=None if server.persistence is None else len(server.persistence),
        active=server.active - server.granted,
        sessions_without_flow=server.without_flow,
        total=server.total,
        refused=server.refused,
        granted=server.granted,
        answered_ahead=server.ahead,
        asked=server.total - server.ahead,
        why_asked=segment.grants.why_asked(server, now),
        fallback_pool=config.fallback_pool,
        serving_pool=None if server.fallback is None else server.pool.name,
        kind=config.kind,
        rules=None if server.content is None else _rules(server.content),
        unmatched=None if server.content is None else server.content.unmatched,
        unreadable=_unreadable(server),
    )


def _unreadable(server: VirtualServer) -> int | None:
    if server.content is None or server.config.kind in PLUGIN_KINDS:
        return None
    return server.content.unreadable


def _rules(content: Content) -> list[answers.Rule]:
    return [
        answers.Rule(
            name=rule.name,
            pool=None if rule.config.refuse else rule.config.pool,
            matched=rule.matched,
        )
        for rule in content.rules.in_order
    ]


# --- pages, for lists that are too long to be asked for again and again -----------------------


@COMMANDS.answers(answers.NODE_PAGE)
def _node_page(segment: ControlSegment, arguments: Arguments, now: float) -> answers.NodePage:
    wanted = _names(arguments, "pool", "pools")
    each = arguments.whole_number("per_pool", 1, answers.PAGE_MAX)
    offset, limit = _page(arguments)
    total, found = 0, list[answers.Node]()
    for pool in segment.model.every_pool():
        if wanted is not None and pool.name not in wanted:
            continue
        count = len(pool.nodes) + len(pool.leaving)
        if each is not None:
            count = min(count, each)
        total += count
        if offset >= count or len(found) >= limit:
            offset = max(0, offset - count)
            continue
        some = pool.every_node()[offset : min(count, offset + limit - len(found))]
        offset = 0
        found += [describe_node(pool, node, now) for node in some]
    return answers.NodePage(total=total, items=found)


def _names(arguments: Arguments, one: str, several: str) -> frozenset[str] | None:
    """None: whatever the name is."""
    name, names = arguments.optional_text(one), arguments.optional_texts(several)
    if name is None:
        return None if names is None else frozenset(names)
    return frozenset([name, *(names or ())])


@COMMANDS.answers(answers.VIRTUAL_SERVER_PAGE)
def _server_page(
    segment: ControlSegment, arguments: Arguments, now: float
) -> answers.VirtualServerPage:
    wanted, pool = _names(arguments, "name", "names"), arguments.optional_text("pool")
    offset, limit = _page(arguments)
    servers = [
        server
        for server in segment.model.virtual_servers.values()
        if (wanted is None or server.config.name in wanted)
        and (pool is None or pool in server.config.pool_names)
    ]
    group_id = segment.config.group_id
    shown = servers[offset : offset + limit]
    return answers.VirtualServerPage(
        total=len(servers),
        items=[_describe_server(segment, server, group_id, now) for server in shown],
    )


def _page(arguments: Arguments) -> tuple[int, int]:
    return (
        arguments.whole_number("offset", 0, _OFFSET_MAX) or 0,
        arguments.whole_number("limit", 1, answers.PAGE_MAX) or answers.PAGE_MAX,
    )


@COMMANDS.answers(answers.TOTALS)
def _totals(
    segment: ControlSegment, arguments: Arguments, now: float
) -> Iterator[list[answers.Totals]]:
    """Of some nodes or virtual servers each; whoever asks adds them up."""
    servers = list(segment.model.virtual_servers.values())
    for start in range(0, max(1, len(servers)), _COUNTED):
        some = servers[start : start + _COUNTED]
        yield [
            answers.Totals(
                virtual_servers=len(some),
                connections=sum(server.total for server in some),
                refused=sum(server.refused for server in some),
                active=sum(server.active - server.granted for server in some),
            )
        ]
    nodes: list[Node] = []
    for pool in segment.model.every_pool():
        nodes += pool.every_node()
        if len(nodes) >= _COUNTED:
            yield [_of_nodes(nodes)]
            nodes = []
    yield [_of_nodes(nodes)]


def _of_nodes(nodes: list[Node]) -> answers.Totals:
    return answers.Totals(
        nodes=sum(not node.removed for node in nodes),
        nodes_down=sum(not node.takes_new_sessions for node in nodes if not node.removed),
        packets_in=sum(node.pkts_in for node in nodes),
        bytes_in=sum(node.bytes_in for node in nodes),
        packets_out=sum(node.pkts_out for node in nodes),
        bytes_out=sum(node.bytes_out for node in nodes),
    )


@COMMANDS.answers(answers.ATTENTION)
def _attention(
    segment: ControlSegment, arguments: Arguments, now: float
) -> Iterator[list[answers.Attention]]:
    """Of some pools each; whoever asks adds them up."""
    pools: list[Pool] = []
    nodes = 0
    for pool in list(segment.model.pools.values()):
        pools.append(pool)
        nodes += 1 + len(pool.nodes)
        if nodes >= _COUNTED:
            yield [_of_pools(pools)]
            pools, nodes = [], 0
    yield [_of_pools(pools)]


def _of_pools(pools: list[Pool]) -> answers.Attention:
    failing: list[str] = []
    unserved: list[str] = []
    rates: list[answers.PoolRate] = []
    for pool in pools:
        nodes = pool.every_node()
        failing += [
            f"{pool.name}/{node.name}"
            for node in nodes
            if node.health is Health.DOWN and node.state is NodeState.ENABLED and not node.removed
        ]
        if pool.nodes and not any(node.is_able for node in nodes):
            unserved.append(pool.name)
        rate = round(sum(node.rate for node in nodes), 2)
        rates.append(
            answers.PoolRate(pool=pool.name, connections_per_second=rate, nodes=len(nodes))
        )
    return answers.Attention(
        pools=len(pools),
        connections_per_second=round(sum(each.connections_per_second for each in rates), 2),
        failing=len(failing),
        failing_nodes=failing[: answers.SHOWN_FIRST],
        unserved=len(unserved),
        unserved_pools=unserved[: answers.SHOWN_FIRST],
        busiest=answers.busiest(rates),
    )
