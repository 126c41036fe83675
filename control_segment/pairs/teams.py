# SPDX-License-Identifier: Apache-2.0
"""Which member of a team has which flow (wire protocol 14.2).

A flow has one record and one owner, `flow.peer`: the DFS whose packets it is, as far as the CS has
heard.  The others of its team hold spares: entries with the same serial.  `flow.spares` is the set
of those that do, a bit each.  Owner becomes whoever reports packets; that costs no message, so a
flow whose directions pass different DFSs may change its owner as often as they report.
"""

from __future__ import annotations

from typing import Final

from control_segment.flows import FREE, SESSION, Elsewhere, Flow, FlowTable
from control_segment.peers import Member, Peer

_NO_COUNTS: Final = (0, 0, 0, 0)


def holds(member: Member, flow: Flow) -> bool:
    """Whether a member has an entry of this flow, as its owner or as a spare."""
    return flow.peer is member.peer or bool(flow.spares & member.bit)


def are_together(flow: Flow, peer: Peer) -> bool:
    """Whether a DFS is another one than a flow's owner, of the same team."""
    mine, other = flow.peer.member, peer.member
    return (
        mine is not None and other is not None and flow.peer is not peer and mine.team is other.team
    )


def carry(flow: Flow, peer: Peer, *, still_there: bool, keeps_session: bool = False) -> None:
    """Another member is its owner from now on.

    `still_there`: the one before keeps a spare; `keeps_session`: once no DFS has it.
    """
    before, member = flow.peer.member, peer.member
    assert before is not None, "it is of a team"
    assert member is not None, "so is this one"
    elsewhere = flow.elsewhere
    if elsewhere is None:
        elsewhere = flow.elsewhere = Elsewhere()
    elsewhere.keeps_session |= keeps_session
    counts = flow.pkts_in, flow.bytes_in, flow.pkts_out, flow.bytes_out
    elsewhere.counts[flow.peer.segment_id] = counts
    counts = elsewhere.counts.pop(peer.segment_id, _NO_COUNTS)
    flow.pkts_in, flow.bytes_in, flow.pkts_out, flow.bytes_out = counts
    flow.spares &= ~member.bit
    if still_there:
        flow.spares |= before.bit
    flow.peer = peer
    flow.epoch = peer.epoch
    flow.confirmed = peer.sync_number


def has_packets(table: FlowTable, flow: Flow, peer: Peer) -> None:
    """A flow that moved has packets at a member, so that this one is to say when it is idle; the
    others of its team may have lost their spares while it was quiet."""
    elsewhere = flow.elsewhere
    if elsewhere is None:
        return
    if peer.segment_id not in elsewhere.timed:
        elsewhere.timed.add(peer.segment_id)
        table.timed.append((flow, peer))
    table.spread_again(flow)


def reported(flow: Flow, peer: Peer, idle_timeout_s: int) -> None:
    """A member reports an entry of a flow that is another one's (FLOW_STATE): a spare, whose idle
    timeout is longer than its flow's, or the owner's after all."""
    member = peer.member
    assert member is not None, "it is of the flow's team"
    member.renew()
    member.unconfirmed.discard(flow.serial)
    if idle_timeout_s <= flow.idle_s:
        carry(flow, peer, still_there=True)
        flow.elsewhere = None  # what was there before it were spares
    else:
        flow.spares |= member.bit


def gone(table: FlowTable, flow: Flow, peer: Peer, *, has_room: bool) -> None:
    """A member has its spare no longer; it gets another one, unless its table is full."""
    member = peer.member
    assert member is not None, "it is of the flow's team"
    flow.spares &= ~member.bit
    if flow.elsewhere is not None:
        flow.elsewhere.timed.discard(peer.segment_id)
    if has_room and flow.state not in (FREE, SESSION):
        table.spread_again(flow)


def next_holder(flow: Flow) -> Peer | None:
    """Return a member that holds a spare and can be asked about it."""
    mine = flow.peer.member
    if mine is None or not flow.spares:
        return None
    for member in mine.team.members:
        member.renew()
        is_other = member.peer is not flow.peer and flow.spares & member.bit
        if is_other and member.is_reachable and member.peer.answers:
            return member.peer
    return None
