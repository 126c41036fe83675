# SPDX-License-Identifier: Apache-2.0
"""A client and a node that speak TCP by hand, at a real agent and a memory target, and a CS by
hand that decides by content."""

from __future__ import annotations

from typing import Any, Final

from csmb.constants import Flag as CsmbFlag
from csmb.messages import Config, VsEntry
from data_flow_segment.flows.handshake import Handshake
from data_flow_segment.targets.contract import FlowState
from packets.parse import ACK, FIN, PSH, RST, SYN, parse
from packets.tcp import Options, Segment, read, write
from splicing.instructions import OWN_WINDOW
from ssmb.constants import Flag
from ssmb.messages import AppQuery, FlowSignature, NewFlow, Reply, Session
from support.octets.frames import framed
from support.segments.agent_rig import (
    CLIENT,
    EXTERNAL,
    EXTERNAL_MAC,
    INTERNAL,
    INTERNAL_MAC,
    NODE,
    NODE_MAC,
    ROUTER_MAC,
    TRANSLATE,
    VIP,
    AgentRig,
    FakeCs,
    vs_list,
    web_server,
)

End = tuple[bytes, int]
CS_FLAGS: Final = int(
    CsmbFlag.SYNC_CAP | CsmbFlag.BRIDGE_ENCAP | CsmbFlag.APP_PROXY | CsmbFlag.APP_NOTIFY_CAP
)
REQUEST: Final = b"GET / HTTP/1.1\r\nHost: www.example.com\r\nCookie: SID=abc\r\n\r\n"
OPTIONS: Final = Options(mss=1460, window_scale=8, sack_permitted=True)
WORD32: Final = 0xFFFFFFFF
DEFAULTS: Final = Config()


class Client:
    """One connection of a client; numbers are its own."""

    def __init__(self, rig: ProxiedRig, end: End = CLIENT, isn: int = 1000) -> None:
        self.rig = rig
        self.end = end
        self.seq = isn
        self.ack = 0

    def sends(self, flags: int, payload: bytes = b"", **fields: Any) -> list[Segment]:
        """A segment; what it gets back."""
        segment = Segment(
            fields.pop("seq", self.seq), self.ack, flags, OWN_WINDOW, payload=payload, **fields
        )
        self.rig.deliver(self.end, VIP, segment, EXTERNAL)
        return self.receives()

    def receives(self) -> list[Segment]:
        """What came for it since the last time."""
        return self.rig.take(VIP, self.end)

    def connects(self, options: Options = OPTIONS) -> Segment:
        """SYN, SYN-ACK, ACK; the SYN-ACK."""
        (answer,) = self.sends(SYN, options=options)
        assert answer.flags & (SYN | ACK) == SYN | ACK
        assert answer.ack == self.seq + 1
        self.seq, self.ack = answer.ack, answer.seq + 1 & WORD32
        assert self.sends(ACK) == []
        return answer

    def says(self, payload: bytes, **fields: Any) -> list[Segment]:
        """Data behind what it has said."""
        answers = self.sends(ACK | PSH, payload, **fields)
        self.seq = self.seq + len(payload) & WORD32
        return answers


class Node:
    """A node's side of a connection."""

    def __init__(self, rig: ProxiedRig, end: End = NODE, isn: int = 70_000) -> None:
        self.rig = rig
        self.end = end
        self.seq = isn
        self.ack = 0

    def receives(self, client: End = CLIENT) -> list[Segment]:
        return self.rig.take(client, self.end)

    def sends(self, flags: int, payload: bytes = b"", client: End = CLIENT, **fields: Any) -> None:
        segment = Segment(self.seq, self.ack, flags, 8192, payload=payload, **fields)
        self.seq = segment.end
        self.rig.deliver(self.end, client, segment, INTERNAL)

    def accepts(self, client: End = CLIENT, options: Options = OPTIONS) -> Segment:
        """Answer the SYN that came; return it."""
        (syn,) = self.receives(client)
        assert syn.flags & (SYN | ACK) == SYN
        self.ack = syn.seq + 1 & WORD32
        self.sends(SYN | ACK, client=client, options=options)
        return syn


