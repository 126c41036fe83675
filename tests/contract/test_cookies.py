# SPDX-License-Identifier: Apache-2.0
"""Proxied virtual servers: the target completes clients' handshakes with SYN cookies, and keeps
nothing (docs/design/0012-content.md).  What it makes, `splicing.cookies` reads."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from data_flow_segment.targets.contract import (
    AddVirtualServer,
    FlowClosed,
    InstallFlow,
    PacketIn,
    PacketReason,
    RemoveFlow,
    SetCookies,
)
from packets import tcp
from packets.parse import ACK, SYN
from packets.tcp import CWR, ECE, Options, Segment
from splicing import cookies
from splicing.instructions import OWN_WINDOW, OWN_WINDOW_SCALE
from ssmb.addresses import from_text
from ssmb.constants import TCP, Flag
from ssmb.messages import Session
from support.octets import packets
from support.octets.packets import ip_packet, macs
from support.targets.rig import CLIENT_MAC, TARGET_MAC, Frame, Side
from support.targets.scene import NAT, Scene, only

NUMBER = 6  # of the current secret
SECRETS = cookies.Secrets(
    NUMBER, {n % 4: bytes([n] * 16) for n in (NUMBER - 1, NUMBER, NUMBER + 1)}
)
ISN = 0xFFFFFFF0
OLD = 500_000_000  # what the connection before from the same port has come to
WORD = 0xFFFFFFFF

OPTIONS: dict[str, list[Any]] = {
    "none": [],
    "as Linux sends": [
        ("MSS", 1460), ("SAckOK", b""), ("Timestamp", (77, 0)), ("NOP", None), ("WScale", 7),
    ],
    "as Windows sends": [
        ("MSS", 1440), ("NOP", None), ("WScale", 8), ("NOP", None), ("NOP", None), ("SAckOK", b""),
    ],
    "timestamps alone": [("NOP", None), ("NOP", None), ("Timestamp", (WORD, 0))],
    "a small MSS and no scale": [("MSS", 300), ("SAckOK", b"")],
    "a jumbo MSS": [("MSS", 65495), ("WScale", 14)],
    "a scale beyond its limit": [("MSS", 1300), ("NOP", None), ("WScale", 200)],
    "an unknown option first": [(253, b"\x01\x02\x03"), ("NOP", None), ("MSS", 1399)],
    "an end in between": [("MSS", 1460), ("EOL", None), ("WScale", 7)],
}  # fmt: skip


def told(**changes: Any) -> SetCookies:
    by_number = SECRETS.by_number
    secrets = tuple(by_number.get(number, b"") for number in range(4))
    return replace(SetCookies(1, NUMBER % 4, secrets), **changes)  # type: ignore[arg-type]


@pytest.fixture
def scene(tcp_scene: Scene) -> Iterator[Scene]:
    """A proxied virtual server."""
    if not tcp_scene.rig.target.makes_cookies:
        pytest.skip("this target leaves content-aware virtual servers alone")
    server = replace(tcp_scene.server(), proxied=True)
    tcp_scene.rig.apply(told(), AddVirtualServer(server))
    yield tcp_scene
    tcp_scene.rig.apply(RemoveFlow(tcp_scene.signature()))


def ends(scene: Scene) -> Session:
    return Session(*scene.signature()[:5])


def syn(scene: Scene, flags: str = "S", seq: int = ISN, **fields: Any) -> Frame:
    return scene.inbound(packets.tcp(scene.client, scene.vip, flags, seq=seq, **fields))


def answered(scene: Scene, *frames: Frame) -> Segment:
    """The SYN-ACK that the client gets."""
    octets = only(scene.send(*frames), Side.EXTERNAL)
    assert macs(octets) == (CLIENT_MAC, TARGET_MAC[Side.EXTERNAL])
    found, segment = tcp.read_ip(ip_packet(octets))
    assert found == Session(from_text(scene.vip[0]), from_text(scene.client[0]), 80, 40000, TCP)
    return segment


def said(
    scene: Scene, cookie: int, payload: bytes = b"GET / HTTP/1.0\r\n\r\n", **fields: Any
) -> Frame:
    """The client's next segment."""
    chosen = {"flags": "PA", "seq": ISN + 1 & WORD, "ack": cookie + 1 & WORD, **fields}
    flags = chosen.pop("flags")
    return scene.inbound(packets.tcp(scene.client, scene.vip, flags, payload, **chosen))


