# SPDX-License-Identifier: Apache-2.0
"""A target that asks about new flows by itself: what it does with the REPLY, and which ones it
leaves to the agent's socket."""

from __future__ import annotations

from typing import Any

import pytest

from data_flow_segment.targets.contract import AddVirtualServer, InstallFlow, Offload
from ssmb.addresses import UNSPECIFIED, from_text
from ssmb.codec import encode
from ssmb.constants import ErrorCode, Flag, ForwardMode
from ssmb.messages import Query, Reply
from ssmb.seal import Sealer
from support.octets.packets import TCP_PROTOCOL, hop
from support.targets.answering_cs import VERSION, AnsweringCs, finished
from support.targets.rig import Frame, OffloadRig, Side
from support.targets.scene import NAT, Scene, assert_packet, only

ISN = 0x12345678


def fields_of(scene: Scene, **fields: Any) -> dict[str, Any]:
    """Of a flow's first packet."""
    return {"flags": "S", "seq": ISN, **fields} if scene.protocol == TCP_PROTOCOL else fields


def first(scene: Scene, payload: bytes = b"first", port: int = 40000, **fields: Any) -> Frame:
    client = scene.client[0], port
    packet = scene.segment(client, scene.vip, payload, **fields_of(scene, **fields))
    return scene.inbound(packet)


@pytest.fixture
def asking(asking_rig: OffloadRig, scene: Scene, cs: AnsweringCs) -> AnsweringCs:
    scene.rig.apply(AddVirtualServer(scene.server()), cs.offload())
    return cs


@pytest.fixture
def query(scene: Scene, asking: AnsweringCs) -> Query:
    return asking.asked(scene.send(first(scene)))


def is_known(scene: Scene, serial: int, port: int = 40000) -> bool:
    state = scene.rig.target.lookup(scene.signature(client=(scene.client[0], port)))
    return state is not None and state.entry.serial == serial


def assert_left(rig: OffloadRig, frame: Frame, datagram: bytes) -> None:
    """The agent's socket gets it octet for octet, and nothing else happens."""
    flows = rig.target.flow_count()
    rig.delivered()
    assert rig.exchange([frame]) == []
    assert rig.delivered() == [datagram]
    assert rig.target.flow_count() == flows
    assert rig.events() == []


def left(scene: Scene, rig: OffloadRig, cs: AnsweringCs, reply: Reply, lane: int = 1) -> None:
    datagram = cs.sealed(reply, lane=lane)
    assert_left(rig, cs.carrying(datagram), datagram)
    assert not is_known(scene, reply.serial)


def test_a_reply_enters_the_flow_and_the_packet_goes_on(
    asking_rig: OffloadRig, scene: Scene, asking: AnsweringCs, query: Query
) -> None:
    before = scene.values()
    out = scene.send(asking.frame(asking.reply(query, scene.entry())))
    wanted = scene.segment(scene.client, scene.node, b"first", **fields_of(scene))
    assert_packet(only(out, Side.INTERNAL), hop(wanted))
    after = scene.values()
    assert after["installed"] == before["installed"] + 1
    assert after["flow_packets"] == before["flow_packets"] + 1
    assert scene.dropped_since(before) == 0
    assert (asking_rig.delivered(), scene.rig.events()) == ([], [])
    state = scene.rig.target.lookup(scene.signature())
    assert state is not None
    assert state.entry._replace(opened_ms=0) == scene.entry(serial=query.serial, opened_ms=0)
    assert 0 <= scene.rig.target_time() * 1000 - state.entry.opened_ms < 60_000
    assert state.counters.pkts_in == 1
    assert state.half_open == (scene.protocol == TCP_PROTOCOL)
    assert scene.rig.target.flow_count() == 1
    answer = scene.segment(scene.node, scene.client, b"y")
    back = scene.segment(scene.vip, scene.client, b"y")
    assert_packet(only(scene.send(scene.outbound(answer)), Side.EXTERNAL), hop(back))
    more = scene.send(scene.inbound(scene.to_vip(b"more")))
    there = scene.segment(scene.client, scene.node, b"more")
    assert_packet(only(more, Side.INTERNAL), hop(there))


def test_a_reply_without_a_frame_enters_the_flow_only(
    asking_rig: OffloadRig, scene: Scene, asking: AnsweringCs, query: Query
) -> None:
    assert scene.send(asking.frame(asking.reply(query, scene.entry(), frame=b""))) == []
    state = scene.rig.target.lookup(scene.signature())
    assert state is not None
    assert (state.entry.serial, state.counters.pkts_in) == (query.serial, 0)
    assert asking_rig.delivered() == []
    assert [side for side, _ in scene.send(first(scene))] == [Side.INTERNAL]


@pytest.mark.parametrize("lane", [0, 1, 3])
def test_each_lane_has_a_window_of_its_own(
    scene: Scene, asking: AnsweringCs, query: Query, lane: int
) -> None:
    reply = asking.reply(query, scene.entry())
    for number in (2, lane, lane):  # the same flow again: its packet goes on
        assert [side for side, _ in scene.send(asking.frame(reply, lane=number))] == [Side.INTERNAL]
    assert scene.rig.target.flow_count() == 1


