# SPDX-License-Identifier: Apache-2.0
"""One connection of an assisted or hybrid virtual server: both its handshakes are the CS's."""

from __future__ import annotations

from control_segment.flows import Flow
from control_segment.peers import Peer
from control_segment.protocols.plugin import NotYet, Plugin, Reading, Told
from control_segment.virtual_servers import VirtualServer
from control_segment.wire import head_flags, unpack_translation
from splicing.connection import Connection
from splicing.instructions import Agreed, Settings, Verdict
from ssmb.constants import Flag
from ssmb.messages import Session


class Conversation:
    """What the CS knows of it."""

    __slots__ = (
        "_reading",
        "_size",
        "connection",
        "due",
        "flow",
        "key",
        "peer",
        "plugin",
        "server",
        "to_client",
        "to_node",
    )  # fmt: skip

    def __init__(
        self,
        peer: Peer,
        server: VirtualServer,
        plugin: Plugin,
        key: bytes,
        ends: Session,
        agreed: Agreed,
        settings: Settings,
        now: float,
    ) -> None:
        """*ends*: those of the client's packets."""
        self.peer = peer
        self.server = server
        self.plugin = plugin
        self.key = key
        self.to_client = ends.opposite
        self.to_node: Session | None = None
        self.flow: Flow | None = None
        self.due = 0.0  # when it is looked at; 0: not
        self._reading: Reading | None = None
        self._size = -1
        self.connection = Connection(agreed, settings, self.look, now)

    def read(self, octets: bytes) -> Reading:
        """What the plug-in reads, which need not read the same octets twice."""
        if self._reading is None or self._size != len(octets):
            self._size, self._reading = len(octets), self.plugin.read(octets)
        return self._reading

    def look(self, octets: bytes) -> Verdict:
        """Whether that is enough."""
        read = self.read(octets)
        if isinstance(read, NotYet):
            return Verdict.MORE
        return Verdict.COMPLETE if isinstance(read, Told) else Verdict.REFUSED


def node_side(flow: Flow, client: Session) -> Session:
    """The ends of the packets that go to a flow's node (9.4); *client*: those of the client's."""
    flags, translation = head_flags(flow.head), unpack_translation(flow.tail)
    src, dst, src_port, dst_port, protocol = client
    if flags & Flag.TRANSLATE_SRC:
        src = translation.snat_ipaddr
        src_port = translation.snat_port or src_port
    if flags & Flag.TRANSLATE_ADDR:
        dst = translation.node_ipaddr
    if flags & Flag.TRANSLATE_PORT:
        dst_port = translation.node_port
    return Session(src, dst, src_port, dst_port, protocol)
