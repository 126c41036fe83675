# SPDX-License-Identifier: Apache-2.0
"""What people may ask a running CS, and how it answers (admin.answers)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain, islice
from typing import Final

from admin import answers
from admin.arguments import Arguments
from admin.commands import Commands
from control_segment.flows import STATE_NAMES, Flow
from control_segment.links import Link
from control_segment.nodes import Node, NodeState
from control_segment.peers import Peer
from control_segment.pools import Pool
from control_segment.segment import ControlSegment
from control_segment.virtual_servers import VirtualServer
from control_segment.wire import SRC_IPADDR, SRC_PORT, signature_of, unpack_translation
from ssmb.addresses import endpoint_text, from_text, to_text
from ssmb.constants import PROTOCOL_NAMES, PROTOCOLS, ForwardMode

_FLOWS_SHOWN: Final = 1000
_AT_ONCE: Final = 500  # nodes or virtual servers: some 4 ms
_MODES: Final = {int(mode): mode.name.lower() for mode in ForwardMode}

COMMANDS: Final = Commands[[ControlSegment, Arguments, float]]("a CS")


def handle(
    segment: ControlSegment, command: str, arguments: Mapping[str, object], now: float
) -> object:
    """Answer one command; ValueError says what is wrong with it.

    A long list is an iterator of its pieces, between which QUERYs may be answered.
    """
    answer = COMMANDS.answer(command, segment, Arguments(arguments), now)
    if not isinstance(answer, Iterator):
        return answer
    first: list[object] = next(answer, [])
    second = next(answer, None)
    return first if second is None else chain([first, second], answer)


@COMMANDS.answers(answers.CS_STATUS)
def _status(
    segment: ControlSegment, arguments: Arguments, now: float
) -> answers.ControlSegmentStatus:
    config, table = segment.config, segment.table
    links = segment.connections.links
    return answers.ControlSegmentStatus(
        segment_id=config.segment_id,
        group_id=config.group_id,
        active=config.active,
        native=segment.batches.is_native,
        boot_id=segment.boot_id,
        uptime_s=round(now - segment.started, 1),
        laboratory=config.laboratory_no_authentication,
        flows=len(table),
        flow_capacity=table.capacity,
        sessions_without_flow=len(table.sessions),
        group_role=segment.group.election.role.value,
        role_epoch=segment.group.election.epoch,
        control_segments=segment.group.describe(now),
        data_flow_segments=[
            _describe_dfs(segment, dfs.address, dfs.port, link, now)
            for dfs, link in zip(config.data_flow_segments, links, strict=True)
        ],
    )


def _describe_dfs(
    segment: ControlSegment, address: str, port: int, link: Link, now: float
) -> answers.DataFlowSegmentPeer:
    peer = None if link.peer_id is None else segment.peers.get(link.peer_id)
    return answers.DataFlowSegmentPeer(
        address=address,
        port=port,
        ready=link.is_ready,
        reason=link.reason,
        segment_id=link.peer_id,
        csmb_version=link.versions.csmb if link.is_ready else None,
        ssmb_version=peer.ssmb_version if peer else None,
        ssmb_address=(endpoint_text(from_text(peer.address[0]), peer.address[1]) if peer else None),
        ssmb_authenticated=peer.authentication.is_proved if peer else False,
        active=peer.is_active if peer else False,
        sync=peer.sync.describe() if peer else None,
        flow_capacity=peer.flow_capacity if peer else None,
        group_role=segment.group.election.role.value if peer else None,
        role_epoch=segment.group.election.epoch if peer else None,
        copy=_describe_copy(segment, peer, now) if peer else None,
        virtual_servers_withheld=link.withheld if link.is_ready else 0,
        team=None if peer is None or peer.member is None else peer.member.team.name,
        team_state=None if peer is None or peer.member is None else peer.member.state_name,
    )


def _describe_copy(segment: ControlSegment, peer: Peer, now: float) -> answers.Copy | None:
    """How far a standby's copy is; None: there is nothing to compare with."""
    if segment.group.is_alone:
        return None
    copy = peer.copy
    return answers.Copy(
        flows=peer.tally.flows,
        complete=copy.is_complete,
        differs=copy.differs and not peer.is_active,
        equal_ms=None if copy.equal_at is None else round((now - copy.equal_at) * 1000),
        datagrams_missed=copy.gaps,
        by_multicast=segment.group.multicast.is_used(peer, now),
    )


@COMMANDS.answers(answers.FLOWS)
def _flows(segment: ControlSegment, arguments: Arguments, now: float) -> list[answers.Flow]:
    limit = arguments.whole_number("limit", 1, answers.FLOWS_MAX["cs"]) or _FLOWS_SHOWN
    client = arguments.address_or_endpoint("client")
    flows = reversed(segment.table.by_key.values())  # the newest first
    if client is not None:
        address, port = from_text(client[0]), client[1]
        octets = None if port is None else port.to_bytes(2, "big")
        flows = (
            flow
            for flow in flows
            if flow.key[SRC_IPADDR] == address and octets in (None, flow.key[SRC_PORT])
        )
    return [_describe_flow(segment, flow, now) for flow in islice(flows, limit)]


