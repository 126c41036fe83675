# SPDX-License-Identifier: Apache-2.0
"""Flows as `show flows` has them: installed, pending, or not spliced yet."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from admin import answers
from data_flow_segment.agent import Agent
from data_flow_segment.flow_search import node_port_of
from data_flow_segment.flows.assisted import is_assisted
from data_flow_segment.flows.handshake import Handshake
from data_flow_segment.flows.pending import PendingFlow
from data_flow_segment.targets.contract import FlowEntry, FlowState
from splicing.table import State
from ssmb.addresses import endpoint_text
from ssmb.constants import PROTOCOL_NAMES, Flag, ForwardMode
from ssmb.messages import Session

_MODES: Final = {int(mode): mode.name.lower() for mode in ForwardMode}
_STATES: Final = {
    State.COLLECT: "collecting",
    State.ASKED: "deciding",
    State.NODE_HANDSHAKE: "connecting",
    State.RELAY: "relayed",
}


def mode_name(number: int) -> str:
    """Of a forward mode."""
    return _MODES.get(number, str(number))


def state_of(handshake: Handshake) -> str:
    """Where a connection that is not spliced stands."""
    return _STATES.get(handshake.connection.state, "joining")


def installed_flow(agent: Agent, state: FlowState, now: float) -> answers.Flow:
    """A flow of the target's."""
    entry, counters = state.entry, state.counters
    signature = entry.signature
    node_port = node_port_of(entry)
    return answers.Flow(
        client=endpoint_text(signature.src_ipaddr, signature.src_port),
        vip=endpoint_text(signature.dst_ipaddr, signature.dst_port),
        protocol=PROTOCOL_NAMES.get(signature.protocol, str(signature.protocol)),
        serial=entry.serial,
        data_flow_segment=agent.segment_id,
        group_id=entry.group_id,
        node=endpoint_text(entry.node_ipaddr, node_port),
        forward_mode=mode_name(entry.forward_mode),
        state=_state_of(state),
        opened_ms=_age_ms(entry.opened_ms, now),
        idle_ms=state.idle_ms,
        idle_timeout_s=entry.idle_timeout_s,
        packets_in=counters.pkts_in,
        bytes_in=counters.bytes_in,
        packets_out=counters.pkts_out,
        bytes_out=counters.bytes_out,
        spliced=_is_spliced(entry),
    )


def pending_flow(agent: Agent, session: Session, waiting: PendingFlow, now: float) -> answers.Flow:
    """A flow that waits for a CS."""
    return replace(
        _without_packets(agent, session, waiting, now),
        state="pending",
        packets_held=len(waiting.packets),
    )


def handshake_flow(agent: Agent, handshake: Handshake, now: float) -> answers.Flow:
    """A connection to a content-aware virtual server."""
    entry = handshake.entry
    return replace(
        _without_packets(agent, handshake.session, handshake, now),
        node=None if entry is None else endpoint_text(entry.node_ipaddr, node_port_of(entry)),
        forward_mode=None if entry is None else mode_name(entry.forward_mode),
        state=state_of(handshake),
        octets_held=handshake.held_octets,
        spliced=False,
    )


def _without_packets(
    agent: Agent, session: Session, waiting: PendingFlow | Handshake, now: float
) -> answers.Flow:
    """What the target forwards nothing of."""
    return answers.Flow(
        client=endpoint_text(session.src_ipaddr, session.src_port),
        vip=endpoint_text(session.dst_ipaddr, session.dst_port),
        protocol=PROTOCOL_NAMES.get(session.protocol, str(session.protocol)),
        serial=waiting.serial,
        data_flow_segment=agent.segment_id,
        group_id=waiting.group_id,
        node=None,
        forward_mode=None,
        state="",
        opened_ms=_age_ms(waiting.opened_ms, now),
        idle_ms=None,
        idle_timeout_s=None,
        packets_in=0,
        bytes_in=0,
        packets_out=0,
        bytes_out=0,
        query_repeats=waiting.tries,
    )


def _age_ms(opened_ms: int, now: float) -> int:
    """How long ago; the data path counts in 32 bits."""
    return (int(now * 1000) - opened_ms) & 0xFFFF_FFFF


def _is_spliced(entry: FlowEntry) -> bool | None:
    """None: it is a plain flow, as far as its entry says."""
    if entry.held:
        return False
    return True if entry.flags & Flag.ADD_TCP_OFFSETS else None


def _state_of(state: FlowState) -> str:
    if state.entry.held:
        return "assisted" if is_assisted(state.entry) else "held"
    return "closing" if state.closing else "established"
