# SPDX-License-Identifier: Apache-2.0
"""A node for a flow of which a plug-in has read what its client said."""

from __future__ import annotations

from control_segment.content.said import Said
from control_segment.decisions import Decisions
from control_segment.flows import Flow
from control_segment.peers import Peer
from control_segment.protocols.plugin import Told
from control_segment.virtual_servers import VirtualServer
from control_segment.wire import head_flags, signature_of, unpack_translation
from ssmb.constants import ErrorCode
from ssmb.errors import LocalProtocolError
from ssmb.messages import NewFlow

CARRIED_BY_CS = 1
"""`detail` of a NEWFLOW (15.4)."""


def choose(
    decisions: Decisions, server: VirtualServer, peer: Peer, key: bytes, told: Told, now: float
) -> Flow | ErrorCode:
    """Begin a flow with a serial of the CS's own; the code says why there is none."""
    serials = decisions.table.serials
    try:
        serial = 0 if serials is None else serials.take(1)
    except LocalProtocolError:
        serial = 0
    if not serial:
        return ErrorCode.NORESOURCE
    said = Said(attributes=told.attributes)
    answer = decisions.begin(server, peer, key, serial, 0, now, said)
    flow = decisions.table.by_key.get(key)
    if answer is None or answer[0][1] or flow is None or flow.serial != serial:
        assert serials is not None, "it gave a serial"
        serials.release(serial)
        return ErrorCode.NOTAVAIL if answer is None else ErrorCode(answer[0][1])
    return flow


def newflow(flow: Flow, flags: int = 0, detail: int = 0) -> NewFlow:
    """What a DFS is told of it; *flags* beside those of the decision."""
    translation = unpack_translation(flow.tail)
    signature = signature_of(flow.key)
    fields = (0, head_flags(flow.head) | flags, flow.serial, *signature, 0, detail, *translation)
    return NewFlow._make(fields)


def refusal(key: bytes, serial: int, code: ErrorCode) -> NewFlow:
    """There is none: its client gets an RST (15.4)."""
    return NewFlow(code, 0, serial, *signature_of(key))
