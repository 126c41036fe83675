# SPDX-License-Identifier: Apache-2.0
"""Clients of content-aware virtual servers that take places and say next to nothing."""

from __future__ import annotations

import pytest

from csmb.constants import Flag as CsmbFlag
from data_flow_segment.flows.questions import ASKED_MAX
from packets.parse import ACK, FIN, RST
from ssmb.messages import AppQuery
from support.segments.agent_rig import CLIENT
from support.segments.proxied_rig import REQUEST, Client, Node, ProxiedRig, proxied_server

PLACES = 16


@pytest.fixture
def rig() -> ProxiedRig:
    made = ProxiedRig()
    made.agent.handshakes.table._handshakes_max = PLACES
    return made


def slow(rig: ProxiedRig, number: int) -> Client:
    """One that says a single octet."""
    client = Client(rig, (CLIENT[0], 2000 + number))
    client.connects()
    client.says(b"G")
    return client


def test_who_says_next_to_nothing_keeps_nobody_out(rig: ProxiedRig) -> None:
    mute = [slow(rig, number) for number in range(PLACES)]
    client = Client(rig)
    client.connects()
    client.says(REQUEST)
    rig.decide(rig.active.one(AppQuery))
    Node(rig).accepts()
    state = rig.state()
    assert state is not None
    assert not state.entry.held
    assert mute[0].receives()[-1].flags & RST
    assert all(not each.flags & RST for other in mute[1:] for each in other.receives())
    assert rig.count("collecting_evicted") == 1
    assert rig.count("collecting_full") == 0
    assert rig.state(mute[0].end) is None  # nothing is left of it in the target either


def test_a_flood_of_them_takes_the_places_of_each_other(rig: ProxiedRig) -> None:
    for number in range(10 * PLACES):
        slow(rig, number)
    table = rig.agent.handshakes.table
    assert len(table) == PLACES
    assert rig.target.flow_count() == PLACES
    assert rig.count("collecting_evicted") == 9 * PLACES
    rig.advance(11)
    assert rig.is_idle()
    assert rig.target.flow_count() == 0


def test_who_has_said_enough_does_not_give_way(rig: ProxiedRig) -> None:
    """Its CS is asked: to give it up would have been for nothing."""
    for number in range(PLACES):
        client = Client(rig, (CLIENT[0], 2000 + number))
        client.connects()
        client.says(REQUEST)
    late = Client(rig)
    late.connects()
    assert late.says(REQUEST)[-1].flags & RST
    assert (rig.count("collecting_full"), rig.count("collecting_evicted")) == (1, 0)


def test_one_connection_does_not_keep_the_agent_busy(rig: ProxiedRig) -> None:
    """With copies of a segment, or with what is none of it."""
    client = Client(rig)
    client.connects()
    client.says(b"G")
    answered = 0
    for number in range(1500):
        if number % 300 == 0:
            rig.advance(0.15)  # the target lets 512 pass in less
        answered += len(client.sends(ACK, b"G", seq=1001 + number % 3 * 70_000))
    assert answered <= 700
    assert rig.count("drop_held_flood") > 700
    assert rig.target.counters()["drop_held_rate"].value == 0
    for _ in range(1500):
        client.sends(ACK, b"G", seq=1001)
    assert rig.target.counters()["drop_held_rate"].value > 900
    other = Client(rig, (CLIENT[0], 2000))
    other.connects()
    other.says(REQUEST)
    rig.decide(rig.active.one(AppQuery))
    rig.advance(2)
    client.says(REQUEST[1:])
    (question,) = [
        each for each in rig.active.take(AppQuery) if each.signature.src_port == CLIENT[1]
    ]
    assert question.app_data == REQUEST


def test_a_valid_cookie_is_worth_no_more_when_its_connection_is_over(rig: ProxiedRig) -> None:
    client = Client(rig)
    client.connects()
    client.sends(ACK, b"\x16\x03")
    assert rig.count("content_refused") == 1
    began = rig.count("proxied_connections")
    for _ in range(1500):
        client.sends(ACK, b"\x16\x03")
    assert rig.count("proxied_connections") - began < 512
    assert rig.count("drop_held_flood") > 900
    assert rig.is_idle()


def many_ask(count: int) -> ProxiedRig:
    """All at once: a CS has no answer before the last of them."""
    rig = ProxiedRig()
    for number in range(count):
        client = Client(rig, (CLIENT[0], 2000 + number))
        client.connects()
        client.says(REQUEST)
    return rig


def test_a_cs_is_asked_no_more_than_it_answers() -> None:
    rig = many_ask(600)
    first = rig.active.take(AppQuery)
    assert len(first) == ASKED_MAX
    for question in first[:100]:
        rig.decide(question)
    following = rig.active.take(AppQuery)
    assert len(following) == 100
    asked = {each.signature.src_port for each in (*first, *following)}
    assert len(asked) == ASKED_MAX + 100  # nobody twice
    rig.advance(0.06)  # those that were sent are repeated as ever, the others are not
    again = {each.signature.src_port for each in rig.active.take(AppQuery)}
    assert again <= asked
    while questions := {each.serial: each for each in (*first[100:], *following)}.values():
        for question in questions:
            rig.decide(question)
        first, following = [], rig.active.take(AppQuery)
    rig.advance(0.2)
    assert rig.active.take(AppQuery) == []


def test_what_a_cs_does_not_answer_keeps_nobody_waiting() -> None:
    rig = many_ask(300)
    first = {each.signature.src_port for each in rig.active.take(AppQuery)}
    rig.advance(0.6)
    later = {each.signature.src_port for each in rig.active.take(AppQuery)}
    assert len(first | later) == 300


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1", b"\r\nGET /x"])
def test_half_a_request_line_that_ends_costs_no_question(rig: ProxiedRig, said: bytes) -> None:
    client = Client(rig)
    client.connects()
    client.says(said)
    assert client.sends(ACK | FIN)[-1].flags & RST
    assert rig.active.take(AppQuery) == []
    assert rig.count("content_refused") == 1
    assert rig.is_idle()


def test_one_octet_a_segment_costs_what_it_says(rig: ProxiedRig) -> None:
    client = Client(rig)
    client.connects()
    for at in range(len(REQUEST)):
        client.says(REQUEST[at : at + 1])
    question = rig.active.one(AppQuery)
    assert question.app_data == REQUEST
    rig.decide(question)
    node = Node(rig)
    node.accepts()
    assert b"".join(each.payload for each in node.receives()) == REQUEST


def test_a_strangers_segments_in_a_clients_name_are_not_what_a_cs_reads() -> None:
    rig = ProxiedRig(proxied_server(CsmbFlag.RAW_PROXY))
    client = Client(rig)
    client.connects()
    client.says(b"hello")
    before = rig.count("raw_copies")
    for number in range(300):
        client.sends(ACK, b"made up", seq=(number + 1) * 7_000_000)
    assert rig.count("raw_copies") == before
    client.says(b" world")
    assert rig.count("raw_copies") == before + 1
