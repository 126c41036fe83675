# SPDX-License-Identifier: Apache-2.0
"""Packets that a DFS bridges: raw, assisted and hybrid virtual servers (wire protocol 15.4)."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from control_segment.assisted import conversations, raw
from packets.parse import ACK, FIN, RST, SYN
from packets.tcp import Options, Segment, read_ip, write
from ssmb.addresses import to_text
from ssmb.bridging import split
from ssmb.constants import CloseReason, ErrorCode, Flag
from ssmb.messages import Bridge, Message, NewFlow, Reap, Session
from support.segments.content_rig import content_config, proxying
from support.segments.dfs_double import CLIENT, SERVER, Rig

PORT, ISN, NODE_ISN = 40000, 1000, 77
ENDS = Session(CLIENT, SERVER, PORT, 80, 6)
GET = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"
PUSH = 8


class AssistedRig(Rig):
    """A CS of which the first virtual server is of a kind that a plug-in reads."""

    def __init__(self, kind: str, application: str = "redis", **more: Any) -> None:
        super().__init__(content_config(kind=kind, application=application, **more), proxying())
        self._packet_id = 0

    def bridge(
        self, segment: Segment, ends: Session = ENDS, flags: int = 0, serial: int = 0
    ) -> list[Message]:
        """A packet comes; what the CS sends then."""
        self._packet_id += 1
        answers: list[Message] = []
        for piece in split(write(segment, ends), self._packet_id, flags, serial):
            answers = self.dfs.tell(self, piece)
        return answers

    def hello(self) -> Segment:
        """The client's handshake; the CS's SYN-ACK."""
        answers = self.bridge(Segment(ISN, 0, SYN, 65535, Options(1460, 7, True)))
        return only(answers)

    def says(self, octets: bytes, syn_ack: Segment) -> list[Message]:
        """The client's first data."""
        return self.bridge(Segment(ISN + 1, syn_ack.seq + 1, ACK | PUSH, 500, payload=octets))


def bridged(answers: list[Message]) -> list[tuple[Session, Segment, int]]:
    return [(*read_ip(each.frag_data), each.flags) for each in answers if isinstance(each, Bridge)]


def only(answers: list[Message]) -> Segment:
    ((_, segment, _),) = bridged(answers)
    return segment


def newflows(answers: list[Message]) -> list[NewFlow]:
    return [each for each in answers if isinstance(each, NewFlow)]


# --- raw -------------------------------------------------------------------------------------


def copies(rig: AssistedRig, *octets: bytes, isn: int = ISN) -> list[Message]:
    """Of a connection whose client has said this, segment by segment; the last answers."""
    answers = rig.bridge(Segment(isn, 0, SYN, 65535))
    at = isn + 1
    for each in octets:
        answers = rig.bridge(Segment(at, 5, ACK | PUSH, 500, payload=each))
        at += len(each)
    return answers


def test_newflow_answers_copies_once_the_plug_in_has_read_enough() -> None:
    rig = AssistedRig("raw")
    assert not newflows(copies(rig, GET[:9]))
    (newflow,) = newflows(rig.bridge(Segment(ISN + 10, 5, ACK, 500, payload=GET[9:])))
    assert newflow.flags & Flag.PROXY_SERVER
    assert newflow.session == ENDS
    assert (newflow.error_code, newflow.detail) == (0, 0)
    assert newflow.serial >> 31
    assert len(rig.cs.table) == 1


