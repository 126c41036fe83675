# SPDX-License-Identifier: Apache-2.0
"""Raw virtual servers: a DFS completes the client's handshake and sends copies of its packets, a
plug-in reads them, and NEWFLOW says where the connection goes (wire protocol 15.4)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from control_segment.assisted.choosing import choose, newflow, refusal
from control_segment.decisions import Decisions
from control_segment.flows import SESSION, Flow
from control_segment.peers import Peer
from control_segment.protocols.plugin import NotYet, Plugin, Unfit
from control_segment.statistics import Statistics
from control_segment.trace import Trace
from control_segment.virtual_servers import VirtualServer
from packets.parse import FIN, SYN
from packets.tcp import Segment
from splicing.instructions import COLLECT_MAX
from splicing.reassembly import Reassembly
from ssmb.constants import FLOW_BUFFER_MAX, ErrorCode, Flag
from ssmb.errors import LocalProtocolError
from ssmb.messages import NewFlow

READ_MAX: Final = 4096
"""Connections that are read at a time: 128 MiB at most."""
DECIDED_MAX: Final = 16384  # of which it is remembered what was said
_S: Final = 15.0  # longer than a DFS collects (docs/design/0012)
_WORD32: Final = 0xFFFFFFFF

Send = Callable[[Peer, NewFlow, float], None]


class _Read:
    """A connection that is read."""

    __slots__ = ("isn", "octets", "since")

    def __init__(self, isn: int, limit: int, now: float) -> None:
        self.isn = isn
        self.octets = Reassembly(isn + 1 & _WORD32, limit, FLOW_BUFFER_MAX)
        self.since = now


class Raw:
    """All that are read, by session key, the oldest first."""

    def __init__(
        self, decisions: Decisions, statistics: Statistics, trace: Trace, send: Send
    ) -> None:
        self._decisions = decisions
        self._drops = statistics.drops
        self._note = trace.note
        self._send = send
        self._read: OrderedDict[bytes, _Read] = OrderedDict()
        # which connection a session's flow was begun for: the client's initial sequence number
        self._decided: OrderedDict[bytes, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._read)

    def copied(
        self,
        peer: Peer,
        server: VirtualServer,
        plugin: Plugin,
        key: bytes,
        segment: Segment,
        now: float,
    ) -> None:
        """A client's segment; the first of a connection is its SYN, perhaps made by the DFS."""
        if segment.flags & SYN:
            self._begin(peer, server, key, segment.seq, now)
            return
        read = self._read.get(key)
        if read is None:
            self._repeat(peer, key, segment, now)
            return
        read.octets.add(segment.seq, segment.payload, fin=bool(segment.flags & FIN))
        said = plugin.read(bytes(read.octets.data))
        if isinstance(said, NotYet):
            if not (read.octets.is_full or read.octets.is_whole):
                return
            said = Unfit("the client ended, or said more than is read, before it said enough")
        del self._read[key]
        self._remember(key, read.isn)
        if isinstance(said, Unfit):
            self._note((now, key, "refused: %s", (said.why,)))
            self._refuse(peer, key, ErrorCode.UNKNOWN, now)
            return
        flow = choose(self._decisions, server, peer, key, said, now)
        if isinstance(flow, Flow):
            self._send(peer, _proxied(flow), now)
        else:
            self._refuse(peer, key, flow, now)

    def _begin(self, peer: Peer, server: VirtualServer, key: bytes, isn: int, now: float) -> None:
        """A SYN: another connection, or a repeat of all copies."""
        read = self._read.get(key)
        if read is not None and read.isn == isn:
            return
        flow = self._decisions.table.by_key.get(key)
        if flow is not None and self._decided.get(key) == isn and flow.peer is peer:
            return  # the segments that follow are answered with what was decided
        if flow is not None:
            self._note((now, key, "another connection: the previous session is over", ()))
            self._decisions.table.end(flow)
        self._expire(now)
        if key not in self._read and len(self._read) >= READ_MAX:
            self._drops["assisted_evicted"] += 1  # its DFS repeats what it has of it
            self._read.popitem(last=False)
        self._read[key] = _Read(isn, server.config.app_limit or COLLECT_MAX, now)
        self._read.move_to_end(key)

    def _repeat(self, peer: Peer, key: bytes, segment: Segment, now: float) -> None:
        """A copy of what was decided: the NEWFLOW may have been lost."""
        flow = self._decisions.table.by_key.get(key)
        is_known = flow is not None and flow.peer is peer and flow.state != SESSION
        if flow is None or not is_known or key not in self._decided:
            self._drops["stale_bridge"] += 1
        elif segment.payload:
            self._send(peer, _proxied(flow), now)

    def _remember(self, key: bytes, isn: int) -> None:
        self._decided[key] = isn
        self._decided.move_to_end(key)
        if len(self._decided) > DECIDED_MAX:
            self._decided.popitem(last=False)

    def _refuse(self, peer: Peer, key: bytes, code: ErrorCode, now: float) -> None:
        """With a serial of the CS's own, which is free again at once: there is no flow."""
        serials = self._decisions.table.serials
        try:
            serial = 0 if serials is None else serials.take(1)
        except LocalProtocolError:
            return  # the DFS gives the connection up by itself
        if serials is not None:
            serials.release(serial)
        self._send(peer, refusal(key, serial, code), now)

    def _expire(self, now: float) -> None:
        while self._read and next(iter(self._read.values())).since < now - _S:
            self._read.popitem(last=False)


def _proxied(flow: Flow) -> NewFlow:
    return newflow(flow, Flag.PROXY_SERVER)
