# SPDX-License-Identifier: Apache-2.0
"""A team of DFSs, as in `team_grid`, around a content-aware virtual server."""

from __future__ import annotations

from typing import Any

from control_segment.config import ControlSegmentConfig
from data_flow_segment.targets.contract import FlowState
from support.octets.frames import framed
from support.segments.agent_rig import (
    EXTERNAL,
    EXTERNAL_MAC,
    INTERNAL_MAC,
    NODE_MAC,
    ROUTER_MAC,
    VIP,
)
from support.segments.asking import Asking, asked_server, pools
from support.segments.grid import Dfs, End
from support.segments.team_grid import TeamGrid


class ProxiedTeam(TeamGrid, Asking):
    """Everything, and its clock."""

    def __init__(self, seed: int, **arguments: Any) -> None:
        super().__init__(seed, **arguments)
        for member in self.members:
            document = member.config.model_dump()
            document["pools"] = pools()
            document["virtual_servers"] = [document["virtual_servers"][0] | asked_server()]
            member.config = ControlSegmentConfig.model_validate(document)
            member.start()

    def send_packet(self, interface: int, client: End, packet: bytes) -> None:
        macs = (ROUTER_MAC, EXTERNAL_MAC) if interface == EXTERNAL else (NODE_MAC, INTERNAL_MAC)
        TeamGrid._arrive(self, interface, client, framed(packet, *macs))

    def _received(self, interface: int, frame: bytes) -> None:
        self.arrived(interface, frame)

    def spliced(self, dfs: Dfs) -> dict[End, FlowState]:
        """The flows that a data path carries by itself, by client."""
        return {
            (session.src_ipaddr, session.src_port): state
            for session, state in self.flows_of(dfs).items()
            if not state.entry.held and session.dst_ipaddr == VIP[0]
        }