def _describe_flow(segment: ControlSegment, flow: Flow, now: float) -> answers.Flow:
    signature = signature_of(flow.key)
    translation = unpack_translation(flow.tail)
    node_port = translation.node_port or signature.dst_port  # 0: as the client sent it
    return answers.Flow(
        client=endpoint_text(signature.src_ipaddr, signature.src_port),
        vip=endpoint_text(signature.dst_ipaddr, signature.dst_port),
        protocol=PROTOCOL_NAMES.get(signature.protocol, str(signature.protocol)),
        serial=flow.serial,
        data_flow_segment=flow.peer.segment_id,
        group_id=segment.config.group_id,
        node=endpoint_text(translation.node_ipaddr, node_port),
        forward_mode=_MODES.get(translation.forward_mode, str(translation.forward_mode)),
        state=STATE_NAMES[flow.state],
        opened_ms=round((now - flow.opened) * 1000),
        idle_ms=round((now - flow.last_active) * 1000),
        idle_timeout_s=flow.idle_s,
        packets_in=flow.pkts_in,
        bytes_in=flow.bytes_in,
        packets_out=flow.pkts_out,
        bytes_out=flow.bytes_out,
        virtual_server=flow.virtual_server.name,
        pool=flow.node.pool_name,
        node_name=flow.node.name,
    )


@COMMANDS.answers(answers.NODES)
def _nodes(
    segment: ControlSegment, arguments: Arguments, now: float
) -> Iterator[list[answers.Node]]:
    piece: list[answers.Node] = []
    for pool in segment.model.every_pool():
        piece += [_describe_node(pool, node, now) for node in pool.every_node()]
        if len(piece) >= _AT_ONCE:
            yield piece
            piece = []
    if piece:
        yield piece


def _describe_node(pool: Pool, node: Node, now: float) -> answers.Node:
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
        packets_in=node.pkts_in,
        bytes_in=node.bytes_in,
        packets_out=node.pkts_out,
        bytes_out=node.bytes_out,
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
        method=server.pool.method_name,
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
    )


@COMMANDS.answers(answers.MESSAGES)
def _messages(segment: ControlSegment, arguments: Arguments, now: float) -> answers.Messages:
    return segment.statistics.describe()


@COMMANDS.answers(answers.TRACE)
def _trace(segment: ControlSegment, arguments: Arguments, now: float) -> list[answers.TraceEntry]:
    found = segment.trace.matching(
        client=_octets(arguments, "client"),
        server=_octets(arguments, "vip"),
        protocol=arguments.choice("protocol", PROTOCOLS),
    )
    return [
        answers.TraceEntry(time=when, ago_ms=round((now - when) * 1000), what=what)
        for when, what in found
    ]


def _octets(arguments: Arguments, name: str) -> tuple[bytes, bytes] | None:
    """An address and a port as session keys have them."""
    endpoint = arguments.endpoint(name)
    if endpoint is None:
        return None
    return from_text(endpoint.address), endpoint.port.to_bytes(2, "big")


@COMMANDS.answers(answers.SET_NODE)
def _set_node(segment: ControlSegment, arguments: Arguments, now: float) -> answers.Node:
    return _changed(segment, arguments, [arguments.text("node")], now)[0]


@COMMANDS.answers(answers.SET_NODES)
def _set_nodes(segment: ControlSegment, arguments: Arguments, now: float) -> list[answers.Node]:
    return _changed(segment, arguments, arguments.texts("nodes"), now)


def _changed(
    segment: ControlSegment, arguments: Arguments, names: list[str], now: float
) -> list[answers.Node]:
    state = arguments.choice("state", {name.value: name.value for name in NodeState})
    weight = arguments.whole_number("weight", 0)
    if state is None and weight is None:
        raise ValueError("set_node: give a weight or a state")
    pool = arguments.text("pool")
    nodes = segment.set_nodes(pool, names, weight=weight, state=state, now=now)
    return [_describe_node(segment.model.pools[pool], node, now) for node in nodes]


@COMMANDS.answers(answers.RESET)
def _reset(segment: ControlSegment, arguments: Arguments, now: float) -> answers.Ordered:
    return answers.Ordered(data_flow_segments=segment.order_reset(now))


@COMMANDS.answers(answers.SWITCHOVER)
def _switchover(
    segment: ControlSegment, arguments: Arguments, now: float
) -> answers.ControlSegmentId:
    wanted = arguments.whole_number("to", 1)
    force = arguments.choice("force", {"yes": True}) or False
    chosen = segment.group.name_successor(wanted, now, force=force)
    return answers.ControlSegmentId(segment_id=chosen)


@COMMANDS.answers(answers.SYNC)
def _sync(segment: ControlSegment, arguments: Arguments, now: float) -> answers.Ordered:
    return answers.Ordered(data_flow_segments=segment.order_sync(now))