def rises(scene: Scene, name: str, frame: Frame) -> None:
    """The packet ends here, and this says why."""
    before = scene.values()[name]
    assert scene.send(frame) == []
    assert scene.up_calls() == []
    assert scene.values()[name] == before + 1


def mss_of(scene: Scene) -> int:
    return 1460 if scene.family.is_ipv4 else 1440


@pytest.mark.parametrize("name", OPTIONS)
def test_a_syn_is_answered_with_a_cookie(scene: Scene, name: str) -> None:
    before = scene.values()["cookies_made"]
    frame = syn(scene, options=OPTIONS[name])
    segment = answered(scene, frame)
    _, sent = tcp.read_ip(ip_packet(frame[1]))
    assert segment.seq == cookies.make(SECRETS, ends(scene), ISN, sent.options)
    assert (segment.ack, segment.flags) == (ISN + 1, SYN | ACK)
    assert (segment.window, segment.payload, segment.tos) == (OWN_WINDOW, b"", 0)
    theirs, ours = sent.options, segment.options
    scale = None if theirs.window_scale is None else OWN_WINDOW_SCALE
    stamps = ours.timestamps
    assert ours == Options(mss_of(scene), scale, theirs.sack_permitted, (), stamps)
    assert (stamps is None) == (theirs.timestamps is None)
    if stamps is not None and theirs.timestamps is not None:
        assert stamps[1] == theirs.timestamps[0]
        assert not stamps[0] & 1
        now = cookies.timestamp(int(scene.rig.target_time() * 1000), ecn=False)
        assert 0 <= now - stamps[0] < 60_000
    assert scene.up_calls() == []
    assert scene.rig.target.flow_count() == 0
    assert scene.values()["cookies_made"] == before + 1


def test_what_the_client_says_next_comes_up_with_what_was_agreed(scene: Scene) -> None:
    segment = answered(scene, syn(scene, options=OPTIONS["as Linux sends"]))
    assert segment.options.timestamps is not None
    stamps = ("Timestamp", (80, segment.options.timestamps[0]))
    frame = said(scene, segment.seq, options=[("NOP", None), ("NOP", None), stamps])
    assert scene.send(frame) == []
    (up,) = scene.up_calls()
    assert up.reason == PacketReason.PROXIED
    assert up.virtual_server == scene.key()
    assert up.signature == scene.signature()
    assert ip_packet(up.frame) == ip_packet(frame[1])
    _, first = tcp.read_ip(ip_packet(up.frame))
    agreed = cookies.read(SECRETS, ends(scene), first)
    assert agreed is not None
    assert (agreed.client_isn, agreed.mss, agreed.window_scale, agreed.sack) == (ISN, 1460, 7, True)
    assert agreed.own_timestamp == segment.options.timestamps[0]


def test_random_syns_are_understood(scene: Scene) -> None:
    choose = random.Random(12)
    for _ in range(25):
        options: list[Any] = [("MSS", choose.randrange(65536))] if choose.random() < 0.8 else []
        options += [("WScale", choose.randrange(15))] * (choose.random() < 0.7)
        options += [("SAckOK", b"")] * (choose.random() < 0.7)
        options += [("Timestamp", (choose.randrange(1 << 32), 0))] * (choose.random() < 0.7)
        choose.shuffle(options)
        isn = choose.randrange(1 << 32)
        frame = syn(scene, seq=isn, options=options)
        segment = answered(scene, frame)
        _, sent = tcp.read_ip(ip_packet(frame[1]))
        assert segment.seq == cookies.make(SECRETS, ends(scene), isn, sent.options), options
        assert segment.ack == isn + 1 & WORD