@pytest.mark.parametrize("kind", ["raw", "hybrid"])
def test_what_the_plug_in_has_read_chooses_the_pool_by_a_rule(kind: str) -> None:
    rules = [
        {"name": "users", "match": {"said": {"key": ["k*"]}}, "pool": "images"},
        {"name": "none", "match": {"said": {"command": ["FLUSHALL"]}}, "refuse": True},
    ]
    rig = AssistedRig(kind, rules=rules)

    def said(octets: bytes) -> list[NewFlow]:
        if kind == "raw":
            return newflows(copies(rig, octets, isn=ISN + 70_000 * len(octets)))
        return newflows(rig.says(octets, rig.hello()))

    (newflow,) = said(GET)
    assert to_text(newflow.node_ipaddr) in ("10.1.2.1", "10.1.2.2")
    content = rig.cs.model.virtual_servers["203.0.113.10", 80, "tcp"].content
    assert content is not None
    assert [rule.matched for rule in content.rules.in_order] == [1, 0]
    if kind == "raw":
        (other,) = said(b"*2\r\n$3\r\nGET\r\n$2\r\nab\r\n")
        assert to_text(other.node_ipaddr).startswith("10.1.1.")
        (refused,) = said(b"*1\r\n$8\r\nFLUSHALL\r\n")
        assert refused.error_code == ErrorCode.NOTAVAIL


def test_copies_in_any_order_are_read() -> None:
    rig = AssistedRig("raw")
    rig.bridge(Segment(ISN, 0, SYN))
    assert not newflows(rig.bridge(Segment(ISN + 10, 5, ACK, 500, payload=GET[9:])))
    assert newflows(rig.bridge(Segment(ISN + 1, 5, ACK, 500, payload=GET[:9])))


def test_copies_that_come_again_get_the_same_newflow() -> None:
    rig = AssistedRig("raw")
    first = newflows(copies(rig, GET))
    assert newflows(copies(rig, GET)) == first
    assert len(rig.cs.table) == 1


def test_another_connection_from_the_same_port_is_another_flow() -> None:
    rig = AssistedRig("raw")
    (first,) = newflows(copies(rig, GET))
    (second,) = newflows(copies(rig, GET, isn=ISN + 70_000))
    assert second.serial != first.serial
    assert len(rig.cs.table) == 1


def test_what_the_plug_in_cannot_read_is_refused() -> None:
    rig = AssistedRig("raw")
    (refused,) = newflows(copies(rig, b"\x16\x03\x01"))
    assert refused.error_code == ErrorCode.UNKNOWN
    assert len(rig.cs.table) == 0


def test_a_client_that_ends_before_it_has_said_enough_is_refused() -> None:
    rig = AssistedRig("raw")
    copies(rig, GET[:5])
    answers = rig.bridge(Segment(ISN + 6, 5, ACK | FIN, 500))
    assert [each.error_code for each in newflows(answers)] == [ErrorCode.UNKNOWN]


# --- assisted and hybrid ---------------------------------------------------------------------


def begun(rig: AssistedRig) -> tuple[NewFlow, Session, Segment, Segment]:
    """Until the SYN to the node: NEWFLOW, its ends, it, and the SYN-ACK to the client."""
    syn_ack = rig.hello()
    assert syn_ack.flags == SYN | ACK
    assert len(rig.cs.table) == 0
    answers = rig.says(GET, syn_ack)
    (newflow,) = newflows(answers)
    ((ends, syn, flags),) = bridged(answers)
    assert (syn.flags, syn.seq, flags & Flag.OUTBOUND) == (SYN, ISN, 0)
    return newflow, ends, syn, syn_ack


def node_answers(rig: AssistedRig, ends: Session, newflow: NewFlow) -> list[Message]:
    back = Session(ends.dst_ipaddr, ends.src_ipaddr, ends.dst_port, ends.src_port, 6)
    answer = Segment(NODE_ISN, ISN + 1, SYN | ACK, 65535, Options(1460, 7, True))
    return rig.bridge(answer, back, Flag.OUTBOUND, newflow.serial)


def test_a_hybrid_connection_is_handed_over_with_its_offsets() -> None:
    rig = AssistedRig("hybrid")
    newflow, ends, _, syn_ack = begun(rig)
    assert newflow.detail == 1
    answers = node_answers(rig, ends, newflow)
    (handed,) = newflows(answers)
    assert (handed.serial, handed.detail) == (newflow.serial, 0)
    assert handed.flags & Flag.ADD_TCP_OFFSETS
    assert handed.seq_offset == 0
    assert handed.ack_offset == (NODE_ISN - syn_ack.seq) & 0xFFFFFFFF
    assert [each[1].payload for each in bridged(answers)] == [GET]
    assert len(rig.cs.dispatch.bridged.conversations) == 0
    assert len(rig.cs.table) == 1


