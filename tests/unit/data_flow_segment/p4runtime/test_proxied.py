# SPDX-License-Identifier: Apache-2.0
"""What comes up of handshakes while the agent's tables change, and what an agent finds that did not
finish one; what is as with every target is the contract suite's (test_cookies, test_held)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from data_flow_segment.targets.contract import (
    AddVirtualServer,
    FlowEntry,
    InstallFlow,
    PacketIn,
    PacketReason,
    RemoveFlow,
    SetCookies,
)
from data_flow_segment.targets.p4runtime.schema import key
from ssmb.constants import Flag
from support.octets import packets
from support.octets.packets import TCP_PROTOCOL
from support.targets.p4_model_rig import P4ModelRig
from support.targets.rig import IPV4, Frame, Side
from support.targets.scene import NAT, Scene

SECRETS = SetCookies(1, 0, (bytes(16), bytes(16), bytes(16), bytes(16)))


@pytest.fixture
def rig() -> Iterator[P4ModelRig]:
    made = P4ModelRig()
    yield made
    made.close()


@pytest.fixture
def scene(rig: P4ModelRig) -> Scene:
    return Scene(rig, IPV4, TCP_PROTOCOL)


def asks(scene: Scene, flags: str = "PA") -> Frame:
    return scene.inbound(packets.tcp(scene.client, scene.vip, flags, b"question"))


def held(scene: Scene) -> FlowEntry:
    entry = scene.entry(held=True, flags=int(NAT | Flag.PROXY_SERVER))
    scene.rig.apply(InstallFlow(entry))
    return entry


def comes_late(rig: P4ModelRig, frame: Frame, *meanwhile: object) -> list[object]:
    """What the agent hears of a packet that came up before it changed something."""
    came = rig.kept_from_the_agent([frame])
    assert came
    rig.apply(*meanwhile)  # type: ignore[arg-type]
    rig.driver.put(came)
    return list(rig.events())


def test_what_came_up_of_a_flow_that_is_gone_ends_here(rig: P4ModelRig, scene: Scene) -> None:
    held(scene)
    before = scene.values()
    assert comes_late(rig, asks(scene), RemoveFlow(scene.signature())) == []
    after = scene.values()
    assert after["drop_detached"] == before["drop_detached"] + 1
    assert after["up_calls"] == before["up_calls"]


def test_what_came_up_of_a_flow_that_was_spliced_is_the_agents_to_put_back(
    rig: P4ModelRig, scene: Scene
) -> None:
    entry = held(scene)
    splice = entry._replace(held=False, flags=int(NAT | Flag.ADD_TCP_OFFSETS))
    (up,) = comes_late(rig, asks(scene), InstallFlow(splice))
    assert isinstance(up, PacketIn)
    assert (up.reason, up.signature) == (PacketReason.HELD, scene.signature())


def test_a_syn_to_a_server_that_became_plain_is_a_new_flow(rig: P4ModelRig, scene: Scene) -> None:
    plain = AddVirtualServer(scene.server())
    rig.apply(SECRETS, AddVirtualServer(replace(scene.server(), proxied=True)))
    (up,) = comes_late(rig, asks(scene, "S"), plain)
    assert isinstance(up, PacketIn)
    assert (up.reason, up.virtual_server) == (PacketReason.NEW_FLOW, scene.key())


def test_an_error_that_quotes_too_little_is_of_no_flow(rig: P4ModelRig, scene: Scene) -> None:
    held(scene)
    syn = packets.tcp(scene.client, scene.node, "S", seq=100)
    error = packets.unreachable(IPV4.node, IPV4.client, bytes(syn), "port")
    (came,) = rig.kept_from_the_agent([scene.outbound(error)])
    short = came.packet
    short.payload = short.payload[:14] + bytes(
        packets.unreachable(IPV4.node, IPV4.client, bytes(syn)[:20], "port")
    )
    before = scene.values()["drop_detached"]
    rig.driver.put([came])
    assert rig.events() == []
    assert scene.values()["drop_detached"] == before + 1


def test_half_a_splice_is_undone_by_the_next_agent(rig: P4ModelRig, scene: Scene) -> None:
    """The client's entry counts; it says that the agent before had not finished."""
    entry = held(scene)
    rows = rig.switch.rows
    (back,) = (row for row in rows.values() if row.action == "returning")
    with rig.agent_away():
        half = back._replace(parameters=(*back.parameters[:-1], 0))
        rows[key(back)] = half
        rig.switch.path.changed(key(back), half)
    assert [state.entry for state in rig.target.scan(None, 9)[0]] == [entry]
    answer = packets.tcp(scene.node, scene.client, "SA")
    assert scene.send((Side.INTERNAL, scene.outbound(answer)[1])) == []
    assert [up.reason for up in scene.up_calls()] == [PacketReason.HELD]
    assert rows[key(back)] == back


def test_a_held_flow_is_half_open_whatever_is_reported(rig: P4ModelRig, scene: Scene) -> None:
    entry = held(scene)
    scene.send(asks(scene, "FA"), asks(scene, "R"))
    state = rig.target.lookup(scene.signature())
    assert state is not None
    assert (state.half_open, state.closing, state.closed) == (True, False, False)
    rig.apply(InstallFlow(entry._replace(held=False)))
    state = rig.target.lookup(scene.signature())
    assert state is not None
    assert (state.half_open, state.closing, state.closed) == (False, False, False)
