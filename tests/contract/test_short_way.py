# SPDX-License-Identifier: Apache-2.0
"""The short way of content-aware flows: a target asks about a client's first segment, sends the SYN
to the node and splices, and the agent hears of none of it; or it hands all over to the agent
(docs/design/0012-content.md).  The machine of `splicing` is the reference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import pytest

from data_flow_segment.targets.contract import (
    AddVirtualServer,
    FlowClosed,
    FlowState,
    InstallFlow,
    LeaveToAgent,
    Offload,
    PacketIn,
    PacketReason,
    RemoveFlow,
    SetCookies,
)
from packets import tcp
from packets.parse import ACK, PSH, SYN
from packets.tcp import Options, Segment
from splicing import cookies
from splicing.connection import Connection
from splicing.instructions import Decision, Offsets, Send, Settings, Splice, Verdict
from splicing.instructions import Side as End
from ssmb.addresses import from_text
from ssmb.constants import PARKED_FRAME_MAX, TCP, AppType, ErrorCode, Flag
from ssmb.messages import AppQuery, Session
from ssmb.serials import derived
from support.octets import packets
from support.octets.packets import ip_packet, unreachable
from support.targets.answering_cs import AnsweringCs, finished
from support.targets.rig import Frame, OffloadRig, Side
from support.targets.scene import NAT, Scene, only

NUMBER = 6
SECRETS = cookies.Secrets(
    NUMBER, {n % 4: bytes([n] * 16) for n in (NUMBER - 1, NUMBER, NUMBER + 1)}
)
ISN, NODE_ISN, T, U = 0xFFFFFFF0, 77, 0x2000_0000, 0x7000_0001
WORD = 0xFFFFFFFF
GET = b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"
PROXIED = int(NAT | Flag.PROXY_SERVER)

ALL = Options(1460, 7, True, (), (100, 0))
OFFERS: dict[str, Options] = {
    "as Linux": ALL,
    "as Windows": Options(1440, 8, True),
    "nothing": Options(),
    "timestamps alone": Options(timestamps=(WORD, 0)),
    "a small MSS and no scale": Options(300, None, True),
    "a jumbo MSS and the largest scale": Options(8960, 14),
}
"""Of clients' SYNs."""


class Asked(NamedTuple):
    """A client's first segment, and the question about it."""

    segment: Segment
    query: AppQuery


@pytest.fixture
def scene(tcp_scene: Scene, asking_rig: OffloadRig, cs: AnsweringCs) -> Iterator[Scene]:
    """A content-aware virtual server whose CS may be asked."""
    server = replace(tcp_scene.server(), proxied=True, app_type=int(AppType.HTTP_REQUEST))
    by_number = SECRETS.by_number
    first, second, third, fourth = (by_number.get(number, b"") for number in range(4))
    told = SetCookies(1, NUMBER % 4, (first, second, third, fourth))
    tcp_scene.rig.apply(told, AddVirtualServer(server), cs.offload())
    yield tcp_scene
    tcp_scene.rig.apply(RemoveFlow(tcp_scene.signature()))


def ends(scene: Scene) -> Session:
    return Session(*scene.signature()[:5])


def first(scene: Scene, offer: Options = ALL, payload: bytes = GET, **changes: Any) -> Segment:
    """What a client says first that has sent a SYN with these options."""
    own = cookies.make(SECRETS, ends(scene), ISN, offer)
    stamps = None if offer.timestamps is None else (101, T)
    made = Segment(
        ISN + 1 & WORD, own + 1 & WORD, ACK | PSH, 502, Options(timestamps=stamps), payload
    )
    return made._replace(**changes)


def of_client(scene: Scene, segment: Segment) -> Frame:
    return scene.inbound(tcp.write(segment, ends(scene)))


def node_ends(scene: Scene) -> Session:
    (src, sport), (dst, dport) = scene.node, scene.client
    return Session(from_text(src), from_text(dst), sport, dport, TCP)


def of_node(scene: Scene, segment: Segment) -> Frame:
    return scene.outbound(tcp.write(segment, node_ends(scene)))