@pytest.mark.parametrize("lane", [4, 5])
def test_other_lanes_are_the_agents(
    asking_rig: OffloadRig, scene: Scene, asking: AnsweringCs, query: Query, lane: int
) -> None:
    left(scene, asking_rig, asking, asking.reply(query, scene.entry()), lane=lane)


def test_a_repeated_reply_enters_nothing_new(
    asking_rig: OffloadRig, scene: Scene, asking: AnsweringCs, query: Query
) -> None:
    """The client repeated its SYN before the first REPLY came: two REPLYs, one flow."""
    reply = asking.reply(query, scene.entry(), flags=int(NAT | Flag.PARKED | Flag.RETRY))
    before = scene.values()
    for count in (1, 2):
        assert [side for side, _ in scene.send(asking.frame(reply))] == [Side.INTERNAL]
        state = scene.rig.target.lookup(scene.signature())
        assert state is not None
        assert state.counters.pkts_in == count
    assert scene.values()["installed"] == before["installed"] + 1


def test_a_replayed_datagram_is_dropped(
    asking_rig: OffloadRig, scene: Scene, asking: AnsweringCs, query: Query
) -> None:
    frame = asking.frame(asking.reply(query, scene.entry()))
    assert len(scene.send(frame)) == 1
    before = scene.values()
    assert scene.send(frame) == []
    scene.rig.apply(Offload(1))
    scene.rig.apply(asking.offload())
    other = AnsweringCs(scene.family)
    scene.rig.apply(other.offload())
    scene.rig.apply(asking.offload())  # active again, with the keys that it had
    assert scene.send(frame) == []
    assert scene.values()["reply_replayed"] == before["reply_replayed"] + 2
    assert asking_rig.delivered() == []


def test_the_window_takes_what_was_overtaken_and_nothing_older(
    scene: Scene, asking: AnsweringCs, query: Query
) -> None:
    reply = asking.reply(query, scene.entry())
    frames = [asking.frame(reply) for _ in range(1030)]
    before = scene.values()["reply_replayed"]
    for number in (1029, 10, 500, 6, 1028):  # at most 1023 behind the highest one
        assert len(scene.send(frames[number])) == 1, number
    for number in (5, 0, 500, 10, 1029):
        assert scene.send(frames[number]) == [], number
    assert scene.values()["reply_replayed"] == before + 5


def test_a_seal_of_another_key_is_the_agents(
    asking_rig: OffloadRig, scene: Scene, asking: AnsweringCs, query: Query
) -> None:
    reply = asking.reply(query, scene.entry())
    datagram = bytearray(asking.sealed(reply))
    datagram[-1] ^= 1
    assert_left(asking_rig, asking.carrying(bytes(datagram)), bytes(datagram))
    other = Sealer(b"another key, so!", 1).seal(encode(reply, VERSION))
    assert_left(asking_rig, asking.carrying(other), other)
    # what was left has used up no counter of the window
    assert len(scene.send(asking.frame(reply))) == 1


def test_what_was_asked_with_earlier_keys_is_the_agents(
    asking_rig: OffloadRig, scene: Scene, asking: AnsweringCs, query: Query
) -> None:
    other = AnsweringCs(scene.family)
    scene.rig.apply(other.offload())
    left(scene, asking_rig, asking, asking.reply(query, scene.entry()))
    assert len(scene.send(other.frame(other.reply(query, scene.entry())))) == 1


UNPLAIN: dict[str, dict[str, Any]] = {
    "error": {"error_code": int(ErrorCode.UNKNOWN), "flags": int(Flag.PARKED)},
    "wait": {"error_code": int(ErrorCode.WAIT), "idle_timeout": 3, "flags": int(Flag.PARKED)},
    "offsets": {"flags": int(NAT | Flag.PARKED | Flag.ADD_TCP_OFFSETS), "seq_offset": 1},
    "offset alone": {"ack_offset": 7},
    "window scale": {"wscale_shift": -1},
    "proxy": {"flags": int(NAT | Flag.PARKED | Flag.PROXY_SERVER)},
    "not parked": {"flags": int(NAT), "frame": b""},
    "never idle": {"idle_timeout": 0},
    "serial of no flow": {"serial": 0},
    "serial of a CS": {"serial": 0x80000001},
    "unknown mode": {"forward_mode": 3},
    "no node": {"node_ipaddr": UNSPECIFIED},
    "no port": {"node_port": 0},
    "no next hop": {"flags": int(NAT & ~Flag.ROUTE_BY_DST_IP | Flag.PARKED)},
    "loopback": {"node_ipaddr": from_text("127.0.0.1")},
    "no host as next hop": {"next_hop_ipaddr": from_text("224.0.0.1")},
    "no source": {"flags": int(NAT | Flag.TRANSLATE_SRC | Flag.PARKED)},
}


@pytest.mark.parametrize("changes", UNPLAIN.values(), ids=UNPLAIN)
def test_what_is_not_plain_is_the_agents(
    asking_rig: OffloadRig,
    scene: Scene,
    asking: AnsweringCs,
    query: Query,
    changes: dict[str, Any],
) -> None:
    left(scene, asking_rig, asking, asking.reply(query, scene.entry(), **changes))