def test_ecn_is_agreed_with_who_asks_for_it(scene: Scene) -> None:
    options = OPTIONS["as Linux sends"]
    segment = answered(scene, syn(scene, "SEC", options=options))
    assert segment.flags == SYN | ACK | ECE
    assert segment.options.timestamps is not None
    assert segment.options.timestamps[0] & 1
    # a cookie has no room for it
    assert answered(scene, syn(scene, "SEC")).flags == SYN | ACK
    # somebody's ECE alone is no question (RFC 3168 6.1.1)
    assert not answered(scene, syn(scene, "SE", options=options)).flags & (ECE | CWR)
    scene.rig.apply(told(ecn=False))
    assert answered(scene, syn(scene, "SEC", options=options)).flags == SYN | ACK


def test_the_mss_is_what_the_configuration_leaves(scene: Scene) -> None:
    scene.rig.apply(told(mss_less=80))
    assert answered(scene, syn(scene)).options.mss == mss_of(scene) - 80


def test_each_secret_of_the_moment_is_accepted(scene: Scene) -> None:
    for number in range(NUMBER - 1, NUMBER + 2):
        made = cookies.make(SECRETS._replace(number=number), ends(scene), ISN, Options(mss=1460))
        assert scene.send(said(scene, made)) == []
        assert [up.reason for up in scene.up_calls()] == [PacketReason.PROXIED]
    later = cookies.Secrets(NUMBER + 2, {(NUMBER + 2) % 4: bytes(16)})
    made = cookies.make(later, ends(scene), ISN, Options(mss=1460))
    assert scene.send(said(scene, made)) == []
    assert [up.reason for up in scene.up_calls()] == [PacketReason.NEW_FLOW]


def test_no_data_no_state(scene: Scene) -> None:
    cookie = answered(scene, syn(scene)).seq
    rises(scene, "cookie_acks", said(scene, cookie, b"", flags="A"))
    rises(scene, "cookie_acks", said(scene, cookie, b"", flags="R"))
    rises(scene, "cookie_acks", said(scene, cookie, b"", flags="RA"))
    rises(scene, "cookie_acks", said(scene, cookie + 1, b"", flags="A"))
    rises(scene, "drop_tcp_flags", said(scene, cookie, b"", flags="SA"))
    rises(scene, "drop_tcp_flags", said(scene, cookie, b"data", flags="P"))
    rises(scene, "drop_tcp_flags", said(scene, cookie, b"", flags="SF"))
    assert scene.send(said(scene, cookie, b"", flags="FA")) == []
    assert [up.reason for up in scene.up_calls()] == [PacketReason.PROXIED]


@pytest.mark.parametrize("wrong", [{"ack": 5}, {"seq": ISN + 1461 & WORD}])
def test_data_without_a_cookie_are_the_agents_to_place(scene: Scene, wrong: dict[str, Any]) -> None:
    cookie = answered(scene, syn(scene)).seq
    assert scene.send(said(scene, cookie, **wrong)) == []
    (up,) = scene.up_calls()
    assert (up.reason, up.virtual_server) == (PacketReason.NEW_FLOW, scene.key())
    assert up.signature == scene.signature()


def test_strays_come_up_at_a_limited_rate(scene: Scene) -> None:
    if not scene.rig.moves_time:
        pytest.skip("the rate is by the wall clock")
    scene.rig.advance(0.2)  # that other tests' strays do not count
    before = scene.values()["drop_cookie"]
    assert scene.send(*[said(scene, 5)] * 130) == []
    assert len(scene.up_calls()) == 100
    assert scene.values()["drop_cookie"] == before + 30
    scene.rig.advance(0.2)


def test_what_is_damaged_is_not_answered(scene: Scene) -> None:
    rises(scene, "drop_checksum", syn(scene, chksum=0x1234))
    cookie = answered(scene, syn(scene)).seq
    rises(scene, "drop_checksum", said(scene, cookie, chksum=0x1234))


