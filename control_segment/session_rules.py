# SPDX-License-Identifier: Apache-2.0
"""Whether a session that is asked about with another serial goes on where it was (wire protocol
6.7, rules 5 and 6)."""

from __future__ import annotations

from typing import Final

from control_segment.flows import Flow
from control_segment.peers import Peer
from control_segment.virtual_servers import VirtualServers
from control_segment.wire import PROTOCOL
from ssmb.constants import TCP

SYN_AGAIN_S: Final = 8.0
"""A client repeats its SYN after 1, 3 and 7 s (Linux); a DFS ends a handshake that gets no further
after 5 s (`half_open_timeout_s`)."""


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
    return node.takes_new_sessions and server.pool.has(node) and servers.match(flow.key) is server