def test_what_could_go_round_is_the_agents(
    asking_rig: OffloadRig, scene: Scene, asking: AnsweringCs, query: Query
) -> None:
    family = scene.family
    for node in (family.vip, family.internal, family.external):
        reply = asking.reply(query, scene.entry(node_ipaddr=node))
        left(scene, asking_rig, asking, reply)
    away = int((NAT & ~Flag.ROUTE_BY_DST_IP) | Flag.PARKED)
    for hop_address in (family.vip, family.internal):
        entry = scene.entry(next_hop_ipaddr=hop_address)
        left(scene, asking_rig, asking, asking.reply(query, entry, flags=away))
    mode = {"forward_mode": int(ForwardMode.L2), "node_ipaddr": family.vip}
    left(scene, asking_rig, asking, asking.reply(query, scene.entry(**mode)))


def test_a_flow_that_answers_itself_is_the_agents(
    asking_rig: OffloadRig, scene: Scene, asking: AnsweringCs, query: Query
) -> None:
    """Its return direction would have the key of its own packets."""
    entry = scene.entry(
        node_ipaddr=scene.client[0],
        node_port=scene.client[1],
        snat_ipaddr=scene.vip[0],
        snat_port=scene.vip[1],
        flags=int(NAT | Flag.TRANSLATE_SRC),
    )
    left(scene, asking_rig, asking, asking.reply(query, entry))


def test_another_flow_has_its_place(
    asking_rig: OffloadRig, scene: Scene, asking: AnsweringCs, query: Query
) -> None:
    """The agent installed a flow with this signature meanwhile: the REPLY is stale."""
    scene.rig.apply(InstallFlow(scene.entry(serial=query.serial ^ 1)))
    before = scene.values()
    assert scene.send(asking.frame(asking.reply(query, scene.entry()))) == []
    assert scene.values()["reply_stale"] == before["reply_stale"] + 1
    assert asking_rig.delivered() == []
    assert is_known(scene, query.serial ^ 1)


def test_a_return_direction_that_is_taken_is_the_agents(
    asking_rig: OffloadRig, scene: Scene, asking: AnsweringCs, query: Query
) -> None:
    """Two clients' flows to one port of the node, from one source address and port."""
    shared = {
        "flags": int(NAT | Flag.TRANSLATE_SRC),
        "snat_ipaddr": scene.family.snat,
        "snat_port": 5000,
    }
    assert len(scene.send(asking.frame(asking.reply(query, scene.entry(**shared))))) == 1
    other = asking.asked(scene.send(first(scene, port=40001)))
    left(scene, asking_rig, asking, asking.reply(other, scene.entry(**shared)))
    assert is_known(scene, query.serial)
    free = scene.entry(**{**shared, "snat_port": 5001})
    assert len(scene.send(asking.frame(asking.reply(other, free)))) == 1


def test_the_key_of_a_nodes_answers_is_the_agents(
    asking_rig: OffloadRig, scene: Scene, asking: AnsweringCs, query: Query
) -> None:
    assert len(scene.send(asking.frame(asking.reply(query, scene.entry())))) == 1
    src, dst = scene.node, scene.client
    inverse = scene.signature(client=src, vip=dst)
    entry = scene.entry(signature=inverse, node_ipaddr=scene.family.node2, serial=77)
    reply = asking.reply(query, entry, serial=77, frame=b"")._replace(
        src_ipaddr=inverse.src_ipaddr,
        dst_ipaddr=inverse.dst_ipaddr,
        src_port=inverse.src_port,
        dst_port=inverse.dst_port,
    )
    left(scene, asking_rig, asking, reply)
    assert is_known(scene, query.serial)


def test_standbys_get_a_copy_of_what_was_carried_out(
    scene: Scene, asking: AnsweringCs, query: Query
) -> None:
    reply = asking.reply(query, scene.entry())
    assert len(scene.send(asking.frame(reply))) == 1
    assert scene.rig.events() == []
    scene.rig.apply(asking.offload(shared=True))
    other = asking.asked(scene.send(first(scene, port=40001)))
    reply = asking.reply(other, scene.entry())
    for _ in range(2):  # the second one enters nothing
        assert len(scene.send(asking.frame(reply))) == 1
    copy = reply._replace(flags=int(NAT | Flag.ADDR16), frame=b"")
    assert finished(scene.rig.events()) == [copy]


def test_datagrams_of_others_are_the_agents(
    asking_rig: OffloadRig, scene: Scene, asking: AnsweringCs, query: Query
) -> None:
    reply = asking.reply(query, scene.entry())
    other = AnsweringCs(scene.family, port=asking.path.cs_port + 1)
    datagram = asking.sealed(reply)
    assert_left(asking_rig, other.carrying(datagram), datagram)
    for octets in (b"", b"x", datagram[:100], bytes(700)):
        assert_left(asking_rig, asking.carrying(octets), octets)
    assert len(scene.send(asking.carrying(datagram))) == 1
