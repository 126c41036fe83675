# SPDX-License-Identifier: Apache-2.0
"""Both planes, as in `planes`, around a content-aware virtual server."""

from __future__ import annotations

from typing import Any, Final

from control_segment.config import ControlSegmentConfig
from packets.parse import parse
from ssmb.addresses import from_text, to_text
from ssmb.constants import UDP
from support.octets.frames import udp_packet
from support.segments.agent_rig import DFS_ENDPOINT, EXTERNAL, VIP
from support.segments.asking import Asking, asked_server, pools
from support.segments.planes import CS_ENDPOINT, End, Planes

SERIAL_KEY: Final = bytes(range(16))


def cs_config(**settings: Any) -> ControlSegmentConfig:
    """Requests for /p<n>/ go to pool n."""
    server = {"name": "www", "address": to_text(VIP[0]), "port": VIP[1], "protocol": "tcp"}
    return ControlSegmentConfig.model_validate(
        {
            "segment_id": 1,
            "ssmb": {"address": CS_ENDPOINT[0], "port": CS_ENDPOINT[1]},
            "key_file": "unused",
            "data_flow_segments": [{"address": "10.255.0.1", "port": 61019}],
            "settings": settings,
            "pools": pools(),
            "virtual_servers": [{**server, **asked_server()}],
        }
    )


class ProxiedPlanes(Planes, Asking):
    """Everything, and its clock."""

    def __init__(self, seed: int, *, is_short: bool = True, **fields: Any) -> None:
        """`is_short`: the data path asks and splices by itself where it can."""
        settings = {name: fields.pop(name) for name in tuple(fields) if name.endswith("_s")}
        key = SERIAL_KEY if is_short else b""
        super().__init__(seed, config=cs_config(**settings), serial_key=key, **fields)

    @property
    def spliced(self) -> int:
        """How many connections were, by the agent that runs now or by the data path."""
        by_agent = self.agent.outbox.counters["flows_spliced"]
        return by_agent + self.target.counters()["short_spliced"].value

    def send_packet(self, interface: int, client: End, packet: bytes) -> None:
        if self.dice.random() >= self.packet_loss:
            self.to_dfs(interface, packet)

    def _to_agent(self, octets: bytes) -> None:
        """By the data path, which may take it."""
        cs, dfs = ((from_text(address), port) for address, port in (CS_ENDPOINT, DFS_ENDPOINT))
        self.to_dfs(EXTERNAL, udp_packet(cs, dfs, octets))

    def _deliver(self, frames: list[tuple[int, bytes]]) -> None:
        """What leaves; datagrams of SSMB go to the segments."""
        left = []
        for interface, frame in frames:
            packet = parse(frame)
            if packet.protocol != UDP:
                left.append((interface, frame))
                continue
            datagram = bytes(packet.data[packet.l4 + 8 : packet.end])
            if (packet.dst, packet.ports[1]) == (from_text(DFS_ENDPOINT[0]), DFS_ENDPOINT[1]):
                super()._to_agent(datagram)
            else:
                self._send(self._to_cs, datagram)
        super()._deliver(left)

    def _arrive(self, interface: int, frame: bytes) -> None:
        self.arrived(interface, frame)
