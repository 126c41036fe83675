# SPDX-License-Identifier: Apache-2.0
"""Whatever arrives: nothing raises, and what is not proved changes nothing but a counter."""

import random
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ssmb.codec import encode
from ssmb.constants import Flag
from ssmb.messages import Query, Reap, Reset, Sync, Timeout
from support.octets.frames import ACK, FIN, RST, SYN
from support.segments.agent_rig import CLIENT, AgentRig, FakeCs, newflow_for, ready_rig, reply_to

DROPS = (
    "drop_unknown_source",
    "drop_bad_tag",
    "drop_replayed",
    "drop_too_old",
    "drop_too_short",
    "invalid_msg",
    "ignored_msg",
)


def busy_rig() -> tuple[AgentRig, FakeCs]:
    """One flow installed, one waiting, one refused."""
    rig, cs = ready_rig()
    cs.send(newflow_for(0x81000001))
    for port in (1001, 1002):
        rig.client_sends(SYN, client=(CLIENT[0], port))
    waiting, refused = cs.take(Query)
    cs.answer(refused, error_code=1, flags=0)
    assert len(rig.agent.new_flows.pending) == 1
    assert waiting.src_port == 1001
    return rig, cs


def state_of(rig: AgentRig) -> Any:
    """Everything that a message could change."""
    agent = rig.agent
    return (
        list(rig.target.scan(None, 99)[0]),
        rig.target.virtual_servers(),
        {key: (flow.serial, len(flow.packets)) for key, flow in _pending(rig).items()},
        dict(agent.new_flows.negative.by_session),
        dict(agent.endings.ended.lingering),
        dict(agent.syncs._jobs),
        [(peer.identity, peer.synced, peer.may_ask, peer.reset_seen) for peer in agent.peers],
        len(rig.sent),
        agent.outbox.sent.total(),
    )


def _pending(rig: AgentRig) -> dict[Any, Any]:
    return rig.agent.new_flows.pending.by_session


def dropped(rig: AgentRig) -> int:
    return sum(rig.count(name) for name in DROPS)


RIG, CS = busy_rig()
BEFORE = state_of(RIG)
REPLY = encode(reply_to(Query(serial=5, src_ipaddr=CLIENT[0], src_port=1001)), 2)


def assert_nothing_changed(datagram: bytes, endpoint: tuple[str, int] | None = None) -> None:
    count = dropped(RIG)
    CS.send_octets(datagram, endpoint)
    assert dropped(RIG) == count + 1
    assert state_of(RIG) == BEFORE


@given(st.binary(max_size=2048))
def test_octets_without_a_seal_change_nothing(octets: bytes) -> None:
    assert_nothing_changed(octets)


@given(st.binary(max_size=200))
def test_whoever_is_no_cs_changes_nothing(octets: bytes) -> None:
    assert_nothing_changed(CS.seal(REPLY) + octets, ("192.0.2.66", 61019))


@given(st.data())
def test_a_changed_octet_anywhere_changes_nothing(data: st.DataObject) -> None:
    sealed = bytearray(CS.seal(REPLY))
    place = data.draw(st.integers(0, len(sealed) - 1))
    sealed[place] ^= data.draw(st.integers(1, 255))
    assert_nothing_changed(bytes(sealed))


@given(st.integers(0, 131))
def test_a_truncated_datagram_changes_nothing(length: int) -> None:
    assert_nothing_changed(CS.seal(REPLY)[:length])


def test_a_replayed_datagram_changes_nothing() -> None:
    rig, cs = busy_rig()
    sealed = cs.seal(encode(Reset(reset_id=5), 2))
    cs.send_octets(sealed)
    cs.send(newflow_for(0x81000002))
    before = state_of(rig)
    cs.send_octets(sealed)
    assert state_of(rig) == before
    assert rig.count("drop_replayed") == 1


@given(st.binary(max_size=1500))
def test_sealed_nonsense_does_not_raise(octets: bytes) -> None:
    """The peer has the key and is broken."""
    _, cs = busy_rig()
    cs.send_octets(cs.seal(octets))


@given(st.integers(0, 255), st.binary(min_size=3, max_size=160))
def test_sealed_messages_of_any_type_and_content_do_not_raise(kind: int, rest: bytes) -> None:
    rig, cs = busy_rig()
    octets = bytes((kind, 0, rest[0] | 0x40)) + rest[1:]
    cs.send_octets(cs.seal(octets))
    rig.advance(0.5)


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_octets_on_a_csmb_connection_change_nothing_without_the_key(parts: list[bytes]) -> None:
    rig = AgentRig()
    number = rig.agent.connections.connection_made(rig.now)
    assert number is not None
    for part in parts:
        rig.agent.connections.receive(number, part, rig.now)
        rig.agent.connections.octets_to_send(number)
    assert rig.agent.peers.by_identity == {}
    assert rig.target.virtual_servers() == ()


@given(st.integers(0, 1 << 32))
def test_any_order_of_packets_messages_and_time_keeps_the_books(seed: int) -> None:
    dice = random.Random(seed)
    rig, cs = ready_rig(flow_capacity=8)
    signatures: list[Query] = []

    def packet() -> None:
        flags = dice.choice((SYN, ACK, FIN | ACK, RST))
        rig.client_sends(
            flags, client=(CLIENT[0], 1000 + dice.randrange(20)), seq=dice.choice((1, 2))
        )

    def answer() -> None:
        signatures.extend(cs.take(Query))
        if signatures:
            error = dice.choice((0, 0, 0, 1, 2, 3))
            cs.answer(dice.choice(signatures[-20:]), error_code=error)

    def ask() -> None:
        if signatures:
            query = dice.choice(signatures[-20:])
            kind = dice.choice((Reap, Timeout))
            cs.send(kind(serial=query.serial, **query.signature._asdict(), idle_limit=1))

    def more() -> None:
        number = dice.randrange(20)
        cs.send(newflow_for(0x81000000 + dice.randrange(1, 9), src_port=1000 + number))

    actions: tuple[Callable[[], None], ...] = (
        packet,
        packet,
        packet,
        answer,
        answer,
        ask,
        more,
        lambda: rig.advance(dice.choice((0.001, 0.06, 1.1))),
        lambda: rig.sweep(stats=True),
        lambda: cs.send(Sync(sync_id=dice.randrange(3))),
        lambda: cs.send(Reset(reset_id=dice.randrange(3), flags=int(dice.choice((0, Flag.ACK))))),
    )
    for _ in range(80):
        dice.choice(actions)()
        check_the_books(rig)
    rig.advance(4)
    check_the_books(rig)
    assert len(rig.agent.new_flows.pending) == 0
    assert rig.agent.endings.ended.lingering == {}
    assert rig.agent.endings.ended.serials == {}
    assert len(rig.agent.new_flows.negative) == 0


def check_the_books(rig: AgentRig) -> None:
    pending = rig.agent.new_flows.pending
    held = sum(len(packet.frame) for flow in _pending(rig).values() for packet in flow.packets)
    assert pending.held_octets == held
    assert rig.target.flow_count() <= 8
    for session, serial in rig.agent.endings.ended.lingering.items():
        flow = rig.target.data_path.table._flows.get(session)
        assert flow is not None
        assert flow.entry.serial == serial
