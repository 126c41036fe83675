# SPDX-License-Identifier: Apache-2.0
"""The target beside a switch that sends nonsense, refuses, is full, lost, or another agent's."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

import pytest
from scapy.layers.inet import ICMP, IP, TCP
from scapy.layers.l2 import ARP, Ether

from data_flow_segment.targets.contract import (
    AddVirtualServer,
    InjectPacket,
    InstallFailed,
    InstallFlow,
    PacketIn,
    TargetError,
    TargetTaken,
    TransmitPacket,
)
from data_flow_segment.targets.p4runtime.driver import Driver
from data_flow_segment.targets.p4runtime.operations import (
    Demoted,
    PacketRefused,
    PacketUp,
    UpdateError,
    Write,
    WriteDone,
)
from data_flow_segment.targets.p4runtime.schema import Row
from data_flow_segment.targets.p4runtime.target import P4RuntimeTarget
from support.octets.packets import TCP_PROTOCOL, ip_packet
from support.targets.p4_model_rig import ModelDriver, P4ModelRig
from support.targets.rig import IPV4, NODE_MAC, TARGET_MAC, Side
from support.targets.scene import Scene, only


@pytest.fixture
def rig() -> Iterator[P4ModelRig]:
    made = P4ModelRig()
    yield made
    if made.switch.is_connected:
        made.close()


@pytest.fixture
def scene(rig: P4ModelRig) -> Scene:
    return Scene(rig, IPV4, TCP_PROTOCOL)


def value(rig: P4ModelRig, name: str) -> int:
    return rig.target.counters()[name].value


# --- what comes up -------------------------------------------------------------------------------


def test_a_new_flow_comes_up_with_its_server_and_a_wrong_checksum_does_not(
    rig: P4ModelRig, scene: Scene
) -> None:
    other = scene.key(port=443)
    rig.apply(AddVirtualServer(scene.server()), AddVirtualServer(scene.server(other)))
    before = scene.values()
    https = scene.segment(scene.client, (scene.vip[0], 443), flags="S")
    scene.send(scene.inbound(https))
    (up,) = scene.up_calls()
    assert (up.virtual_server, up.signature) == (other, scene.signature(vip=(IPV4.vip, 443)))
    https[TCP].chksum = 1
    scene.send(scene.inbound(https))
    assert scene.up_calls() == []
    after = scene.values()
    rose = {name: after[name] - before[name] for name in after if after[name] != before[name]}
    assert rose == {"packets": 2, "up_calls": 1, "drop_checksum": 1}


def test_what_is_no_packet_of_this_program_is_counted(rig: P4ModelRig, scene: Scene) -> None:
    rig.apply(AddVirtualServer(scene.server()))
    (up,) = rig.kept_from_the_agent([scene.inbound(scene.to_vip(flags="S"))])
    for spoil in (
        lambda packet: packet.metadata.add(metadata_id=77, value=b"\1"),
        lambda packet: setattr(packet, "payload", packet.payload[:20]),
        lambda packet: setattr(packet.metadata[1], "value", b"\x11"),
    ):
        spoilt = type(up.packet).FromString(up.packet.SerializeToString())
        spoil(spoilt)
        rig.driver.put([PacketUp(spoilt)])
    assert rig.events() == []
    assert value(rig, "drop_malformed") == 3


def test_events_come_in_pieces_and_none_is_lost(rig: P4ModelRig, scene: Scene) -> None:
    rig.apply(AddVirtualServer(scene.server()))
    for number in range(600):
        packet = scene.segment((IPV4.client, 3000 + number), scene.vip, flags="S")
        rig.driver.put(rig.switch.receive(1, scene.inbound(packet)[1]))
    pieces = [list(rig.target.events()) for _ in range(8)]
    assert all(len(piece) <= 256 for piece in pieces)
    came = [each for piece in pieces for each in piece]
    assert all(isinstance(each, PacketIn) for each in came)
    assert len(came) == 600


@pytest.mark.parametrize("ttl", [1, 64])
def test_a_sender_hears_why_its_packet_went_nowhere(
    rig: P4ModelRig, scene: Scene, ttl: int
) -> None:
    rig.apply(InstallFlow(scene.entry()))
    payload = b"x" if ttl == 1 else bytes(1600)
    packet = scene.to_vip(payload, ip_fields={"ttl": ttl, "flags": "DF"})
    octets = only(scene.send(scene.inbound(packet)), Side.EXTERNAL)
    error = IP(ip_packet(octets))
    assert (error.src, error.dst) == (IPV4.external, IPV4.client)
    assert (error[ICMP].type, error[ICMP].code) == ((11, 0) if ttl == 1 else (3, 4))
    if ttl == 64:
        assert error[ICMP].nexthopmtu == 1500
    assert value(rig, "drop_ttl" if ttl == 1 else "drop_too_big") == 1


@pytest.mark.parametrize("what", ["no packet", "no port of ours", "no address there"])
def test_nobody_hears_of_what_cannot_be_answered(rig: P4ModelRig, scene: Scene, what: str) -> None:
    rig.apply(InstallFlow(scene.entry()))
    if what == "no address there":
        bare = [replace(each, addresses=()) for each in rig.options.interfaces]
        rig.reopened(replace(rig.options, interfaces=tuple(bare)))
    expired = scene.inbound(scene.to_vip(b"x", ip_fields={"ttl": 1}))
    (up,) = rig.kept_from_the_agent([expired])
    if what == "no packet":
        up.packet.payload = up.packet.payload[:20]
    elif what == "no port of ours":
        up.packet.metadata[2].value = b"\x63"
    rig.driver.put([up])
    assert rig.events() == []
    assert rig._went_out() == []


def test_no_error_about_what_may_not_be_answered(rig: P4ModelRig, scene: Scene) -> None:
    rig.apply(InstallFlow(scene.entry()))
    later = scene.to_vip(b"x" * 8, ip_fields={"ttl": 1, "frag": 3})
    assert scene.send(scene.inbound(later)) == []


# --- what is not sent ----------------------------------------------------------------------------


def test_what_would_be_sent_while_the_switch_is_lost_is_counted(
    rig: P4ModelRig, scene: Scene
) -> None:
    rig.apply(AddVirtualServer(scene.server()))
    scene.send(scene.inbound(scene.to_vip(flags="S")))
    (up,) = scene.up_calls()
    rig.lose()
    rig.target.apply([TransmitPacket(bytes(scene.to_vip(b"x"))), InjectPacket(up)])
    rig.target.apply([TransmitPacket(b"\x45nonsense")])
    assert value(rig, "drop_switch_gone") == 2
    assert value(rig, "drop_malformed") == 1
    rig.find_again()
    before = rig.switch.path.counters.as_mapping()["transmitted"].value
    rig.apply(TransmitPacket(bytes(scene.to_vip(b"x"))))
    assert rig.switch.path.counters.as_mapping()["transmitted"].value == before + 1


def test_a_packet_that_the_switch_refuses_is_counted(rig: P4ModelRig) -> None:
    rig.driver.put([PacketRefused("no such port")])
    assert rig.target.events() == []
    assert value(rig, "drop_packet_refused") == 1


def test_what_the_inbox_dropped_is_a_counter(rig: P4ModelRig) -> None:
    rig.driver.dropped = 17
    assert value(rig, "drop_inbox_full") == 17


# --- what the switch refuses ---------------------------------------------------------------------


def test_a_neighbour_whose_row_is_refused_is_found_anew(
    rig: P4ModelRig, scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    stranger = IPV4.node[:-1] + "7"
    rig.apply(InstallFlow(scene.entry(node_ipaddr=stranger)))
    refuse_next(rig, "neighbours")
    with caplog.at_level(logging.WARNING, "splitplane.dfs"):
        scene.send((Side.INTERNAL, arp_reply(stranger)))
    (line,) = [record.message for record in caplog.records]
    assert "refused 1 x INSERT in neighbours: INTERNAL" in line
    assert value(rig, "write_refused") == 1
    assert scene.send(scene.inbound(scene.to_vip(b"lost"))) == []
    rig.advance(70)  # neighbours' own patience: what was refused is not tried at once
    scene.send(scene.inbound(scene.to_vip(b"waits")))
    scene.send((Side.INTERNAL, arp_reply(stranger)))
    octets = only(scene.send(scene.inbound(scene.to_vip(b"goes"))), Side.INTERNAL)
    assert Ether(octets).dst == NODE_MAC


def arp_reply(address: str) -> bytes:
    ours = TARGET_MAC[Side.INTERNAL]
    told = ARP(op=2, hwsrc=NODE_MAC, psrc=address, hwdst=ours, pdst=IPV4.internal)
    return bytes(Ether(src=NODE_MAC, dst=ours) / told)


def refuse_next(rig: P4ModelRig, table: str) -> None:
    """The switch takes no new row of this table, this once."""
    take = rig.switch._update
    number = rig.switch.schema.tables[table].id
    refused: list[Row] = []

    def update(given: object) -> str:
        entry = given.entity.table_entry  # type: ignore[attr-defined]
        if entry.table_id != number or refused:
            return take(given)  # type: ignore[arg-type]
        refused.append(rig.switch.schema.decode(entry))
        return "INTERNAL"

    rig.switch._update = update  # type: ignore[assignment,method-assign]


def test_a_flow_that_the_switch_has_no_room_for_fails_whole(rig: P4ModelRig, scene: Scene) -> None:
    rig.switch.flow_entries = 3
    first, second = scene.some_flows(2)
    rig.apply(first, second)
    (failed,) = rig.events()
    assert isinstance(failed, InstallFailed)
    assert (failed.entry, failed.table_full) == (second.entry, True)
    assert rig.target.flow_count() == 1
    assert sum(table == "flows" for table, *_ in rig.switch.rows) == 2
    assert value(rig, "install_failed") == 1


def test_an_answer_about_a_lost_write_undoes_nothing(rig: P4ModelRig, scene: Scene) -> None:
    """The driver answers for what it could not carry out; the flow waits for the switch."""
    rig.target.apply([InstallFlow(scene.entry())])
    rig.lose()
    assert rig.target.flow_count() == 1
    rig.find_again()
    assert sum(table == "flows" for table, *_ in rig.switch.rows) == 2
    assert rig.events() == []


# --- the switch, and other agents ----------------------------------------------------------------


@pytest.mark.parametrize("forgotten", [False, True])
def test_after_a_loss_packets_go_on_and_counts_too(
    rig: P4ModelRig, scene: Scene, forgotten: bool
) -> None:
    rig.apply(AddVirtualServer(scene.server()), InstallFlow(scene.entry()))
    scene.send(scene.inbound(scene.to_vip(b"x")))
    packets = value(rig, "packets")
    assert rig.target.lookup(scene.signature()) is not None  # the last report before the loss
    rig.lose()
    second = scene.entry(signature=scene.signature(client=(IPV4.client, 7)))
    rig.target.apply([InstallFlow(second)])
    rig.find_again(forgotten=forgotten)
    for port in (scene.client[1], 7):
        only(
            scene.send(scene.inbound(scene.segment((IPV4.client, port), scene.vip, b"y"))),
            Side.INTERNAL,
        )
    state = rig.target.lookup(scene.signature())
    assert state is not None
    assert state.counters.pkts_in == 2
    assert value(rig, "packets") == packets + 2
    assert value(rig, "switch_refilled") == forgotten


def test_the_next_agent_finds_all_of_it(rig: P4ModelRig, scene: Scene) -> None:
    servers = [
        scene.server(),
        scene.server(scene.key(None, 443)),
        scene.server(scene.key(port=None)),
    ]
    rig.apply(*map(AddVirtualServer, servers), *scene.some_flows(300))
    scene.send(scene.inbound(scene.segment((IPV4.client, 2000), scene.vip, b"x")))
    rows = dict(rig.switch.rows)
    boot_id, before = rig.target.boot_id, list(rig.target.scan(None, 1000)[0])
    with rig.agent_away():
        # nobody listens: what is known goes on, what is new is dropped where it is counted
        frame = scene.inbound(scene.segment((IPV4.client, 2000), scene.vip, b"y"))
        only(away(rig, frame), Side.INTERNAL)
        assert away(rig, scene.inbound(scene.segment((IPV4.client, 9), scene.vip))) == []
    assert (rig.target.adopted, rig.target.boot_id) == (True, boot_id)
    assert sorted(rig.target.virtual_servers(), key=repr) == sorted(servers, key=repr)
    after = list(rig.target.scan(None, 1000)[0])
    assert [state.entry for state in after] == [state.entry for state in before]
    assert (before[0].counters.pkts_in, after[0].counters.pkts_in) == (1, 2)
    assert value(rig, "drop_detached") == 1
    changed = {place for place, row in rig.switch.rows.items() if rows.get(place) != row}
    assert all(place[0] not in ("flows", "virtual_servers") for place in changed)


def away(rig: P4ModelRig, frame: tuple[Side, bytes]) -> list[tuple[Side, bytes]]:
    """A frame while no agent is there; nothing can come up."""
    assert list(rig.switch.receive(rig.interface(frame[0]), frame[1])) == []
    return rig._went_out()


def test_an_agent_that_lost_its_place_says_so(rig: P4ModelRig) -> None:
    rig.driver.put([Demoted("another agent is primary")])
    with pytest.raises(TargetError, match="another agent is primary"):
        rig.target.events()


def test_a_switch_that_another_agent_began_anew_is_not_ours(rig: P4ModelRig) -> None:
    rig.lose()
    rig.switch.boot_id = 4711
    rig.driver.put(rig.switch.connect(4711))
    with pytest.raises(
        TargetError, match=r"another agent wrote to the switch at .* in the meantime"
    ):
        rig.target.events()


def test_detached_nothing_is_left(rig: P4ModelRig, scene: Scene) -> None:
    rig.apply(AddVirtualServer(scene.server()), InstallFlow(scene.entry()))
    rig.target.close(detach=True)
    assert not rig.switch.is_connected
    assert rig.switch.rows == {}
    rig.open()
    assert not rig.target.adopted
    assert rig.target.flow_count() == 0


def test_while_the_switch_is_lost_a_pass_is_soon_over(rig: P4ModelRig, scene: Scene) -> None:
    rig.apply(InstallFlow(scene.entry(idle_timeout_s=1)))
    rig.lose()
    rig.clock.now += 5
    assert rig.target.sweep(64, stats=True)
    assert rig.target.events() == []  # who is idle, the switch would know


def test_opened_it_leads_or_lets_the_driver_go(
    rig: P4ModelRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.target.close(detach=False)
    driver = ModelDriver(rig.switch, rig.clock)
    monkeypatch.setattr(Driver, "open", lambda *_, **__: driver)
    driver.put(rig.switch.connect(1))
    target = P4RuntimeTarget.open(rig.options, clock=rig.clock)
    assert (target.phase, target.adopted, target.boot_id) == ("ready", True, 1)
    target.close(detach=False)
    driver.take()
    driver.put([*rig.switch.connect(1), Demoted("another agent is primary")])
    with pytest.raises(TargetTaken, match="another agent is primary"):
        P4RuntimeTarget.open(rig.options, clock=rig.clock)
    assert not rig.switch.is_connected


def test_a_switch_that_goes_while_it_is_taken_over_is_one_sentence(rig: P4ModelRig) -> None:
    rig.lose()
    with pytest.raises(TargetError, match=r"^lost the switch at"):
        rig.p4._wait_until_ready()


def test_why_a_flow_was_refused_is_told_in_the_switchs_words(rig: P4ModelRig, scene: Scene) -> None:
    rig.target.apply([InstallFlow(scene.entry())])
    (write,) = [each for each in rig.switch.waiting if isinstance(each, Write)]
    rig.switch.waiting.remove(write)
    error = UpdateError("PERMISSION_DENIED", "not the primary")
    rig.driver.put([WriteDone(write.token, {0: error})])
    (failed,) = rig.events()
    assert isinstance(failed, InstallFailed)
    assert "PERMISSION_DENIED not the primary" in failed.reason
    assert rig.target.flow_count() == 0


# --- one network behind several ports ------------------------------------------------------------


def test_a_node_is_found_and_served_behind_any_port_of_its_network(
    rig: P4ModelRig, scene: Scene
) -> None:
    outside, inside = rig.options.interfaces
    rack = replace(inside, more_ports=(7, 8))
    rig.reopened(replace(rig.options, interfaces=(outside, rack)))
    node = IPV4.node[:-1] + "7"
    rig.apply(AddVirtualServer(scene.server()), InstallFlow(scene.entry(node_ipaddr=node)))
    ours = TARGET_MAC[Side.INTERNAL]
    arp = ARP(op=2, hwsrc=NODE_MAC, psrc=node, hwdst=ours, pdst=IPV4.internal)
    for port in (8, 7):  # it moves
        rig.driver.put(rig.switch.receive(port, bytes(Ether(src=NODE_MAC, dst=ours) / arp)))
        rig.settle()
        rig.driver.put(rig.switch.receive(1, scene.inbound(scene.to_vip(b"x"))[1]))
        rig.settle()
        ((out, octets),) = rig.switch.out
        rig.switch.out.clear()
        assert (out, Ether(octets).dst, Ether(octets)[IP].dst) == (port, NODE_MAC, node)
        answer = scene.segment((node, 8080), scene.client, b"y")
        rig.driver.put(rig.switch.receive(port, bytes(Ether(src=NODE_MAC, dst=ours) / answer)))
        rig.settle()
        ((out, octets),) = rig.switch.out
        rig.switch.out.clear()
        assert (out, Ether(octets)[IP].src) == (1, scene.vip[0])
