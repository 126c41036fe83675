# SPDX-License-Identifier: Apache-2.0
"""Packets whose checksum their sender left to the NIC, as a container or a virtual machine does,
and which become QUERYs: the kernel keeps in mind where a sum is to begin and where it is to be
written, and has to forget it."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import Any, Final

import pytest

from data_flow_segment.targets.contract import AddVirtualServer, Offload
from support.octets.packets import TCP_PROTOCOL, UDP_PROTOCOL, hop, ones_sum
from support.targets.answering_cs import GROUP, AnsweringCs
from support.targets.rig import FAMILIES, IPV4, Family, Side
from support.targets.scene import Scene, assert_packet, only, reset
from support.targets.veth_rig import FAR, VethRig, opened
from support.targets.wire import inside

# linux/if_packet.h and linux/virtio_net.h
_SOL_PACKET: Final = 263
_PACKET_VNET_HDR: Final = 15
_PACKET_IGNORE_OUTGOING: Final = 23
_ETH_P_ALL: Final = 3
_HEADER: Final = struct.Struct("=BBHHHH")  # flags, GSO, its sizes, where a sum begins, and goes
_NEEDS_CSUM: Final = 1
_LINK: Final = 14
_WAIT_S: Final = 30.0
_FAMILIES: Final = {True: socket.AF_INET, False: socket.AF_INET6}


class OffloadingWire:
    """The far end of a cable, with what a NIC would be told."""

    def __init__(self, namespace: str) -> None:
        with inside(namespace):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self._socket.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
            self._socket.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
            self._socket.bind((FAR, _ETH_P_ALL))
        self._socket.settimeout(_WAIT_S)

    def send(self, frame: bytes, start: int, place: int) -> None:
        self._socket.send(_HEADER.pack(_NEEDS_CSUM, 0, start + 8, 0, start, place) + frame)

    def receive(self) -> tuple[bytes, tuple[int, int] | None]:
        """The next frame that is not ARP, and where a sum is still to begin and to be written."""
        octets = self._socket.recv(65536)
        while octets[_HEADER.size + 12 : _HEADER.size + 14] == b"\x08\x06":
            octets = self._socket.recv(65536)
        flags, _, _, _, start, place = _HEADER.unpack_from(octets)
        return octets[_HEADER.size :], (start, place) if flags & _NEEDS_CSUM else None

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(scope="module")
def rig() -> Iterator[VethRig]:
    with opened("tc") as made, made.inside():
        made.apply(AnsweringCs(IPV4).offload(), Offload(GROUP))  # the program is where REPLYs come
        yield made


@pytest.fixture
def wires(rig: VethRig) -> Iterator[dict[Side, OffloadingWire]]:
    reset(rig)
    made = {side: OffloadingWire(end) for side, end in rig._network.ends.items()}
    yield made
    for wire in made.values():
        wire.close()


@pytest.mark.parametrize("size", [0, 1, 2, 101])
@pytest.mark.parametrize("of_cs", FAMILIES, ids=lambda family: f"cs-{family.name}")
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
@pytest.mark.parametrize("protocol", [TCP_PROTOCOL, UDP_PROTOCOL], ids=["tcp", "udp"])
def test_an_unfinished_packet_becomes_a_query(
    rig: VethRig,
    wires: dict[Side, OffloadingWire],
    protocol: int,
    family: Family,
    of_cs: Family,
    size: int,
) -> None:
    scene, cs = Scene(rig, family, protocol), AnsweringCs(of_cs)
    rig.apply(AddVirtualServer(scene.server()), cs.offload())
    fields: dict[str, Any] = {"flags": "S", "seq": size} if protocol == TCP_PROTOCOL else {}
    scene.client = scene.client[0], 20000 + size
    payload = bytes(range(size))
    (_, right) = scene.inbound(scene.to_vip(payload, **fields))
    start = _LINK + (20 if family.is_ipv4 else 40)
    place = 16 if protocol == TCP_PROTOCOL else 6
    at = start + place
    ends = (socket.inet_pton(_FAMILIES[family.is_ipv4], end) for end in (family.client, family.vip))
    pseudo = b"".join(ends) + struct.pack("!II", len(right) - start, protocol)
    wires[Side.EXTERNAL].send(
        right[:at] + struct.pack("!H", ones_sum(pseudo)) + right[at + 2 :], start, place
    )
    octets, left = wires[Side.INTERNAL].receive()
    print(left, octets.hex())
    assert left is None, "the kernel would still write a sum into the datagram"
    query = cs.query(octets)
    assert query.signature == scene.signature()
    assert query.frame[12:] == right[12:]
    rig.exchange(())
    out = scene.send(cs.frame(cs.reply(query, scene.entry())))
    wanted = scene.segment(scene.client, scene.node, payload, **fields)
    assert_packet(only(out, Side.INTERNAL), hop(wanted))
