# SPDX-License-Identifier: Apache-2.0
"""What people may ask a running CS about flows, and what they may do to one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from admin import answers
from admin.arguments import Arguments
from admin.commands import Commands
from control_segment.flows import STATE_NAMES, Flow
from control_segment.segment import ControlSegment
from control_segment.wire import (
    PROTOCOL,
    dst_of,
    dst_port_of,
    session_key,
    signature_of,
    src_of,
    src_port_of,
    unpack_translation,
)
from ssmb.addresses import endpoint_text, from_text
from ssmb.constants import PROTOCOL_NAMES, PROTOCOLS, ForwardMode

_FLOWS_SHOWN: Final = 1000
_LOOKED_AT: Final = 2000  # flows, between QUERYs: some ms
_DESCRIBED: Final = 200  # likewise
_MODES: Final = {int(mode): mode.name.lower() for mode in ForwardMode}

COMMANDS: Final = Commands[[ControlSegment, Arguments, float]]("a CS")
"""Those of this module; `admin_tables` and `admin` add theirs."""


@COMMANDS.answers(answers.FLOWS)
def _flows(
    segment: ControlSegment, arguments: Arguments, now: float
) -> Iterator[list[answers.Flow]]:
    left = arguments.whole_number("limit", 1, answers.FLOWS_MAX["cs"]) or _FLOWS_SHOWN
    fits = _filter(arguments)
    return _found(segment, fits, left, now)


def _found(
    segment: ControlSegment, fits: Callable[[Flow], bool] | None, left: int, now: float
) -> Iterator[list[answers.Flow]]:
    """In pieces, the newest first; what begins meanwhile is not among them."""
    flows = list(segment.table.by_key.values())
    end = len(flows)
    while end and left:
        start = max(0, end - (_DESCRIBED if fits is None else _LOOKED_AT))
        piece = flows[start:end]
        piece.reverse()
        end = start
        found = [flow for flow in piece if flow.state and (fits is None or fits(flow))][:left]
        left -= len(found)
        for first in range(0, len(found), _DESCRIBED):
            some = found[first : first + _DESCRIBED]
            yield [_describe_flow(segment, flow, now) for flow in some if flow.state]
        if not found:
            yield []


def _filter(arguments: Arguments) -> Callable[[Flow], bool] | None:
    """By any part of what a flow is known by; None: all are wanted."""
    tests: list[Callable[[Flow], bool]] = []
    for name, address_of, port_of in (
        ("client", src_of, src_port_of),
        ("vip", dst_of, dst_port_of),
    ):
        end = arguments.address_or_endpoint(name)
        if end is not None:
            tests.append(_of_key(address_of, from_text(end[0])))
            if end[1] is not None:
                tests.append(_of_key(port_of, end[1].to_bytes(2, "big")))
    protocol = arguments.choice("protocol", PROTOCOLS)
    if protocol is not None:
        tests.append(lambda flow: flow.key[PROTOCOL] == protocol)
    server = arguments.optional_text("virtual_server")
    if server is not None:
        tests.append(lambda flow: flow.virtual_server.name == server)
    pool = arguments.optional_text("pool")
    if pool is not None:
        tests.append(lambda flow: flow.node.pool_name == pool)
    node = arguments.optional_text("node")
    if node is not None:
        tests.append(_of_node(node))
    return (lambda flow: all(test(flow) for test in tests)) if tests else None


def _of_key(part_of: Callable[[bytes], bytes], octets: bytes) -> Callable[[Flow], bool]:
    return lambda flow: part_of(flow.key) == octets


def _of_node(text: str) -> Callable[[Flow], bool]:
    """By its name, or by its address with or without a port."""
    try:
        end = Arguments({"node": text}).address_or_endpoint("node")
    except ValueError:
        return lambda flow: flow.node.name == text
    assert end is not None
    address, port = from_text(end[0]), end[1]

    def fits(flow: Flow) -> bool:
        own = flow.node.port or int.from_bytes(dst_port_of(flow.key), "big")
        return flow.node.address == address and port in (None, own)

    return fits


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
        kind=flow.virtual_server.config.kind,
        spliced=None if flow.virtual_server.content is None else flow.is_spliced,
    )


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


@COMMANDS.answers(answers.REAP_FLOW)
def _reap(segment: ControlSegment, arguments: Arguments, now: float) -> answers.Flow:
    protocol = arguments.choice("protocol", PROTOCOLS)
    client, vip = arguments.endpoint("client"), arguments.endpoint("vip")
    if client is None or vip is None or protocol is None:
        raise ValueError("reap_flow: give client and vip with their ports, and protocol")
    key = session_key(
        from_text(client.address), from_text(vip.address), client.port, vip.port, protocol
    )
    flow = segment.table.by_key.get(key)
    if flow is None:
        raise ValueError("there is no such flow; it may have ended")
    described = _describe_flow(segment, flow, now)
    segment.reaper.end(flow, now)
    return described