def test_fragments_begin_nothing(scene: Scene) -> None:
    cookie = answered(scene, syn(scene)).seq
    whole = packets.tcp(
        scene.client, scene.vip, "PA", b"x" * 64, seq=ISN + 1, ack=cookie + 1 & WORD
    )
    first = packets.fragments(whole, 40)[0]
    rises(scene, "drop_fragment", scene.inbound(first))


def test_a_group_without_secrets_answers_nothing(scene: Scene) -> None:
    entry = replace(scene.server(), proxied=True, group_id=2)
    scene.rig.apply(AddVirtualServer(entry))
    rises(scene, "drop_cookie", syn(scene))


def test_a_virtual_server_may_become_plain_and_back(scene: Scene) -> None:
    scene.rig.apply(AddVirtualServer(scene.server()))
    assert scene.send(syn(scene)) == []
    assert [up.reason for up in scene.up_calls()] == [PacketReason.NEW_FLOW]
    scene.rig.apply(AddVirtualServer(replace(scene.server(), proxied=True)))
    assert answered(scene, syn(scene))


def test_an_agent_that_adopts_finds_it(scene: Scene) -> None:
    before = scene.values()["drop_detached"]
    with scene.rig.agent_away():
        if scene.rig.target.offloads:
            answered(scene, syn(scene))
        else:  # it is the agent's side that makes them
            assert scene.send(syn(scene)) == []
    assert scene.values()["drop_detached"] == before + (not scene.rig.target.offloads)
    (entry,) = scene.rig.target.virtual_servers()
    assert entry.proxied


def closed_spliced(scene: Scene) -> tuple[Frame, Frame]:
    """A flow that only lingers; what its client and its node may say late."""
    spliced: dict[str, Any] = {
        "flags": int(NAT | Flag.ADD_TCP_OFFSETS), "seq_offset": 0, "ack_offset": 0,
    }  # fmt: skip
    scene.rig.apply(InstallFlow(scene.entry(**spliced)))
    ack = scene.inbound(packets.tcp(scene.client, scene.vip, "A", seq=OLD, ack=2000))
    news = scene.outbound(packets.tcp(scene.node, scene.client, "A", seq=2000, ack=OLD))
    rst = packets.tcp(scene.client, scene.vip, "RA", seq=OLD, ack=2000)
    scene.send(ack, news, scene.inbound(rst))
    assert any(isinstance(event, FlowClosed) for event in scene.rig.events())
    return ack, news


def test_a_client_may_use_its_port_again_while_its_flow_lingers(scene: Scene) -> None:
    _, news = closed_spliced(scene)
    # what is late of the connection that ended goes where it went
    assert [side for side, _ in scene.send(news)] == [Side.EXTERNAL]
    cookie = answered(scene, syn(scene)).seq
    scene.rig.events()
    assert scene.send(said(scene, cookie)) == []
    (up,) = (event for event in scene.rig.events() if isinstance(event, PacketIn))
    assert up.reason == PacketReason.PROXIED


def test_the_old_node_hears_nothing_of_a_connection_from_the_same_port(scene: Scene) -> None:
    """It would reset what it does not know: the ACK of the handshake, or a segment whose first one
    was lost."""
    ack, _ = closed_spliced(scene)
    cookie = answered(scene, syn(scene)).seq
    scene.rig.events()
    rises(scene, "cookie_acks", said(scene, cookie, b"", flags="A"))
    second = packets.tcp(
        scene.client, scene.vip, "PA", b"second", seq=ISN + 9 & WORD, ack=cookie + 1 & WORD
    )
    assert scene.send(scene.inbound(second)) == []
    (up,) = (event for event in scene.rig.events() if isinstance(event, PacketIn))
    assert up.reason == PacketReason.NEW_FLOW
    assert [side for side, _ in scene.send(ack)] == [Side.INTERNAL]  # late, of the old one


def test_groups_have_secrets_of_their_own(scene: Scene) -> None:
    scene.rig.apply(told(group_id=7, current=0, secrets=(bytes(16), b"", b"", b"")))
    assert answered(scene, syn(scene)).seq >> 30 == NUMBER % 4
