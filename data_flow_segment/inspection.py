# SPDX-License-Identifier: Apache-2.0
"""What an operator is shown: values that can be said in JSON."""

from __future__ import annotations

import ipaddress

from data_flow_segment.agent import Agent
from data_flow_segment.flows.pending import PendingFlow
from data_flow_segment.peers.groups import Group, Peer
from data_flow_segment.peers.virtual_servers import VirtualServer
from data_flow_segment.targets.contract import FlowState
from ssmb.addresses import from_text, is_ipv4, to_text
from ssmb.constants import PROTOCOL_NAMES, PROTOCOLS, CloseReason, ErrorCode, Flag, ForwardMode
from ssmb.messages import Session

Json = dict[str, object]


def endpoint_text(address: bytes, port: int) -> str:
    """``10.0.0.1:80`` or ``[fd00::1]:80``."""
    text = to_text(address)
    return f"{text}:{port}" if is_ipv4(address) else f"[{text}]:{port}"


def parse_endpoint(text: object, what: str) -> tuple[bytes, int]:
    """The inverse of `endpoint_text`; ValueError says what is wrong."""
    host, colon, port = str(text).rpartition(":")
    try:
        if not colon or not 0 <= int(port) <= 0xFFFF:
            raise ValueError
        return from_text(str(ipaddress.ip_address(host.strip("[]")))), int(port)
    except ValueError:
        raise ValueError(
            f"{what}: expected address:port, like 10.0.0.1:80 or [fd00::1]:80, not {text!r}"
        ) from None


def parse_protocol(text: object) -> int:
    """``tcp`` or ``udp``."""
    number = PROTOCOLS.get(str(text).lower())
    if number is None:
        raise ValueError(f"protocol: expected tcp or udp, not {text!r}")
    return number


def flow(state: FlowState, now: float) -> Json:
    """An installed flow."""
    entry, counters, idle_ms, _, closing = state
    return {
        **_signature(entry.signature.session),
        "serial": entry.serial,
        "group": entry.group_id,
        "node": endpoint_text(
            entry.node_ipaddr,
            entry.node_port if entry.flags & Flag.TRANSLATE_PORT else entry.signature.dst_port,
        ),
        "forward_mode": _mode(entry.forward_mode),
        "state": "closing" if closing else "established",
        "opened_ms": _age_ms(entry.opened_ms, now),
        "idle_ms": idle_ms,
        "idle_timeout_s": entry.idle_timeout_s,
        **counters._asdict(),
    }


def pending_flow(session: Session, waiting: PendingFlow, now: float) -> Json:
    """A flow that waits for the CS."""
    return {
        **_signature(session),
        "serial": waiting.serial,
        "group": waiting.group_id,
        "node": None,
        "state": "waiting for the CS",
        "opened_ms": _age_ms(waiting.opened_ms, now),
        "packets_held": len(waiting.packets),
        "query_repeats": waiting.tries,
    }


def _age_ms(opened_ms: int, now: float) -> int:
    """How long ago; the data path counts in 32 bits."""
    return (int(now * 1000) - opened_ms) & 0xFFFF_FFFF


def virtual_servers(agent: Agent) -> list[Json]:
    """All virtual servers that were announced."""
    return [_virtual_server(agent, server) for server in agent.servers.by_key.values()]


def messages(agent: Agent) -> Json:
    """Messages by type, and what was dropped of datagrams and messages."""
    counters = agent.outbox.counters
    drops = ("invalid_msg", "ignored_msg", "drop_not_active", "drop_other_group", "replies_stale")
    named = [name for name in counters if name in drops or _is_datagram_drop(name)]
    return {
        "sent": dict(sorted(agent.outbox.sent.items())),
        "received": dict(sorted(agent.outbox.received.items())),
        "dropped": {name: counters[name] for name in named},
        "datagrams_sent": counters["datagrams_sent"],
        "datagrams_received": counters["datagrams_received"],
    }


def counters(agent: Agent) -> Json:
    """Every counter with its meaning."""
    return {name: counter._asdict() for name, counter in agent.counters().items()}


def status(agent: Agent) -> Json:
    """Who is there, and how full what is."""
    target = agent.target
    return {
        "segment_id": agent.segment_id,
        "boot_id": target.boot_id,
        "adopted": target.adopted,
        "flows": target.flow_count(),
        "flow_capacity": target.flow_capacity,
        "pending": len(agent.new_flows.pending),
        "negative": len(agent.new_flows.negative),
        "lingering": len(agent.endings.ended.lingering),
        "held_octets": agent.new_flows.pending.held_octets,
        "groups": [_group(group) for group in agent.peers.groups.values()],
        "laboratory": agent.laboratory,
    }