def answer(syn: Segment, **changes: Any) -> Segment:
    """A node's SYN-ACK that agrees to all."""
    stamps = None if syn.options.timestamps is None else (U, syn.options.timestamps[0])
    scale = None if syn.options.window_scale is None else 9
    options = Options(1460, scale, syn.options.sack_permitted, (), stamps)
    return Segment(NODE_ISN, syn.seq + 1 & WORD, SYN | ACK, 65160, options)._replace(**changes)


def machine(scene: Scene, segment: Segment) -> tuple[Connection, Segment]:
    """The reference, which knows the node, and its SYN."""
    agreed = cookies.read(SECRETS, ends(scene), segment)
    assert agreed is not None
    mss = 1460 if scene.family.is_ipv4 else 1440
    made = Connection(agreed, Settings(mss), lambda _: Verdict.COMPLETE, 0.0)
    made.segment(End.CLIENT, segment, 0.0)
    (sent,) = made.decided(Decision(), 0.0)
    assert isinstance(sent, Send)
    return made, sent.segment


def offsets_of(scene: Scene, segment: Segment, answered: Segment) -> Offsets:
    connection, _ = machine(scene, segment)
    splice = connection.segment(End.NODE, answered, 0.0)[0]
    assert isinstance(splice, Splice)
    return splice.offsets


def ask(scene: Scene, cs: AnsweringCs, segment: Segment) -> Asked:
    return Asked(segment, cs.asked_content(scene.send(of_client(scene, segment))))


def decide(scene: Scene, cs: AnsweringCs, query: AppQuery, **changes: Any) -> list[Frame]:
    """What comes out once the CS has answered."""
    return scene.send(cs.frame(cs.reply(query, scene.entry(flags=PROXIED), **changes)))


def syn_of(scene: Scene, out: list[Frame]) -> Segment:
    found, segment = tcp.read_ip(ip_packet(only(out, Side.INTERNAL)))
    assert found == Session(*node_ends(scene)._replace(
        src_ipaddr=from_text(scene.client[0]), dst_ipaddr=from_text(scene.node[0]),
        src_port=scene.client[1], dst_port=scene.node[1]))  # fmt: skip
    return segment


def begin(scene: Scene, cs: AnsweringCs, segment: Segment) -> Segment:
    """The SYN that the node gets."""
    return syn_of(scene, decide(scene, cs, ask(scene, cs, segment).query))


def state(scene: Scene) -> FlowState:
    found = scene.rig.target.lookup(scene.signature())
    assert found is not None
    return found


def handed_over(scene: Scene, kept: Segment, frame: Frame) -> None:
    """The agent gets what the client said, then what came."""
    before = scene.values()["short_left"]
    assert scene.send(frame) == []
    request, came = scene.up_calls()
    assert (request.reason, came.reason) == (PacketReason.KEPT, PacketReason.HELD)
    assert request.signature == came.signature == scene.signature()
    assert request.interface == scene.rig.interface(Side.EXTERNAL)
    assert tcp.read_ip(ip_packet(request.frame)) == (ends(scene), kept)
    assert ip_packet(came.frame) == ip_packet(frame[1])
    assert scene.values()["short_left"] == before + 1


# --- the question ----------------------------------------------------------------------------


def test_a_first_segment_becomes_a_question(scene: Scene, cs: AnsweringCs) -> None:
    before = scene.values()
    segment = first(scene, tos=0xB8)
    query = ask(scene, cs, segment).query
    assert (query.error_code, query.detail, query.app_data) == (0, AppType.HTTP_REQUEST, b"")
    assert query.flags == Flag.PARKED | Flag.ADDR16
    assert query.signature == scene.signature(tos=0xB8)
    assert query.tcp_flags == ACK | PSH
    assert query.serial == derived(scene.rig.target.serial_key(), ends(scene), ISN)
    number, parked = scene.rig.target.parked(query.frame)
    assert number == scene.rig.interface(Side.EXTERNAL)
    assert ip_packet(parked) == tcp.write(segment, ends(scene))
    assert scene.rig.events() == []
    after = scene.values()
    for name in ("asked", "short_asked"):
        assert after[name] == before[name] + 1
    assert scene.dropped_since(before) == 0
    again = ask(scene, cs, segment).query
    assert again.serial == query.serial


