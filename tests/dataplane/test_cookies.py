# SPDX-License-Identifier: Apache-2.0
"""SYN cookies in the kernel's own surroundings: a real client's handshake, checksums that were left
to a NIC, several segments in one."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import pytest

from data_flow_segment.targets.bpf import BpfTarget
from data_flow_segment.targets.contract import (
    AddVirtualServer,
    InstallFlow,
    PacketIn,
    PacketReason,
    RemoveFlow,
    SetCookies,
    VirtualServerEntry,
    VirtualServerKey,
)
from packets import tcp
from packets.parse import ACK, SYN
from splicing import cookies
from splitplane.lab.processes import wait_for
from ssmb.addresses import from_text
from ssmb.constants import TCP
from ssmb.messages import FlowSignature
from support.octets import packets
from support.octets.packets import ip_packet, ones_sum, wrong_checksums
from support.targets.offloading import OffloadingWire
from support.targets.rig import FAMILIES, Side
from support.targets.scene import Scene
from support.targets.veth_rig import VethRig, opened
from support.targets.wire import inside
from support.targets.xdp_pass import attach_pass

pytestmark = pytest.mark.dataplane

SECRET: Final = bytes(range(16))
SECRETS: Final = cookies.Secrets(0, {0: SECRET})
TOLD: Final = SetCookies(1, 0, (SECRET, b"", b"", b""))

_LINK: Final = 14
_WAIT_S: Final = 30.0


@pytest.fixture(scope="module", params=["tc", "xdp"])
def running(request: pytest.FixtureRequest) -> Iterator[VethRig]:
    with opened(request.param) as rig:
        yield rig


@pytest.fixture
def proxied(scene: Scene) -> Scene:
    scene.rig.apply(TOLD, AddVirtualServer(replace(scene.server(), proxied=True)))
    return scene


@pytest.fixture
def client(proxied: Scene) -> Iterator[OffloadingWire]:
    assert isinstance(proxied.rig, VethRig)
    wire = OffloadingWire(proxied.rig._network.ends[Side.EXTERNAL])
    yield wire
    wire.close()


def unfinished(scene: Scene, frame: bytes) -> tuple[bytes, int, int]:
    """The frame as a kernel gives it to its NIC, with the pseudo header's sum, and where the whole
    sum is to begin and to go."""
    is_ipv4 = scene.family.is_ipv4
    start = _LINK + (20 if is_ipv4 else 40)
    kind = socket.AF_INET if is_ipv4 else socket.AF_INET6
    ends = (socket.inet_pton(kind, end) for end in (scene.family.client, scene.family.vip))
    pseudo = ones_sum(b"".join(ends) + struct.pack("!II", len(frame) - start, TCP))
    return frame[: start + 16] + struct.pack("!H", pseudo) + frame[start + 18 :], start, 16


def test_an_unfinished_syn_is_answered(proxied: Scene, client: OffloadingWire) -> None:
    scene, options = proxied, [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (7, 0))]
    _, frame = scene.inbound(packets.tcp(scene.client, scene.vip, "S", seq=99, options=options))
    client.send(*unfinished(scene, frame))
    answer = ip_packet(client.receive_finished())
    assert wrong_checksums(answer) == []
    ends, segment = tcp.read_ip(answer)
    assert (segment.flags, segment.ack) == (SYN | ACK, 100)
    assert from_text(scene.family.client) == ends.dst_ipaddr
    scene.rig.exchange(())


@pytest.mark.parametrize("is_held", [False, True], ids=["first", "held"])
@pytest.mark.parametrize("size", [4000, 20_000])
def test_several_segments_in_one_come_up(
    proxied: Scene, client: OffloadingWire, size: int, is_held: bool
) -> None:
    """Of more than an up-call takes, the first octets: the client sends the others again."""
    scene = proxied
    rig = scene.rig
    assert isinstance(rig, VethRig)
    if rig.name == "bpf-xdp":
        pytest.skip("XDP gets them one by one")
    if is_held:
        rig.apply(InstallFlow(scene.entry(held=True, flags=0)))
    signature = scene.signature()
    made = cookies.make(SECRETS, signature.session, 99, tcp.NO_OPTIONS)
    payload = bytes(number % 251 for number in range(size))
    whole = packets.tcp(scene.client, scene.vip, "PFA", payload, seq=100, ack=made + 1 & 0xFFFFFFFF)
    _, frame = scene.inbound(whole)
    client.send(*unfinished(scene, frame), gso_size=1400)
    found: list[PacketIn] = []

    def came() -> bool:
        found.extend(event for event in rig.events() if isinstance(event, PacketIn))
        return bool(found)

    wait_for("the packet", came, _WAIT_S)
    (up,) = found
    assert up.reason == (PacketReason.HELD if is_held else PacketReason.PROXIED)
    _, segment = tcp.read_ip(ip_packet(up.frame))  # with right checksums
    assert payload.startswith(segment.payload)
    if size < 9000:
        assert (segment.payload, segment.flags & 1) == (payload, 1)
    else:
        assert (len(segment.payload) > 9000, segment.flags & 1) == (True, 0)
    rig.apply(RemoveFlow(signature))


@pytest.mark.parametrize("attach", ["tc", "xdp"])
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_real_client_completes_its_handshake(ground: Any, attach: str, family: Any) -> None:
    """And the program hears its request; whoever it is that answers it."""
    near, far, vip = (
        ("198.18.0.1/24", "198.18.0.2/24", "198.18.9.9")
        if family.is_ipv4
        else ("2001:db8:7::1/64", "2001:db8:7::2/64", "2001:db8:9::9")
    )
    nodad = () if family.is_ipv4 else ("nodad",)
    ground.ip("address", "add", near, "dev", "ext0", *nodad)
    at_far = ("ip", "-n", ground.far)
    ground.run(*at_far, "address", "add", far, "dev", "ext0", *nodad)
    ground.run(*at_far, "route", "add", vip, "via", near.split("/")[0])
    ground.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    target: BpfTarget = ground.open(attach=attach)
    key = VirtualServerKey(from_text(vip), 80, TCP)
    target.apply([TOLD, AddVirtualServer(VirtualServerEntry(key, 1, False, proxied=True))])
    kind = socket.AF_INET if family.is_ipv4 else socket.AF_INET6
    with inside(ground.far):
        # where veth takes what XDP sends back
        passes = attach_pass(socket.if_nametoindex("ext0")) if attach == "xdp" else None
        client = socket.socket(kind, socket.SOCK_STREAM)
    with client:
        client.settimeout(_WAIT_S)
        client.connect((vip, 80))
        client.sendall(b"GET / HTTP/1.1\r\nHost: example\r\n\r\n")
        own = client.getsockname()
        found: list[PacketIn] = []

        def came() -> bool:
            found.extend(event for event in target.events() if isinstance(event, PacketIn))
            return bool(found)

        wait_for("the packet", came, _WAIT_S)
        up = found[0]
        assert up.reason == PacketReason.PROXIED
        wanted = FlowSignature(from_text(own[0]), from_text(vip), own[1], 80, TCP, 0)
        assert up.signature.session == wanted.session
        ends, segment = tcp.read_ip(ip_packet(up.frame))
        agreed = cookies.read(SECRETS, ends, segment)
        assert agreed is not None
        assert segment.payload.startswith(b"GET / ")
        mss = 1460 if family.is_ipv4 else 1440
        assert (agreed.mss, agreed.sack, agreed.window_scale is None) == (mss, True, False)
        assert agreed.own_timestamp is not None
        assert target.counters()["cookies_made"].value == 1
        assert target.flow_count() == 0
    if passes is not None:
        os.close(passes)