def test_what_still_comes_of_a_handed_over_flow_goes_back() -> None:
    """With NEWFLOW, which may have been lost."""
    rig = AssistedRig("hybrid")
    newflow, ends, _, syn_ack = begun(rig)
    (handed,) = newflows(node_answers(rig, ends, newflow))
    late = Segment(ISN + 1 + len(GET), syn_ack.seq + 1, ACK, 500, payload=b"more")
    answers = rig.bridge(late, serial=newflow.serial)
    assert newflows(answers) == [handed]
    assert only(answers).payload == b"more"


def test_every_packet_of_an_assisted_connection_goes_through_the_cs() -> None:
    rig = AssistedRig("assisted")
    newflow, ends, _, syn_ack = begun(rig)
    answers = node_answers(rig, ends, newflow)
    assert not newflows(answers)
    assert [each[1].payload for each in bridged(answers)] == [GET]
    back = Session(ends.dst_ipaddr, ends.src_ipaddr, ends.dst_port, ends.src_port, 6)
    said = Segment(NODE_ISN + 1, ISN + 1 + len(GET), ACK | PUSH, 500, payload=b"$1\r\nv\r\n")
    answers = rig.bridge(said, back, Flag.OUTBOUND, newflow.serial)
    ((there, segment, flags),) = bridged(answers)
    assert flags & Flag.OUTBOUND
    assert there == Session(SERVER, CLIENT, 80, PORT, 6)
    assert (segment.seq, segment.payload) == (syn_ack.seq + 1, b"$1\r\nv\r\n")
    assert len(rig.cs.dispatch.bridged.conversations) == 1


def test_a_client_that_resets_ends_the_flow_at_the_dfs() -> None:
    rig = AssistedRig("assisted")
    newflow, ends, _, syn_ack = begun(rig)
    node_answers(rig, ends, newflow)
    back = Session(ends.dst_ipaddr, ends.src_ipaddr, ends.dst_port, ends.src_port, 6)
    heard = Segment(NODE_ISN + 1, ISN + 1 + len(GET), ACK, 500)
    rig.bridge(heard, back, Flag.OUTBOUND, newflow.serial)
    answers = rig.bridge(Segment(ISN + 1 + len(GET), syn_ack.seq + 1, RST | ACK))
    (reap,) = [each for each in answers if isinstance(each, Reap)]
    assert (reap.serial, reap.detail) == (newflow.serial, CloseReason.FIN)
    assert len(rig.cs.table) == 0
    assert len(rig.cs.dispatch.bridged.conversations) == 0


def test_a_node_that_refuses_is_replaced_and_the_flow_is_another_one() -> None:
    rig = AssistedRig("hybrid")
    newflow, ends, _, _ = begun(rig)
    back = Session(ends.dst_ipaddr, ends.src_ipaddr, ends.dst_port, ends.src_port, 6)
    refused = Segment(0, ISN + 1, RST | ACK)
    answers = rig.bridge(refused, back, Flag.OUTBOUND, newflow.serial)
    (other,) = newflows(answers)
    assert other.serial != newflow.serial
    assert [each.serial for each in answers if isinstance(each, Reap)] == [newflow.serial]
    assert len(rig.cs.table) == 1


def test_a_server_that_speaks_first_is_spoken_for() -> None:
    rig = AssistedRig("hybrid", "mysql")
    syn_ack = rig.hello()
    greeting = only(rig.bridge(Segment(ISN + 1, syn_ack.seq + 1, ACK, 500)))
    assert b"mysql_native_password" in greeting.payload
    assert greeting.seq == syn_ack.seq + 1


def test_a_wrong_cookie_begins_nothing() -> None:
    rig = AssistedRig("hybrid")
    syn_ack = rig.hello()
    answers = rig.bridge(Segment(ISN + 1, syn_ack.seq + 2, ACK | PUSH, 500, payload=GET))
    assert not bridged(answers)
    assert rig.cs.statistics.drops["stale_bridge"] == 1