def comes_up(scene: Scene, frame: Frame) -> None:
    assert scene.send(frame) == []
    (up,) = scene.up_calls()
    assert (up.reason, up.virtual_server) == (PacketReason.PROXIED, scene.key())
    assert ip_packet(up.frame) == ip_packet(frame[1])


def test_the_longest_request_that_is_asked_about(scene: Scene, cs: AnsweringCs) -> None:
    room = PARKED_FRAME_MAX - len(of_client(scene, first(scene, payload=b""))[1])
    ask(scene, cs, first(scene, payload=bytes(room)))
    comes_up(scene, of_client(scene, first(scene, payload=bytes(room + 1))))


@pytest.mark.parametrize("flags", ["FPA", "FA", "UA"])
def test_what_is_out_of_the_ordinary_comes_up(scene: Scene, cs: AnsweringCs, flags: str) -> None:
    segment = first(scene)
    packet = packets.tcp(
        scene.client, scene.vip, flags, b"" if flags == "FA" else GET, seq=segment.seq,
        ack=segment.ack,
    )  # fmt: skip
    comes_up(scene, scene.inbound(packet))


def test_other_kinds_come_up(scene: Scene, cs: AnsweringCs) -> None:
    server = replace(scene.server(), proxied=True)
    scene.rig.apply(AddVirtualServer(server))
    comes_up(scene, of_client(scene, first(scene)))
    (entry,) = scene.rig.target.virtual_servers()
    assert entry == server


def test_without_a_cs_to_ask_it_comes_up(scene: Scene, cs: AnsweringCs) -> None:
    scene.rig.apply(Offload(1))
    comes_up(scene, of_client(scene, first(scene)))
    scene.rig.apply(cs.offload())
    ask(scene, cs, first(scene))
    scene.rig.apply(LeaveToAgent(scene.signature(), 400))
    comes_up(scene, of_client(scene, first(scene)))
    scene.rig.advance(0.45)
    ask(scene, cs, first(scene))


def test_a_wrong_checksum_is_no_question(scene: Scene, cs: AnsweringCs) -> None:
    before = scene.values()["drop_checksum"]
    side, octets = of_client(scene, first(scene))
    assert scene.send((side, octets[:-1] + bytes([octets[-1] ^ 1]))) == []
    assert scene.rig.events() == []
    assert scene.values()["drop_checksum"] == before + 1


# --- the SYN ---------------------------------------------------------------------------------


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
@pytest.mark.parametrize("tos", [0, 0xB9])
def test_the_reply_becomes_the_syn(scene: Scene, cs: AnsweringCs, offer: Options, tos: int) -> None:
    before = scene.values()
    segment = first(scene, offer, tos=tos)
    asked = ask(scene, cs, segment)
    out = decide(scene, cs, asked.query)
    _, wanted = machine(scene, segment)
    assert syn_of(scene, out) == wanted
    assert packets.wrong_checksums(ip_packet(out[0][1])) == []
    found = state(scene)
    assert found.entry.held
    assert found.entry.flags & Flag.PARKED
    assert found.entry.flags & Flag.PROXY_SERVER
    assert found.entry.serial == asked.query.serial
    assert found.half_open
    assert (found.counters.pkts_in, found.counters.pkts_out) == (0, 0)
    assert scene.rig.events() == []
    assert scene.values()["installed"] == before["installed"] + 1
    assert scene.dropped_since(before) == 0


def test_ecn_is_offered_if_it_was_agreed(scene: Scene, cs: AnsweringCs) -> None:
    segment = first(scene, options=Options(timestamps=(101, T | 1)))
    _, wanted = machine(scene, segment)
    assert wanted.flags == SYN | tcp.ECE | tcp.CWR
    assert begin(scene, cs, segment) == wanted


def test_the_windows_largest_value(scene: Scene, cs: AnsweringCs) -> None:
    assert begin(scene, cs, first(scene, window=600)).window == 0xFFFF


