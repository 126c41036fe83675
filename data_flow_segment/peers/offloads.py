# SPDX-License-Identifier: Apache-2.0
"""What the target does by itself for each group, as the group's active CS allows (`Offload`).

A target that can ask does so while its group has an active CS that may be asked (12.3) and is not
silent (11.8), with keys and version 2, whose address no other group's CS has: a REPLY is told apart
by its address.  It does not while the CS answers by multicast (11.2): then the agent asks.
"""

from __future__ import annotations

from csmb.settings import ConnectionSettings
from data_flow_segment.outbox import Outbox
from data_flow_segment.peers.groups import Group, Peers
from data_flow_segment.targets.contract import FINISHED_VERSION, AskingPath, Offload, Target
from ssmb.addresses import from_text


class Offloads:
    """Keeps the target informed."""

    def __init__(
        self,
        outbox: Outbox,
        peers: Peers,
        target: Target,
        settings: ConnectionSettings,
        *,
        may_ask: bool,
    ) -> None:
        """`may_ask`: whether the target may ask, if it can."""
        self._outbox = outbox
        self._peers = peers
        self._target = target
        self._own = settings.ssmb_ipaddr, settings.ssmb_port
        self._may_ask = may_ask
        self._offloads = target.offloads
        self._known: dict[int, Offload] = {}
        self._said: dict[int, object] = {}

    def follow(self) -> None:
        """Last in a wake-up: a command for each group of which something changed."""
        if not self._offloads:
            return
        for group in self._peers.groups.values():
            said = self._seen(group)
            if self._said.get(group.group_id) == said:
                continue
            self._said[group.group_id] = said
            wanted = self._wanted(group)
            if self._known.get(group.group_id, Offload(group.group_id)) != wanted:
                self._known[group.group_id] = wanted
                self._outbox.commands.append(wanted)

    def _seen(self, group: Group) -> object:
        """All that `_wanted` depends on."""
        active = group.active
        if active is None:
            return None
        link = active.link
        alone = len(self._peers.by_endpoint.get(link.endpoint, ())) == 1
        known = active, active.ssmb_proved, active.answers, link.keys, active.is_heard_by_multicast
        return *known, alone, bool(group.standbys)

    def who_asks(self, group_id: int) -> str:
        """Who asks about new flows of this group, for people."""
        if not self._may_ask and self._offloads:
            return "agent: the configuration has ask: agent"
        active = self._peers.active_of(group_id)
        if active is not None and active.is_silent and self._offloads:
            return "agent: the active CS has missed three heartbeats"
        if active is not None and active.is_heard_by_multicast and self._offloads:
            return "agent: the active CS answers by multicast"
        obstacle = self._target.asking(group_id)
        return f"agent: {obstacle}" if obstacle else "data path"

    def _wanted(self, group: Group) -> Offload:
        active = group.active
        if active is None or active.link.version != FINISHED_VERSION or not active.ssmb_proved:
            return Offload(group.group_id)
        path = None
        is_asked_directly = active.answers and not active.is_heard_by_multicast
        if self._may_ask and is_asked_directly and active.link.keys is not None:
            opening, sealing = active.link.keys
            address, port = active.link.endpoint
            if len(self._peers.by_endpoint.get(active.link.endpoint, ())) == 1:
                path = AskingPath(from_text(address), port, *self._own, sealing, opening)
        return Offload(group.group_id, ends=True, path=path, shared=bool(group.standbys))
