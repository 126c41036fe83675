# SPDX-License-Identifier: Apache-2.0
"""What people may ask a running CS, and how it answers: values that JSON can say."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Final

from control_segment.flows import STATE_NAMES, Flow
from control_segment.nodes import Node
from control_segment.pools import Pool
from control_segment.segment import ControlSegment
from control_segment.virtual_servers import VirtualServer
from control_segment.wire import SRC_IPADDR, signature_of, unpack_translation
from ssmb.addresses import from_text, to_text
from ssmb.constants import PROTOCOL_NAMES, PROTOCOLS

_FLOWS_SHOWN: Final = 100
_FLOWS_SHOWN_MAX: Final = 10_000  # more would keep QUERYs waiting


def handle(
    segment: ControlSegment, command: str, arguments: dict[str, object], now: float
) -> object:
    """Answer one command; ValueError says what is wrong with it."""
    answer = _COMMANDS.get(command)
    if answer is None:
        raise ValueError(f"a CS has no command {command!r}; it has: {', '.join(_COMMANDS)}")
    return answer(segment, arguments, now)


def _flows(segment: ControlSegment, arguments: dict[str, object], now: float) -> object:
    limit = _whole_number(arguments, "limit")
    limit = _FLOWS_SHOWN if limit is None else min(limit, _FLOWS_SHOWN_MAX)
    client = arguments.get("client")
    flows = reversed(segment.table.by_key.values())  # the newest first
    if client is not None:
        wanted = _address(client, "client")
        flows = (flow for flow in flows if flow.key[SRC_IPADDR] == wanted)
    return [_describe_flow(flow, now) for flow in islice(flows, limit)]


def _describe_flow(flow: Flow, now: float) -> dict[str, object]:
    signature = signature_of(flow.key)
    translation = unpack_translation(flow.tail)
    return {
        "source_address": to_text(signature.src_ipaddr),
        "source_port": signature.src_port,
        "destination_address": to_text(signature.dst_ipaddr),
        "destination_port": signature.dst_port,
        "protocol": PROTOCOL_NAMES.get(signature.protocol, str(signature.protocol)),
        "serial": flow.serial,
        "data_flow_segment": flow.peer.segment_id,
        "virtual_server": flow.virtual_server.name,
        "node": flow.node.name,
        "pool": flow.node.pool_name,
        "node_address": to_text(translation.node_ipaddr),
        "node_port": translation.node_port,
        "state": STATE_NAMES[flow.state],
        "opened_ms": round((now - flow.opened) * 1000),
        "idle_ms": round((now - flow.last_active) * 1000),
        "pkts_in": flow.pkts_in,
        "bytes_in": flow.bytes_in,
        "pkts_out": flow.pkts_out,
        "bytes_out": flow.bytes_out,
    }


def _nodes(segment: ControlSegment, arguments: dict[str, object], now: float) -> object:
    return [
        _describe_node(pool, node, now)
        for pool in segment.model.every_pool()
        for node in pool.every_node()
    ]


def _describe_node(pool: Pool, node: Node, now: float) -> dict[str, object]:
    response_ms = pool.response_ms(node)
    return {
        "name": node.name,
        "pool": node.pool_name,
        "address": to_text(node.address),
        "port": node.port,
        "weight": node.weight,
        "state": "removed" if node.removed else node.state.value,
        "connection_limit": node.connection_limit,
        "active": node.active,
        "total": node.total,
        "connections_per_second": round(node.rate, 2),
        "response_ms": None if response_ms is None else round(response_ms, 3),
        "idle_ms": round((now - node.last_active) * 1000) if node.total else None,
        "pkts_in": node.pkts_in,
        "bytes_in": node.bytes_in,
        "pkts_out": node.pkts_out,
        "bytes_out": node.bytes_out,
    }


def _virtual_servers(segment: ControlSegment, arguments: dict[str, object], now: float) -> object:
    return [_describe_server(server) for server in segment.model.virtual_servers.values()]


def _describe_server(server: VirtualServer) -> dict[str, object]:
    config = server.config
    return {
        "name": config.name,
        "address": config.address,
        "port": config.port,
        "protocol": config.protocol,
        "pool": config.pool,
        "method": server.pool.method_name,
        "forward_mode": config.forward_mode,
        "maintenance": config.maintenance,
        "connection_limit": config.connection_limit,
        "persistence": None if server.persistence is None else len(server.persistence),
        "active": server.active,
        "total": server.total,
        "refused": server.refused,
    }


def _messages(segment: ControlSegment, arguments: dict[str, object], now: float) -> object:
    return segment.statistics.describe()


def _status(segment: ControlSegment, arguments: dict[str, object], now: float) -> object:
    config = segment.config
    links = []
    for dfs, link in zip(config.data_flow_segments, segment.connections.links, strict=True):
        peer = None if link.peer_id is None else segment.peers.get(link.peer_id)
        links.append(
            {
                "address": dfs.address,
                "port": dfs.port,
                "ready": link.is_ready,
                "reason": link.reason,
                "segment_id": link.peer_id,
                "csmb_version": link.csmb_version if link.is_ready else None,
                "ssmb_version": peer.ssmb_version if peer else None,
                "ssmb_address": list(peer.address) if peer else None,
                "ssmb_authenticated": peer.authentication.is_proved if peer else False,
                "active": peer.is_active if peer else False,
                "sync": peer.sync.describe() if peer else None,
                "flow_capacity": peer.flow_capacity if peer else None,
            }
        )
    table = segment.table
    return {
        "role": "cs",
        "segment_id": config.segment_id,
        "group_id": config.group_id,
        "active": config.active,
        "boot_id": segment.boot_id,
        "uptime_s": round(now - segment.started, 1),
        "laboratory_no_authentication": config.laboratory_no_authentication,
        "records": len(table),
        "sessions_without_flow": len(table.sessions),
        "capacity": table.capacity,
        "data_flow_segments": links,
    }


def _trace(segment: ControlSegment, arguments: dict[str, object], now: float) -> object:
    protocol = arguments.get("protocol")
    if protocol is not None and protocol not in PROTOCOLS:
        raise ValueError(f"protocol is tcp or udp, not {protocol!r}")
    found = segment.trace.matching(
        client=_endpoint(arguments, "client"),
        server=_endpoint(arguments, "vip"),
        protocol=None if protocol is None else PROTOCOLS[str(protocol)],
    )
    return [
        {"time": when, "ago_ms": round((now - when) * 1000), "what": what} for when, what in found
    ]


def _set_node(segment: ControlSegment, arguments: dict[str, object], now: float) -> object:
    state = arguments.get("state")
    weight = _whole_number(arguments, "weight")
    if state is None and weight is None:
        raise ValueError("set_node: give a weight or a state")
    node = segment.model.set_node(
        _text(arguments, "pool"),
        _text(arguments, "node"),
        weight=weight,
        state=None if state is None else str(state),
    )
    return _describe_node(segment.model.pools[node.pool_name], node, now)


def _reset(segment: ControlSegment, arguments: dict[str, object], now: float) -> object:
    return segment.order_reset(now)


def _sync(segment: ControlSegment, arguments: dict[str, object], now: float) -> object:
    return segment.order_sync(now)


_COMMANDS: Final[dict[str, Callable[[ControlSegment, dict[str, object], float], object]]] = {
    "status": _status,
    "flows": _flows,
    "nodes": _nodes,
    "virtual_servers": _virtual_servers,
    "messages": _messages,
    "trace": _trace,
    "set_node": _set_node,
    "reset": _reset,
    "sync": _sync,
}


# --- arguments -------------------------------------------------------------------------------


def _text(arguments: dict[str, object], name: str) -> str:
    value = arguments.get(name)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} is missing")
    return value


def _whole_number(arguments: dict[str, object], name: str) -> int | None:
    value = arguments.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{name} must be a whole number from 0 on, not {value!r}")
    return value


def _address(value: object, name: str) -> bytes:
    try:
        return from_text(str(value))
    except ValueError:
        raise ValueError(f"{name}: {value!r} is not an address") from None


def _endpoint(arguments: dict[str, object], name: str) -> tuple[bytes, bytes] | None:
    """Return the address and port octets of `1.2.3.4:80` or `[fd00::1]:80`."""
    value = arguments.get(name)
    if value is None:
        return None
    host, colon, port = str(value).rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{name}: {value!r} is not address:port")
    return _address(host.strip("[]"), name), int(port).to_bytes(2, "big")
