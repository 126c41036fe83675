# SPDX-License-Identifier: Apache-2.0
"""Packets whose checksum their sender left to the NIC, as a container or a virtual machine does,
and which become QUERYs: the kernel keeps in mind where a sum is to begin and where it is to be
written, and has to forget it."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, Final

import pytest

from data_flow_segment.targets.contract import AddVirtualServer, Offload, SetCookies
from packets.tcp import Options
from splicing import cookies
from ssmb.constants import AppType, Flag
from ssmb.messages import Session
from support.octets.packets import TCP_PROTOCOL, UDP_PROTOCOL, hop, ones_sum
from support.targets.answering_cs import GROUP, AnsweringCs
from support.targets.offloading import OffloadingWire
from support.targets.rig import FAMILIES, IPV4, Family, Side
from support.targets.scene import NAT, Scene, assert_packet, only, reset
from support.targets.veth_rig import VethRig, opened

_LINK: Final = 14
_FAMILIES: Final = {True: socket.AF_INET, False: socket.AF_INET6}


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


def unfinished(right: bytes, ends: Iterable[str], *, is_ipv4: bool) -> tuple[bytes, int, int]:
    """The same TCP segment with the sum of its pseudo header only; where a sum begins, and goes."""
    start = _LINK + (20 if is_ipv4 else 40)
    at = start + 16
    addresses = b"".join(socket.inet_pton(_FAMILIES[is_ipv4], end) for end in ends)
    pseudo = addresses + struct.pack("!II", len(right) - start, TCP_PROTOCOL)
    return right[:at] + struct.pack("!H", ones_sum(pseudo)) + right[at + 2 :], start, 16


def finished(octets: bytes, left: tuple[int, int] | None) -> bytes:
    """As a NIC sends it."""
    if left is None:
        return octets
    start, place = left
    made = bytearray(octets)
    total = 0xFFFF - ones_sum(octets[start:] + bytes(len(octets) - start & 1))
    made[start + place : start + place + 2] = struct.pack("!H", total)
    return bytes(made)


@pytest.mark.parametrize("size", [1, 2, 101])
@pytest.mark.parametrize("of_cs", FAMILIES, ids=lambda family: f"cs-{family.name}")
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_the_short_way_with_unfinished_segments_of_both_ends(
    rig: VethRig, wires: dict[Side, OffloadingWire], family: Family, of_cs: Family, size: int
) -> None:
    """A client's request becomes a question, and a node's SYN-ACK the request."""
    scene, cs = Scene(rig, family, TCP_PROTOCOL), AnsweringCs(of_cs)
    secrets = cookies.Secrets(0, {0: bytes(16)})
    server = replace(scene.server(), proxied=True, app_type=int(AppType.HTTP_REQUEST))
    rig.apply(SetCookies(GROUP, 0, (bytes(16), b"", b"", b"")), AddVirtualServer(server))
    rig.apply(cs.offload())
    scene.client = scene.client[0], 21000 + size
    ends = Session(*scene.signature(client=scene.client)[:5])
    cookie = cookies.make(secrets, ends, 1000, Options(mss=1460))
    payload = bytes(range(size))
    said = scene.to_vip(payload, flags="PA", seq=1001, ack=cookie + 1 & 0xFFFFFFFF)
    (_, right) = scene.inbound(said)
    is_ipv4 = family.is_ipv4
    frame = unfinished(right, (family.client, family.vip), is_ipv4=is_ipv4)
    wires[Side.EXTERNAL].send(*frame)
    octets, left = wires[Side.INTERNAL].receive()
    assert left is None, "the kernel would still write a sum into the datagram"
    query = cs.content_query(octets)
    assert query.frame[12:] == right[12:]
    rig.exchange(())
    flags = int(NAT | Flag.PROXY_SERVER)
    out = scene.send(cs.frame(cs.reply(query, scene.entry(flags=flags))))
    syn = scene.segment(scene.client, scene.node, flags="S", seq=1000, ack=0)
    assert len(only(out, Side.INTERNAL)) >= _LINK + len(syn)
    answer = scene.segment(
        scene.node, scene.client, flags="SA", seq=70, ack=1001, options=[("MSS", 1460)]
    )
    (_, right) = scene.outbound(answer)
    wires[Side.INTERNAL].receive()  # the SYN
    frame = unfinished(right, (family.node, family.client), is_ipv4=is_ipv4)
    wires[Side.INTERNAL].send(*frame)
    octets = finished(*wires[Side.INTERNAL].receive())
    wanted = scene.segment(scene.client, scene.node, payload, flags="PA", seq=1001, ack=71)
    assert_packet(octets, hop(wanted))
    assert rig.events() == []