def test_a_repeated_reply_is_stale(scene: Scene, cs: AnsweringCs) -> None:
    segment = first(scene)
    queries = [ask(scene, cs, segment).query for _ in range(2)]
    begin_out = decide(scene, cs, queries[0])
    assert syn_of(scene, begin_out).flags == SYN
    before = scene.values()["reply_stale"]
    assert decide(scene, cs, queries[1]) == []
    assert scene.values()["reply_stale"] == before + 1


def test_refusals_and_more_are_the_agents(
    scene: Scene, cs: AnsweringCs, asking_rig: OffloadRig
) -> None:
    query = ask(scene, cs, first(scene)).query
    for code in (ErrorCode.MORE, ErrorCode.NOTAVAIL, ErrorCode.WAIT):
        flags = int(Flag.PARKED)
        asking_rig.delivered()
        reply = cs.reply(query, scene.entry(), error_code=int(code), flags=flags)
        datagram = cs.sealed(reply)
        assert scene.send(cs.carrying(datagram)) == []
        assert asking_rig.delivered() == [datagram]
    assert scene.rig.target.flow_count() == 0


def test_what_does_not_go_by_the_routes_is_the_agents(
    scene: Scene, cs: AnsweringCs, asking_rig: OffloadRig
) -> None:
    query = ask(scene, cs, first(scene)).query
    unrouted = int(NAT & ~Flag.ROUTE_BY_DST_IP | Flag.PARKED | Flag.PROXY_SERVER)
    plain = PROXIED | int(Flag.PARKED)
    changes: list[dict[str, Any]] = [
        {"flags": unrouted, "next_hop_ipaddr": from_text(scene.family.firewall)},
        {"flags": plain, "forward_mode": 1},
        {"flags": plain, "frame": b""},
    ]
    for each in changes:
        asking_rig.delivered()
        datagram = cs.sealed(cs.reply(query, scene.entry(flags=PROXIED), **each))
        assert scene.send(cs.carrying(datagram)) == []
        assert asking_rig.delivered() == [datagram]
    assert scene.rig.target.flow_count() == 0


# --- the splice ------------------------------------------------------------------------------


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
def test_the_syn_ack_becomes_the_request(scene: Scene, cs: AnsweringCs, offer: Options) -> None:
    before = scene.values()
    segment = first(scene, offer)
    syn = begin(scene, cs, segment)
    answered = answer(syn)
    out = scene.send(of_node(scene, answered))
    by = offsets_of(scene, segment, answered)
    found = state(scene)
    assert (found.entry.seq_offset, found.entry.ack_offset) == (by.seq_offset, by.ack_offset)
    assert (found.entry.ts_offset, found.entry.wscale_shift) == (by.ts_offset, by.wscale_shift)
    assert not found.entry.held
    assert found.entry.flags == int(NAT | Flag.ADD_TCP_OFFSETS)
    assert (found.counters.pkts_in, found.counters.pkts_out) == (1, 1)
    assert not found.half_open
    stamps = segment.options.timestamps
    wanted = segment._replace(
        ack=NODE_ISN + 1,
        options=Options(timestamps=None if stamps is None else (stamps[0], U)),
    )
    assert packets.wrong_checksums(ip_packet(out[0][1])) == []
    assert syn_of(scene, out) == wanted
    assert scene.rig.events() == []
    assert scene.dropped_since(before) == 0
    assert scene.values()["short_spliced"] == before["short_spliced"] + 1
    assert scene.values()["short_left"] == before["short_left"]