def test_other_packets_are_counted() -> None:
    rig = AssistedRig("hybrid")
    rig.bridge(Segment(ISN, 0, SYN), ENDS._replace(dst_port=81))
    assert rig.cs.statistics.drops["bridged_unserved"] == 1
    rig.dfs.tell(rig, Bridge(packet_id=1, frag_data=b"\x45 no packet"))
    assert rig.cs.statistics.drops["bridged_malformed"] == 1


# --- crowds ----------------------------------------------------------------------------------


def from_port(port: int) -> Session:
    return ENDS._replace(src_port=port)


def test_an_assisted_connection_costs_the_same_however_much_it_says() -> None:
    """Each of its packets puts its idle timeout off."""
    rig = AssistedRig("assisted")
    newflow, ends, _, syn_ack = begun(rig)
    node_answers(rig, ends, newflow)
    back = Session(ends.dst_ipaddr, ends.src_ipaddr, ends.dst_port, ends.src_port, 6)
    heard = Segment(NODE_ISN + 1, ISN + 1 + len(GET), ACK, 500)
    rig.bridge(heard, back, Flag.OUTBOUND, newflow.serial)
    for number in range(300):
        rig.now += 0.01
        seq = ISN + 1 + len(GET) + number
        assert bridged(rig.bridge(Segment(seq, syn_ack.seq + 1, ACK | PUSH, 500, payload=b"x")))
    table = rig.cs.dispatch.bridged.conversations
    assert len(table._due) < 10
    timer = table.get_timer()
    assert timer is not None
    table.handle_timer(timer)
    assert len(table) == 1  # it spoke meanwhile
    timer = table.get_timer()
    assert timer is not None
    table.handle_timer(timer)
    assert len(table) == 0


@pytest.mark.parametrize("kind", ["assisted", "hybrid"])
def test_who_says_next_to_nothing_keeps_nobody_out(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversations, "CONVERSATIONS_MAX", 4)
    rig = AssistedRig(kind)
    for port in range(2000, 2010):
        ends = from_port(port)
        syn_ack = only(rig.bridge(Segment(ISN, 0, SYN, 65535, Options(1460)), ends))
        answers = rig.bridge(Segment(ISN + 1, syn_ack.seq + 1, ACK | PUSH, 500, payload=b"*"), ends)
        resets = [to for to, segment, _ in bridged(answers) if segment.flags & RST]
        assert resets == ([from_port(port - 4).opposite] if port >= 2004 else [])
    answers = rig.says(GET, rig.hello())
    assert newflows(answers)
    assert [segment.flags for _, segment, _ in bridged(answers)] == [RST | ACK, SYN]
    assert len(rig.cs.dispatch.bridged.conversations) == 4
    assert rig.cs.statistics.drops["assisted_evicted"] == 7
    assert rig.cs.statistics.drops["assisted_full"] == 0


def test_a_raw_connection_that_says_next_to_nothing_is_read_no_further(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(raw, "READ_MAX", 4)
    rig = AssistedRig("raw")
    for port in range(2000, 2010):
        rig.bridge(Segment(ISN, 0, SYN), from_port(port))
        rig.bridge(Segment(ISN + 1, 5, ACK | PUSH, 500, payload=b"*"), from_port(port))
    assert newflows(copies(rig, GET))
    assert rig.cs.statistics.drops["assisted_evicted"] == 7


# --- the configuration -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("server", "sentence"),
    [
        ({"kind": "raw"}, "kind raw needs application, which is mysql or redis"),
        ({"kind": "http", "application": "redis"}, "application needs kind raw"),
        ({"kind": "raw", "application": "mysql"}, "the server speaks first"),
        ({"kind": "http", "hash": "said"}, "hash said needs kind raw or assisted or hybrid"),
        ({"kind": "hybrid", "application": "redis", "hash": "url"}, "hash url needs kind http"),
        ({"kind": "hybrid", "application": "smtp"}, "mysql"),
    ],
)
def test_mistakes_are_named(server: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        content_config(**server)
