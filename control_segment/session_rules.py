# SPDX-License-Identifier: Apache-2.0
"""Whether a session that is asked about with another serial goes on where it was (wire protocol
6.7, rules 5 and 6), and whether one that nobody knows may be known soon."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from control_segment.flows import Flow
from control_segment.peers import Peer
from control_segment.virtual_servers import VirtualServer, VirtualServers
from control_segment.wire import PROTOCOL
from ssmb.constants import TCP

SYN_AGAIN_S: Final = 8.0
"""A client repeats its SYN after 1, 3 and 7 s (Linux); a DFS ends a handshake that gets no further
after 5 s (`half_open_timeout_s`)."""

SAID_SOON_S: Final = 1.0  # TAKEN comes within 10 ms, or is repeated; a QUERY within 350 ms
UNHEARD_MAX: Final = 1024


def goes_on(flow: Flow, peer: Peer, servers: VirtualServers, now: float, *, is_syn: bool) -> bool:
    """Whether this QUERY's flow is one more of the session.

    A TCP connection cannot go on at another node.  UDP knows no connections: its next datagram goes
    where a new client's would if the session's node would not be chosen any more.  A SYN begins a
    new session, unless it may be the one that this session began with and that came by another
    DFS: the node's answer to the first one may still be on its way, and another node would reset
    what comes of it.
    """
    if not is_syn:
        return flow.key[PROTOCOL] == TCP or _could_be_chosen(flow, servers)
    is_young = now - flow.opened < SYN_AGAIN_S
    return flow.peer is not peer and is_young and _could_be_chosen(flow, servers)


def _could_be_chosen(flow: Flow, servers: VirtualServers) -> bool:
    """Whether a new session could get the node of this one."""
    server, node = flow.virtual_server, flow.node
    return node.takes_new_sessions and server.has(node) and servers.match(flow.key) is server


class Unheard:
    """Sessions in mid-course of which this CS has no record.

    Their first packet may have taken a grant at another DFS, just now, whose TAKEN is on its way.
    So the first QUERY about one is not answered, while other DFSs have grants; the next one is.
    """

    def __init__(self) -> None:
        self._asked_at: OrderedDict[bytes, float] = OrderedDict()  # the latest last

    def may_be_heard_of(self, key: bytes, server: VirtualServer, peer: Peer, now: float) -> bool:
        """Whether its DFS shall ask again."""
        ring = None if peer.grants is None else peer.grants.rings.get(server)
        own = 0 if ring is None else ring.outstanding
        if server.granted <= own:
            return False
        asked_at = self._asked_at.get(key)
        if asked_at is not None and now - asked_at < SAID_SOON_S:
            return False
        self._asked_at[key] = now
        self._asked_at.move_to_end(key)
        if len(self._asked_at) > UNHEARD_MAX:
            self._asked_at.popitem(last=False)
        return True
