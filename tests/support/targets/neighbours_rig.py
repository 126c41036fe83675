# SPDX-License-Identifier: Apache-2.0
"""The next hops' machine with a switch's tables behind it, and neighbours that scapy gives words.

clients 10.1.1.0/24, 2001:db8:1::/64 -- port 1 [switch] port 11 -- 10.2.1.0/24 servers
all else: 10.1.1.254, fe80::fe
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether

from data_flow_segment.targets.interfaces import Interface, Route
from data_flow_segment.targets.p4runtime.constants import Reason
from data_flow_segment.targets.p4runtime.neighbours import Neighbours
from data_flow_segment.targets.p4runtime.next_hops import (
    Action,
    Ask,
    DropRow,
    GiveUp,
    InjectFrame,
    PutRow,
)
from data_flow_segment.targets.p4runtime.options import P4RuntimeOptions
from data_flow_segment.targets.p4runtime.packets import FrameUp, Resolve
from data_flow_segment.targets.p4runtime.schema import Key, Row, key
from ssmb.addresses import from_text, to_text

OUR_MACS: Final = {1: "02:5b:00:00:00:01", 11: "02:5b:00:00:00:0b"}
GATEWAY, GATEWAY6 = "10.1.1.254", "fe80::fe"
SERVER, CLIENT6 = "10.2.1.7", "2001:db8:1::99"


def mac_octets(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def interface(number: int, *addresses: str) -> Interface:
    mac = mac_octets(OUR_MACS[number])
    return Interface(number, f"port{number}", mac, tuple(map(from_text, addresses)))


OPTIONS: Final = P4RuntimeOptions(
    address="127.0.0.1:9559",
    interfaces=(interface(1, "10.1.1.1", "2001:db8:1::1"), interface(11, "10.2.1.1")),
    routes=(
        Route.to("10.1.1.0/24", 1),
        Route.to("2001:db8:1::/64", 1),
        Route.to("10.2.1.0/24", 11),
        Route.to("0.0.0.0/0", 1, GATEWAY),
        Route.to("::/0", 1, GATEWAY6),
    ),
)


def arp_reply(
    address: str, mac: str, our_mac: str, vlan: int | None = None, **fields: Any
) -> bytes:
    said = {"op": 2, "psrc": address, "hwsrc": mac, "pdst": "10.1.1.1", "hwdst": our_mac, **fields}
    link = Ether(src=mac, dst=our_mac)
    return bytes((link if vlan is None else link / Dot1Q(vlan=vlan)) / ARP(**said))


def advertisement(
    address: str, mac: str | None, our_mac: str, ip: dict[str, Any] | None = None, **fields: Any
) -> bytes:
    said = {"tgt": address, "R": 0, "S": 1, "O": 1, **fields}
    header = {"src": address, "dst": "2001:db8:1::1", "hlim": 255, **(ip or {})}
    packet = Ether(src=mac, dst=our_mac) / IPv6(**header) / ICMPv6ND_NA(**said)
    return bytes(packet if mac is None else packet / ICMPv6NDOptDstLLAddr(lladdr=mac))


def question(address: str, port: int, frame: bytes = bytes(60), arrival: int = 1) -> FrameUp:
    """A frame that came up for want of a neighbour."""
    resolve = Resolve(from_text(address), port)
    return FrameUp(int(Reason.RESOLVE), 6, arrival, 0, 0, 0, port, frame, None, resolve)


class Rig:
    """Time stands still but by `wait`; what was to be done is sorted by kind."""

    def __init__(self, options: P4RuntimeOptions = OPTIONS, rows: Iterable[Row] = ()) -> None:
        self.machine = Neighbours(options)
        self.now = 1000.0
        self.tables: dict[Key, Row] = {key(row): row for row in rows}
        self.asks: list[Ask] = []
        self.injected: list[FrameUp] = []
        self.given_up: list[FrameUp] = []
        self.log: list[Action] = []
        begun = self.machine.begin(self.tables.values(), self.now)
        put = {key(action.row) for action in begun if isinstance(action, PutRow)}
        self.tables = {k: row for k, row in self.tables.items() if k in put}
        self.do(begun)

    def do(self, actions: Iterable[Action]) -> None:
        for action in actions:
            self.log.append(action)
            match action:
                case PutRow(row):
                    self.tables[key(row)] = row
                case DropRow(row):
                    del self.tables[key(row)]
                case Ask():
                    self.asks.append(action)
                case InjectFrame(up):
                    self.injected.append(up)
                case GiveUp(up):
                    self.given_up.append(up)

    def wait(self, seconds: float) -> None:
        """Nothing comes for so long."""
        end = self.now + seconds
        while (due := self.machine.next_due) is not None and due <= end:
            self.now = max(self.now, due)
            self.do(self.machine.tick(self.now))
        self.now = end

    def want(self, address: str) -> None:
        self.do(self.machine.want(from_text(address), self.now))

    def resolve(self, up: FrameUp) -> None:
        self.do(self.machine.resolve(up, self.now))

    def hear(self, frame: bytes, port: int) -> None:
        self.do(self.machine.heard(frame, port, self.now))

    def answer(self, address: str, mac: str, port: int, **fields: Any) -> None:
        """As an honest neighbour does."""
        say = advertisement if ":" in address else arp_reply
        self.hear(say(address, mac, OUR_MACS[port], **fields), port)

    def take_asks(self) -> list[Ask]:
        taken, self.asks = self.asks, []
        return taken

    def asked(self) -> list[tuple[str, int, str]]:
        """Whom was asked for on which port, and to which MAC address, since the last time."""
        return [
            (asked_for(ask.frame), ask.port, ask.frame[:6].hex(":")) for ask in self.take_asks()
        ]

    def rows(self, table: str) -> dict[Any, Row]:
        return {row.match[0]: row for row in self.tables.values() if row.table == table}

    def neighbour(self, address: str) -> tuple[int, bytes] | None:
        """Port and MAC address that packets to a neighbour get, by the switch's tables."""
        row = self.rows("neighbours").get(from_text(address))
        return None if row is None else self.next_hop(row.parameters[0])

    def route(self, network: str) -> tuple[int, bytes] | int:
        """Port and MAC address of a route, the port alone if it is connected."""
        wanted = Route.to(network, 0)
        match = (wanted.network, wanted.prefix_length) if wanted.prefix_length else None
        row = self.rows("routes")[match]
        number = row.parameters[0]
        assert isinstance(number, int)
        return number if row.action == "connected" else self.next_hop(number)

    def next_hop(self, number: Any) -> tuple[int, bytes]:
        port, _, mac, _ = self.rows("next_hops")[number].parameters
        assert isinstance(port, int)
        assert isinstance(mac, bytes)
        return port, mac


def asked_for(frame: bytes) -> str:
    """The address that a question of ours is about."""
    packet = Ether(frame)
    if ARP in packet:
        return str(packet[ARP].pdst)
    return to_text(frame[62:78])
