# SPDX-License-Identifier: Apache-2.0
"""Sources of new flows are checked as the host's rp_filter says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from data_flow_segment.targets.contract import AddVirtualServer
from splitplane.lab.processes import wait_for
from support.octets.packets import UDP_PROTOCOL
from support.targets.rig import FAMILIES, Family
from support.targets.scene import Scene
from support.targets.veth_rig import VethRig, opened, run

pytestmark = pytest.mark.dataplane


@pytest.fixture(scope="module", params=["tc", "xdp"])
def running(request: pytest.FixtureRequest) -> Iterator[VethRig]:
    with opened(request.param) as rig:
        for version, network in (("-4", "198.18.0.0/15"), ("-6", "2001:db8:dead::/48")):
            run("ip", "-n", rig._network.target, version, "route", "add", "unreachable", network)
        yield rig


def come_up(scene: Scene) -> set[str]:
    """Whose packets begin flows: a client's, a node's, of somebody without a route."""
    family = scene.family
    nowhere = "198.18.0.7" if family.is_ipv4 else "2001:db8:dead::7"
    senders = {family.far_client: "client", family.node: "node", nowhere: "nowhere"}
    found = set()
    for source, name in senders.items():
        scene.send(scene.inbound(scene.segment((source, 5000), scene.vip, b"x")))
        if scene.up_calls():
            found.add(name)
    return found


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
@pytest.mark.parametrize(
    ("setting", "expected"),
    [(1, {"client"}), (2, {"client", "node"}), (0, {"client", "node", "nowhere"})],
    ids=["strict", "loose", "off"],
)
def test_the_hosts_setting_is_followed_while_the_agent_runs(
    rig: VethRig, family: Family, setting: int, expected: set[str]
) -> None:
    scene = Scene(rig, family, UDP_PROTOCOL)
    rig.apply(AddVirtualServer(scene.server()))
    run("ip", "netns", "exec", rig._network.target, "sysctl", "-qw",
        f"net.ipv4.conf.ext0.rp_filter={setting}")  # fmt: skip

    def is_followed() -> bool:
        while not rig.target.sweep(256, stats=False):
            pass
        return come_up(scene) == expected

    wait_for("the setting", is_followed, 30)


def test_the_highest_of_the_interfaces_and_of_all_counts(rig: VethRig) -> None:
    scene = Scene(rig, FAMILIES[0], UDP_PROTOCOL)
    rig.apply(AddVirtualServer(scene.server()))

    def set_to(place: str, value: int) -> None:
        run("ip", "netns", "exec", rig._network.target, "sysctl", "-qw",
            f"net.ipv4.conf.{place}.rp_filter={value}")  # fmt: skip

    def is_strict() -> bool:
        rig.target.sweep(256, stats=False)
        return come_up(scene) == {"client"}

    set_to("ext0", 0)
    set_to("all", 1)
    try:
        wait_for("the setting of all", is_strict, 30)
    finally:
        set_to("all", 0)
