# SPDX-License-Identifier: Apache-2.0
"""What people may ask a running CS, and how it answers (admin.answers)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain

from admin import answers
from admin.arguments import Arguments
from control_segment.links import Link
from control_segment.nodes import NodeState
from control_segment.peers import Peer
from control_segment.runtime.admin_tables import COMMANDS, describe_node
from control_segment.segment import ControlSegment
from ssmb.addresses import endpoint_text, from_text

__all__ = ["COMMANDS", "handle"]


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
        successor=segment.group.successor,
        control_segments=segment.group.describe(now),
        waits_for_records=segment.group.waits_for_records,
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


@COMMANDS.answers(answers.MESSAGES)
def _messages(segment: ControlSegment, arguments: Arguments, now: float) -> answers.Messages:
    return segment.statistics.describe()


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
    return [describe_node(segment.model.pools[pool], node, now) for node in nodes]


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