def trace(agent: Agent, arguments: Json, now: float) -> list[Json]:
    """What happened lately to one flow: client and vip as address:port, protocol."""
    client = parse_endpoint(arguments.get("client"), "client")
    vip = parse_endpoint(arguments.get("vip"), "vip")
    protocol = parse_protocol(arguments.get("protocol", "tcp"))
    session = Session(client[0], vip[0], client[1], vip[1], protocol)
    found = [
        {
            "seconds_ago": round(now - entry.at, 3),
            "time": entry.at,
            "what": _sentence(entry.what, entry.serial, entry.detail),
        }
        for entry in agent.outbox.trace_of(session)
    ]
    waiting = agent.new_flows.pending.by_session.get(session)
    if waiting is not None:
        found.append(
            {
                "seconds_ago": 0.0,
                "time": now,
                "what": f"waits for the CS, {len(waiting.packets)} packets held",
            }
        )
    return found


def is_client(session: Session, client: str | None) -> bool:
    """Whether a flow's client is this address, or this address:port; None is any."""
    if client is None:
        return True
    return client in (
        to_text(session.src_ipaddr),
        endpoint_text(session.src_ipaddr, session.src_port),
    )


def _signature(session: Session) -> Json:
    return {
        "client": endpoint_text(session.src_ipaddr, session.src_port),
        "vip": endpoint_text(session.dst_ipaddr, session.dst_port),
        "protocol": PROTOCOL_NAMES.get(session.protocol, str(session.protocol)),
    }


def _virtual_server(agent: Agent, server: VirtualServer) -> Json:
    key = server.key
    group = agent.peers.groups.get(server.group_id)
    return {
        "address": "*" if key.virt_ipaddr is None else to_text(key.virt_ipaddr),
        "port": "*" if key.virt_port is None else key.virt_port,
        "protocol": PROTOCOL_NAMES.get(key.protocol, str(key.protocol)),
        "group": server.group_id,
        "forward_mode": _mode(server.forward_mode),
        "answer_arp": server.entry.answer_arp,
        "bridged": server.bridged,
        "cs": None if group is None or group.active is None else group.active.hello.segment_id,
    }


def _group(group: Group) -> Json:
    return {
        "group": group.group_id,
        "active": None if group.active is None else _peer(group.active),
        "standbys": [_peer(peer) for peer in group.standbys],
    }


def _peer(peer: Peer) -> Json:
    return {
        "segment_id": peer.hello.segment_id,
        "role_epoch": peer.hello.role_epoch,
        "ssmb": f"{peer.link.endpoint[0]} port {peer.link.endpoint[1]}",
        "ssmb_version": ".".join(map(str, peer.ssmb_version)),
        "listens": peer.may_ask,
        "synced": peer.synced,
        "connections": len(peer.connections),
    }


def _mode(number: int) -> str:
    try:
        return ForwardMode(number).name.lower()
    except ValueError:
        return str(number)


def _is_datagram_drop(name: str) -> bool:
    return name in (
        "drop_unknown_source",
        "drop_bad_tag",
        "drop_replayed",
        "drop_too_old",
        "drop_too_short",
    )


def _sentence(what: str, serial: int, detail: int) -> str:
    if what == "query":
        repeat = f", repeat {detail}" if detail else ""
        return f"QUERY sent{repeat} (serial {serial:#x})"
    if what == "installed":
        return f"installed as the CS said, {detail} held packets sent (serial {serial:#x})"
    if what == "refused":
        return f"the CS refused: {_name(ErrorCode, detail)} (serial {serial:#x})"
    if what == "closed":
        return f"closed by {_name(CloseReason, detail)}, CS told (serial {serial:#x})"
    if what == "deleted":
        return f"deleted: {_name(CloseReason, detail)}, CS told (serial {serial:#x})"
    if what == "given up":
        return f"no REPLY after {detail} repeats, held packets dropped (serial {serial:#x})"
    return f"{what} (serial {serial:#x})"


def _name(enum: type[ErrorCode] | type[CloseReason], number: int) -> str:
    try:
        return enum(number).name
    except ValueError:
        return str(number)
