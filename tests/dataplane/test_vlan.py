# SPDX-License-Identifier: Apache-2.0
"""A VLAN's interface beside the one below it: each has its own clients."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from data_flow_segment.targets.contract import AddVirtualServer, InstallFlow
from support.octets.packets import (
    UDP_PROTOCOL,
    arp_request,
    frame,
    hop,
    ip_packet,
    udp,
    vlan_of,
)
from support.targets.rig import IPV4
from support.targets.scene import Scene
from support.targets.wire import Wire, inside

pytestmark = pytest.mark.dataplane

WAIT_S = 30.0
CLIENT_MAC, NODE_MAC = "02:5b:00:00:0c:10", "02:5b:00:00:0d:02"
PLAIN, TAGGED = "192.0.2.10", "198.51.100.10"  # clients


def prepare(ground: Any) -> tuple[str, str]:
    """Clients on ext0, in a VLAN of it, and a node; the MAC addresses of ext0 and int0."""
    ground.run("ip", "netns", "exec", ground.name, "sysctl", "-qw", "net.ipv4.ip_forward=1")
    vlan = ("link", "add", "link", "ext0", "name", "ext0.100", "type", "vlan", "id", "100")
    done = subprocess.run(["ip", "-n", ground.name, *vlan], capture_output=True, check=False)
    if b"Unknown device type" in done.stderr:
        pytest.skip("this kernel has no VLAN interfaces (CONFIG_VLAN_8021Q)")
    assert done.returncode == 0, done.stderr
    ground.ip("link", "set", "ext0.100", "up")
    ground.ip("address", "add", "198.51.100.1/24", "dev", "ext0.100")
    known = ((PLAIN, CLIENT_MAC, "ext0"), (TAGGED, CLIENT_MAC, "ext0.100"))
    for address, mac, device in (*known, (IPV4.node, NODE_MAC, "int0")):
        link = ("lladdr", mac, "dev", device, "nud", "permanent")
        ground.ip("neighbour", "replace", address, *link)
    for name in ("ext0", "int0"):
        ground.run("ip", "-n", ground.far, "link", "set", name, "arp", "off", "promisc", "on")
    found = [
        ground.ip("-brief", "link", "show", "dev", name).split()[2] for name in ("ext0", "int0")
    ]
    return found[0], found[1]


def next_of(wire: Wire, wanted: bytes) -> bytes:
    """The frame that carries this IP packet, or these octets; other hosts' talk is skipped."""
    while True:
        octets = wire.receive(WAIT_S)
        assert octets is not None, "nothing came out"
        if wanted in octets:
            return octets


@pytest.mark.parametrize("both", [True, False], ids=["and ext0", "alone"])
def test_a_client_in_a_vlan_is_answered_in_it(ground: Any, both: bool) -> None:
    ext_mac, int_mac = prepare(ground)
    target = ground.open(external=("ext0", "ext0.100") if both else ("ext0.100",))
    scene = Scene(ground, IPV4, UDP_PROTOCOL)
    clients = {100: (TAGGED, 40000)} | ({None: (PLAIN, 40000)} if both else {})
    entries = [scene.entry(signature=scene.signature(client=each)) for each in clients.values()]
    target.apply([AddVirtualServer(scene.server()), *map(InstallFlow, entries)])
    with inside(ground.far):
        outside, within = Wire("ext0"), Wire("int0")
    try:
        for vlan, client in clients.items():
            outside.send(frame(CLIENT_MAC, ext_mac, udp(client, scene.vip, b"question"), vlan))
            wanted = bytes(hop(udp(client, scene.node, b"question")))
            octets = next_of(within, wanted)
            assert vlan_of(octets) is None
            within.send(frame(NODE_MAC, int_mac, udp(scene.node, client, b"answer")))
            wanted = bytes(hop(udp(scene.vip, client, b"answer")))
            octets = next_of(outside, wanted)
            assert vlan_of(octets) == vlan
            assert ip_packet(octets) == wanted
            outside.send(arp_request(CLIENT_MAC, client[0], IPV4.vip, vlan))
            assert vlan_of(next_of(outside, b"\x08\x06\x00\x01\x08\x00\x06\x04\x00\x02")) == vlan
        assert target.counters()["tagged"].value == (2 if both else 0)
    finally:
        outside.close()
        within.close()