class ProxiedRig(AgentRig):
    """With an HTTP virtual server at VIP, unless told."""

    active: FakeCs

    def __init__(
        self,
        *entries: VsEntry,
        cs_flags: int = CS_FLAGS,
        with_cs: bool = True,
        config: Config = DEFAULTS,
        **fields: Any,
    ) -> None:
        super().__init__(**fields)
        self._config = config
        if with_cs:
            self.connect(*entries, cs_flags=cs_flags)

    def connect(self, *entries: VsEntry, cs_flags: int = CS_FLAGS) -> None:
        """The active CS comes."""
        self.active = self.cs(flags=cs_flags)
        self.active.tell(self._config)
        self.active.tell(vs_list(*entries or (proxied_server(),)))

    def deliver(self, src: End, dst: End, segment: Segment, interface: int) -> None:
        """A segment arrives."""
        packet = write(segment, Session(src[0], dst[0], src[1], dst[1], 6))
        macs = (ROUTER_MAC, EXTERNAL_MAC) if interface == EXTERNAL else (NODE_MAC, INTERNAL_MAC)
        self.receive(framed(packet, *macs), interface)

    def take(self, src: End, dst: End) -> list[Segment]:
        """The segments from one end to the other that left, once."""
        found, left = [], []
        for interface, frame in self.sent:
            packet = parse(frame)
            ports = packet.ports if packet.l4 else (0, 0)
            if ((packet.src, ports[0]), (packet.dst, ports[1])) == (src, dst):
                assert packet.checksums_are_right()
                found.append(read(packet))
            else:
                left.append((interface, frame))
        self.sent = left
        return found

    def decide(self, question: AppQuery, cs: FakeCs | None = None, **changes: Any) -> Reply:
        """Answer a question: NODE, unless told."""
        reply = decision(question, **changes)
        (cs or self.active).send(reply)
        return reply

    def state(self, client: End = CLIENT) -> FlowState | None:
        """What the target has of a client's flow."""
        return self.target.lookup(signature(client))

    def handshake(self, client: End = CLIENT) -> Handshake | None:
        return self.agent.handshakes.by_session.get(signature(client).session)

    def is_idle(self) -> bool:
        """Whether nothing is kept of any connection that is not spliced."""
        table = self.agent.handshakes.table
        return not table.by_session and not table.held_octets


def signature(client: End = CLIENT) -> FlowSignature:
    return FlowSignature(client[0], VIP[0], client[1], VIP[1], 6)


def decision(question: AppQuery, **changes: Any) -> Reply:
    fields: dict[str, Any] = {
        "flags": TRANSLATE | int(Flag.PROXY_SERVER),
        "serial": question.serial,
        **question.signature._asdict(),
        "node_ipaddr": NODE[0],
        "node_port": NODE[1],
        **changes,
    }
    return Reply(**fields)


def raw_decision(serial: int, client: End = CLIENT, **changes: Any) -> NewFlow:
    """NEWFLOW for a raw virtual server's flow."""
    fields: dict[str, Any] = {
        "flags": TRANSLATE | int(Flag.PROXY_SERVER),
        "serial": serial,
        **signature(client)._asdict(),
        "node_ipaddr": NODE[0],
        "node_port": NODE[1],
        **changes,
    }
    return NewFlow(**fields)


def proxied_server(flag: CsmbFlag = CsmbFlag.HTTP_PROXY, **changes: Any) -> VsEntry:
    """The content-aware virtual server at VIP."""
    return web_server(flags=int(flag), **changes)


__all__ = ["ACK", "FIN", "PSH", "RST", "SYN", "Client", "Node", "ProxiedRig"]
