# SPDX-License-Identifier: Apache-2.0
"""What people may ask a running DFS, and how it answers (admin.answers)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Final, TypeAlias

from admin import answers
from admin.arguments import Arguments
from admin.commands import Commands
from data_flow_segment.agent import Agent
from data_flow_segment.flow_rows import (
    handshake_flow,
    installed_flow,
    mode_name,
    pending_flow,
    state_of,
)
from data_flow_segment.flow_search import wanted_flows
from data_flow_segment.peers.groups import Group, Peer
from data_flow_segment.peers.virtual_servers import VirtualServer
from data_flow_segment.targets.contract import Counter
from data_flow_segment.targets.grants import GrantState
from ssmb.addresses import endpoint_text, from_text, to_text
from ssmb.codec import TYPE_OF
from ssmb.constants import PROTOCOL_NAMES, PROTOCOLS, TCP, CloseReason, ErrorCode
from ssmb.messages import Session

FLOWS_DEFAULT: Final = 1000
_SLICE: Final = 256  # flows or virtual servers read at a time: about a millisecond
_MESSAGE_NAMES: Final = {cls.__name__: kind.name for cls, kind in TYPE_OF.items()}
_MESSAGE_DROPS: Final = (
    "invalid_msg",
    "ignored_msg",
    "drop_not_active",
    "drop_other_group",
    "replies_stale",
    "drop_unknown_source",
    "drop_bad_tag",
    "drop_replayed",
    "drop_too_old",
    "drop_too_short",
    "drop_multicast_bad_tag",
    "drop_multicast_repeated",
    "drop_multicast_too_old",
    "drop_multicast_not_active",
    "drop_multicast_for_others",
)

Clock: TypeAlias = Callable[[], float]
COMMANDS: Final = Commands[[Agent, Arguments, Clock]]("a DFS")


@COMMANDS.answers(answers.DFS_STATUS)
def _status(agent: Agent, arguments: Arguments, clock: Clock) -> answers.DataFlowSegmentStatus:
    target = agent.target
    return answers.DataFlowSegmentStatus(
        segment_id=agent.segment_id,
        boot_id=target.boot_id,
        uptime_s=round(clock() - agent.started, 1),
        laboratory=agent.laboratory,
        flows=target.flow_count(),
        flow_capacity=target.flow_capacity,
        adopted=target.adopted,
        pending=len(agent.new_flows.pending),
        negative=len(agent.new_flows.negative),
        lingering=len(agent.endings.ended.lingering),
        held_octets=agent.new_flows.pending.held_octets + agent.handshakes.table.held_octets,
        collecting=len(agent.handshakes.table),
        groups=[_group(agent, group, clock()) for group in agent.peers.groups.values()],
    )


def _group(agent: Agent, group: Group, now: float) -> answers.Group:
    return answers.Group(
        group_id=group.group_id,
        asks=agent.offloads.who_asks(group.group_id),
        active=None if group.active is None else _peer(group.active, now),
        standbys=[_peer(peer, now) for peer in group.standbys],
        role_epoch=group.claim.role_epoch,
    )


def _peer(peer: Peer, now: float) -> answers.ControlSegmentPeer:
    address, port = peer.link.endpoint
    return answers.ControlSegmentPeer(
        segment_id=peer.hello.segment_id,
        ssmb_address=endpoint_text(from_text(address), port),
        ssmb_version=peer.ssmb_version[0],
        ssmb_authenticated=peer.ssmb_proved,
        active=peer.is_active,
        role_epoch=peer.hello.role_epoch,
        takes_queries=peer.may_ask,
        synced=peer.synced,
        connections=len(peer.connections),
        heartbeat_ms=None if peer.heard_at is None else round((now - peer.heard_at) * 1000),
        silent=peer.is_silent,
    )


@COMMANDS.answers(answers.FLOWS)
def _flows(agent: Agent, arguments: Arguments, clock: Clock) -> Iterator[list[answers.Flow]]:
    """In slices: new flows do not wait for a long table."""
    left = arguments.whole_number("limit", 1, answers.FLOWS_MAX["dfs"]) or FLOWS_DEFAULT
    wanted = wanted_flows(arguments)
    now = clock()
    found = [
        pending_flow(agent, session, waiting, now)
        for session, waiting in agent.new_flows.pending.by_session.items()
        if wanted.fits_pending(session)
    ]
    connections = agent.handshakes.by_session
    found += [
        handshake_flow(agent, handshake, now)
        for session, handshake in connections.items()
        if wanted.fits_pending(session)
        or (handshake.entry is not None and wanted.fits(handshake.entry))
    ]
    found = found[:left]
    yield found
    left -= len(found)
    cursor: bytes | None = None
    while left:
        states, cursor = agent.target.scan(cursor, _SLICE)
        now = clock()
        found = [
            installed_flow(agent, state, now)
            for state in states
            if wanted.fits(state.entry) and state.entry.signature.session not in connections
        ][:left]
        yield found
        left -= len(found)
        if cursor is None:
            return


@COMMANDS.answers(answers.VIRTUAL_SERVERS)
def _virtual_servers(
    agent: Agent, arguments: Arguments, clock: Clock
) -> Iterator[list[answers.VirtualServer]]:
    states = {state.key: state for state in agent.target.grant_states()}
    servers = iter(list(agent.servers.by_key.items()))
    while some := list(islice(servers, _SLICE)):
        yield [_virtual_server(agent, server, states.get(key)) for key, server in some]


def _virtual_server(
    agent: Agent, server: VirtualServer, state: GrantState | None
) -> answers.VirtualServer:
    key = server.key
    because = {} if state is None else state.counts._asdict()
    ahead = because.pop("taken", None)
    because.pop("raced", None)  # such a flow went by the entry that was there
    active = agent.peers.active_of(server.group_id)
    return answers.VirtualServer(
        address="*" if key.virt_ipaddr is None else to_text(key.virt_ipaddr),
        port="*" if key.virt_port is None else key.virt_port,
        protocol=PROTOCOL_NAMES.get(key.protocol, str(key.protocol)),
        group_id=server.group_id,
        forward_mode=mode_name(server.forward_mode),
        answer_arp=server.entry.answer_arp,
        bridged=server.bridged,
        active_cs=None if active is None else active.hello.segment_id,
        granted=None if state is None else state.given - state.taken,
        answered_ahead=ahead,
        asked=None if state is None else sum(because.values()),
        asked_because=None if state is None else because,
        why_asked=", ".join(f"{name} {count}" for name, count in because.items() if count) or None,
    )


@COMMANDS.answers(answers.MESSAGES)
def _messages(agent: Agent, arguments: Arguments, clock: Clock) -> answers.Messages:
    outbox = agent.outbox
    known = outbox.counters.as_mapping()
    return answers.Messages(
        sent=_by_wire_name(outbox.sent),
        received=_by_wire_name(outbox.received),
        dropped={name: _counter(known[name]) for name in _MESSAGE_DROPS},
        datagrams_sent=outbox.counters["datagrams_sent"],
        datagrams_received=outbox.counters["datagrams_received"],
    )


def _by_wire_name(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted((_MESSAGE_NAMES[name], count) for name, count in counts.items()))


@COMMANDS.answers(answers.COUNTERS)
def _counters(agent: Agent, arguments: Arguments, clock: Clock) -> dict[str, answers.Counter]:
    return {name: _counter(counter) for name, counter in agent.counters().items()}


def _counter(counter: Counter) -> answers.Counter:
    return answers.Counter(value=counter.value, normal=counter.normal, meaning=counter.meaning)


@COMMANDS.answers(answers.TRACE)
def _trace(agent: Agent, arguments: Arguments, clock: Clock) -> list[answers.TraceEntry]:
    """What happened lately to one flow."""
    client, vip = arguments.endpoint("client"), arguments.endpoint("vip")
    if client is None or vip is None:
        raise ValueError("trace: give the client and the vip, each as address:port")
    protocol = arguments.choice("protocol", PROTOCOLS) or TCP
    session = Session(
        from_text(client.address), from_text(vip.address), client.port, vip.port, protocol
    )
    now = clock()
    found = [
        answers.TraceEntry(
            time=entry.at,
            ago_ms=round((now - entry.at) * 1000),
            what=_sentence(entry.what, entry.serial, entry.detail),
        )
        for entry in agent.outbox.trace_of(session)
    ]
    waiting = agent.new_flows.pending.by_session.get(session)
    if waiting is not None:
        what = f"waits for the CS, {len(waiting.packets)} packets held"
        found.append(answers.TraceEntry(time=now, ago_ms=0, what=what))
    handshake = agent.handshakes.by_session.get(session)
    if handshake is not None:
        what = f"is {state_of(handshake)}, not spliced yet"
        found.append(answers.TraceEntry(time=now, ago_ms=0, what=what))
    return found


def _sentence(what: str, serial: int, detail: int) -> str:
    if what == "query":
        repeat = f", repeat {detail}" if detail else ""
        return f"QUERY sent{repeat} (serial {serial:#x})"
    if what == "app_query":
        repeat = f", repeat {detail}" if detail else ""
        return f"APP_QUERY sent{repeat} (serial {serial:#x})"
    if what == "not spliced":
        return f"ended before it was spliced: {_name(CloseReason, detail)} (serial {serial:#x})"
    if what == "installed":
        return f"installed from the REPLY, {detail} held packets sent (serial {serial:#x})"
    if what == "refused":
        return f"the CS refused: {_name(ErrorCode, detail)} (serial {serial:#x})"
    if what == "closed":
        return f"closed by {_name(CloseReason, detail)}, reported to the CS (serial {serial:#x})"
    if what == "deleted":
        return f"deleted: {_name(CloseReason, detail)}, reported to the CS (serial {serial:#x})"
    if what == "given up":
        return f"no REPLY after {detail} repeats, held packets dropped (serial {serial:#x})"
    return f"{what} (serial {serial:#x})"


def _name(enum: type[ErrorCode] | type[CloseReason], number: int) -> str:
    try:
        return enum(number).name
    except ValueError:
        return str(number)