def test_a_spliced_flow_goes_on_and_ends(scene: Scene, cs: AnsweringCs) -> None:
    segment = first(scene)
    scene.send(of_node(scene, answer(begin(scene, cs, segment))))
    stamps = Options(timestamps=(U + 5, 101))
    end = ISN + 1 + len(GET) & WORD
    said = Segment(NODE_ISN + 1, end, ACK | PSH, 509, stamps, b"HTTP/1.1 200 OK\r\n\r\n")
    octets = only(scene.send(of_node(scene, said)), Side.EXTERNAL)
    found, got = tcp.read_ip(ip_packet(octets))
    assert found == Session(from_text(scene.vip[0]), from_text(scene.client[0]), 80, 40000, TCP)
    assert got == said._replace(
        seq=segment.ack, window=509 << 2, options=Options(timestamps=(T + 5, 101))
    )
    behind = segment.ack + len(said.payload) & WORD
    scene.rig.apply(Offload(1))  # the agent hears of the end then
    scene.send(
        of_client(scene, Segment(end, behind, ACK | 1, 502, Options(timestamps=(110, T + 5)))),
        of_node(
            scene,
            Segment(
                NODE_ISN + 1 + len(said.payload), end + 1 & WORD, ACK | 1, 509,
                Options(timestamps=(U + 9, 110)),
            ),
        ),
        of_client(
            scene,
            Segment(end + 1 & WORD, behind + 1 & WORD, ACK, 502, Options(timestamps=(111, T + 9))),
        ),
    )  # fmt: skip
    (closed,) = scene.rig.events()
    assert isinstance(closed, FlowClosed)


def test_standbys_get_a_copy_of_the_reply(scene: Scene, cs: AnsweringCs) -> None:
    scene.rig.apply(cs.offload(shared=True))
    query = ask(scene, cs, first(scene)).query
    reply = cs.reply(query, scene.entry(flags=PROXIED))
    assert len(scene.send(cs.frame(reply))) == 1
    copy = reply._replace(flags=PROXIED | int(Flag.ADDR16), frame=b"")
    assert finished(scene.rig.events()) == [copy]


def test_it_works_without_an_agent(scene: Scene, cs: AnsweringCs) -> None:
    segment = first(scene)
    with scene.rig.agent_away():
        syn = begin(scene, cs, segment)
        out = scene.send(of_node(scene, answer(syn)))
        assert syn_of(scene, out).payload == GET
    assert not state(scene).entry.held
    scene.rig.apply(cs.offload())


def test_a_request_outlives_the_agent(scene: Scene, cs: AnsweringCs) -> None:
    syn = begin(scene, cs, first(scene))
    with scene.rig.agent_away():
        pass
    scene.rig.apply(cs.offload())
    assert state(scene).entry.flags & Flag.PARKED
    assert syn_of(scene, scene.send(of_node(scene, answer(syn)))).payload == GET


def test_a_client_may_use_its_port_again(scene: Scene, cs: AnsweringCs) -> None:
    """While its flow lingers; what comes then belongs to another flow."""
    segment = first(scene)
    scene.send(of_node(scene, answer(begin(scene, cs, segment))))
    scene.send(
        of_client(scene, segment._replace(
            seq=segment.end, payload=b"", flags=ACK, options=Options(timestamps=(102, T))
        )),
        of_client(scene, segment._replace(
            seq=segment.end, payload=b"", flags=ACK | 4, options=Options()
        )),
    )  # fmt: skip
    scene.rig.events()
    assert state(scene).closed
    own = cookies.make(SECRETS, ends(scene), 5000, Options(1460))
    other = Segment(5001, own + 1 & WORD, ACK | PSH, 502, Options(), GET)
    syn = begin(scene, cs, other)
    assert syn.seq == 5000
    assert syn_of(scene, scene.send(of_node(scene, answer(syn)))).payload == GET


def test_a_source_is_translated_as_of_any_flow(scene: Scene, cs: AnsweringCs) -> None:
    snat = scene.family.snat, 5000
    changes: dict[str, Any] = {
        "flags": PROXIED | int(Flag.TRANSLATE_SRC | Flag.PARKED),
        "snat_ipaddr": from_text(snat[0]),
        "snat_port": snat[1],
    }
    out = decide(scene, cs, ask(scene, cs, first(scene)).query, **changes)
    found, syn = tcp.read_ip(ip_packet(only(out, Side.INTERNAL)))
    assert (found.src_ipaddr, found.src_port) == (from_text(snat[0]), snat[1])
    back = Session(found.dst_ipaddr, found.src_ipaddr, found.dst_port, found.src_port, TCP)
    out = scene.send(scene.outbound(tcp.write(answer(syn), back)))
    again, request = tcp.read_ip(ip_packet(only(out, Side.INTERNAL)))
    assert (again, request.payload) == (found, GET)


