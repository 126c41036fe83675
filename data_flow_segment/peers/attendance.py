# SPDX-License-Identifier: Apache-2.0
"""Which authenticated connections make which CS be there (wire protocol 7.7, rules 9 and 10)."""

from __future__ import annotations

from collections.abc import Callable

from admin.log_lines import line
from csmb.constants import DEAD_INTERVALS, HELLO_INTERVAL_S
from csmb.messages import Hello
from data_flow_segment.outbox import Outbox
from data_flow_segment.peers.accepted import Accepted
from data_flow_segment.peers.configuration import Configuration
from data_flow_segment.peers.groups import Group, Listener, Peer, Peers, endpoint_of
from data_flow_segment.peers.ssmb_path import Link


class Attendance:
    """CSs come with their first connection that is ready, and leave with their last one."""

    def __init__(
        self,
        outbox: Outbox,
        peers: Peers,
        configuration: Configuration,
        listener: Listener,
        say: Callable[[str], None],
    ) -> None:
        """`say`: a sentence for the operator."""
        self._outbox = outbox
        self._peers = peers
        self._configuration = configuration
        self._listener = listener
        self._say = say

    def came(self, connection_id: int, accepted: Accepted, hello: Hello, now: float) -> None:
        """A CS has said its first HELLO under the seal of this connection."""
        ready = accepted.ready
        assert ready is not None
        accepted.was_ready = True
        version = ready.ssmb_version
        peer = self._peers.by_identity.get((hello.segment_id, hello.group_id))
        is_new = peer is None
        if peer is not None and peer.ssmb_version != version:
            spoken = f"SSMB {peer.ssmb_version[0]}, this one SSMB {version[0]}"
            accepted.connection.close(f"another connection of this CS speaks {spoken}")
            return
        if peer is None:
            link = Link(endpoint_of(hello, version), version[0], self._outbox)
            peer = Peer(hello, link, version)
        peer.connections.append(connection_id)
        accepted.peer = peer
        peer.link.add_keys(ready.ssmb_keys)
        if ready.ssmb_keys is None:
            peer.ssmb_proved = True  # laboratory: there is nothing to prove
        changed = self._peers.heard(peer, hello)
        self._configuration.settle()
        text = f"{peer.name} is connected, SSMB {version[0]}.{version[1]}"
        self._say(line(text, peer=f"cs-{hello.segment_id}"))
        if is_new:
            self._listener.peer_came(peer, now)
        self._announce(changed, now)

    def said_again(self, peer: Peer, hello: Hello, now: float) -> None:
        """A keep-alive; its role, its epoch, its address may have changed (11.5)."""
        before = peer.hello
        peer.link.endpoint = endpoint_of(hello, peer.ssmb_version)
        changed = self._peers.heard(peer, hello)
        if hello == before and not changed:
            return
        if hello.boot_id != peer.boot_id:
            self._outbox.counters["csmb_boots_changed"] += 1
            self._listener.peer_came(peer, now)
        self._configuration.settle()
        self._announce(changed, now)

    def left(self, connection_id: int, accepted: Accepted, now: float) -> None:
        """A connection is over, perhaps the last one of a CS."""
        peer, accepted.peer = accepted.peer, None
        if peer is None:
            return
        peer.connections.remove(connection_id)
        silent_s = DEAD_INTERVALS * (peer.hello.hello_interval or HELLO_INTERVAL_S)
        assert accepted.ready is not None
        peer.link.end_keys(accepted.ready.ssmb_keys, now + silent_s)
        if not peer.connections:
            changed = self._peers.remove(peer)
            self._configuration.settle()
            self._listener.peer_left(peer, now)
            self._announce(changed, now)

    def _announce(self, changed: list[Group], now: float) -> None:
        if changed:
            self._listener.active_changed(changed, now)