# --- the general way -------------------------------------------------------------------------


REFUSALS: dict[str, dict[str, Any]] = {
    "no scale": {"window_scale": None},
    "no SACK": {"sack_permitted": False},
    "no timestamps": {"timestamps": None},
    "a tiny MSS": {"mss": 40},
}


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_a_node_that_refuses_an_option(
    scene: Scene, cs: AnsweringCs, refusal: dict[str, Any]
) -> None:
    segment = first(scene, payload=bytes(220))
    good = answer(begin(scene, cs, segment))
    answered = good._replace(options=good.options._replace(**refusal))
    handed_over(scene, segment, of_node(scene, answered))
    assert state(scene).entry.held
    # what comes after that is the agent's alone
    assert scene.send(of_node(scene, good)) == []
    assert [up.reason for up in scene.up_calls()] == [PacketReason.HELD]


@pytest.mark.parametrize(
    "odd",
    [
        Segment(0, ISN + 1 & WORD, ACK | 4),
        Segment(5, 0, 4),
        Segment(9, ISN + 7 & WORD, SYN | ACK),
        Segment(9, ISN + 1 & WORD, SYN | ACK | 4),
        Segment(9, ISN + 1 & WORD, ACK),
    ],
    ids=["RST", "RST of nobody", "other number", "SYN and RST", "ACK"],
)
def test_whatever_else_a_node_says(scene: Scene, cs: AnsweringCs, odd: Segment) -> None:
    segment = first(scene)
    begin(scene, cs, segment)
    handed_over(scene, segment, of_node(scene, odd))


def test_a_client_that_says_it_again(scene: Scene, cs: AnsweringCs) -> None:
    segment = first(scene)
    begin(scene, cs, segment)
    handed_over(scene, segment, of_client(scene, segment))


def test_a_client_that_says_more(scene: Scene, cs: AnsweringCs) -> None:
    segment = first(scene)
    begin(scene, cs, segment)
    more = segment._replace(seq=segment.end, payload=b"a body")
    handed_over(scene, segment, of_client(scene, more))


def test_an_error_about_the_syn(scene: Scene, cs: AnsweringCs) -> None:
    segment = first(scene)
    out = decide(scene, cs, ask(scene, cs, segment).query)
    error = unreachable(scene.node[0], scene.client[0], ip_packet(out[0][1]), "port")
    handed_over(scene, segment, scene.outbound(error))


def test_a_damaged_answer_changes_nothing(scene: Scene, cs: AnsweringCs) -> None:
    syn = begin(scene, cs, first(scene))
    side, octets = of_node(scene, answer(syn))
    before = scene.values()["drop_checksum"]
    assert scene.send((side, octets[:-1] + bytes([octets[-1] ^ 1]))) == []
    assert scene.rig.events() == []
    assert scene.values()["drop_checksum"] == before + 1
    assert syn_of(scene, scene.send(of_node(scene, answer(syn)))).payload == GET


def test_what_the_agent_enters_is_not_spliced_by_the_target(scene: Scene, cs: AnsweringCs) -> None:
    segment = first(scene)
    syn = begin(scene, cs, segment)
    entry = state(scene).entry
    scene.rig.apply(InstallFlow(entry._replace(flags=entry.flags & ~int(Flag.PARKED))))
    assert scene.send(of_node(scene, answer(syn))) == []
    (up,) = scene.rig.events()
    assert isinstance(up, PacketIn)
    assert up.reason == PacketReason.HELD
    assert state(scene).entry.held


def test_a_node_that_never_answers(scene: Scene, cs: AnsweringCs) -> None:
    """Nor does the client say anything again: the entry goes as any half-open one's."""
    if not scene.rig.moves_time:
        pytest.skip("it takes seconds")
    begin(scene, cs, first(scene))
    before = scene.values()["half_open_ended"]
    scene.rig.advance(6)
    while not scene.rig.target.sweep(64, stats=False):
        pass
    assert scene.values()["half_open_ended"] == before + 1
    (deleted,) = finished(scene.rig.events())
    assert deleted.serial == derived(scene.rig.target.serial_key(), ends(scene), ISN)
