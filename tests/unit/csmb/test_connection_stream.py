# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import tracemalloc

import pytest

from csmb.connection import Connection
from csmb.constants import ErrorCode, MessageType, Role
from csmb.errors import EncodeError
from csmb.events import Closed, MessageReceived
from csmb.keys import stream_keys
from csmb.messages import AddVs, Config, DelVs, GetVsList, Hello
from csmb.stream import Outbound
from csmb.transitions import State
from ssmb.addresses import from_text
from support.segments.csmb_pair import (
    CS_SETTINGS,
    KEY,
    START,
    CountingRandom,
    Pair,
    ScriptedPeer,
    closed,
    connect,
    events,
    pair_of,
    ready_pair,
)

LIVING = [State.HELLO_WAIT, State.AUTH_WAIT, State.READY]
BOTH = [Role.CS, Role.DFS]


# --- the sealed stream ----------------------------------------------------------------------


def sealed_message() -> tuple[Pair, bytes]:
    """A pair, and octets of the CS's that the DFS did not get yet."""
    pair = ready_pair()
    pair.cs.send(DelVs(), START)
    return pair, pair.cs.data_to_send()


def test_a_changed_octet_anywhere_is_noticed() -> None:
    _, octets = sealed_message()
    for at in range(len(octets)):
        pair, octets = sealed_message()
        forged = octets[:at] + bytes([octets[at] ^ 1]) + octets[at + 1 :]
        pair.dfs.receive_data(forged + bytes(2000), START)  # enough for any length
        found = events(pair.dfs)
        assert [type(event) for event in found] == [Closed], at


def test_a_repeated_message_is_noticed() -> None:
    pair, octets = sealed_message()
    pair.dfs.receive_data(octets * 2, START)
    end = closed(pair.dfs)
    assert (end.error_code, end.reason) == (ErrorCode.AUTHFAIL, "message 6 has a wrong seal")


def test_a_message_left_out_is_noticed() -> None:
    pair, _ = sealed_message()
    pair.cs.send(DelVs(), START)
    pair.dfs.receive_data(pair.cs.data_to_send(), START)
    assert closed(pair.dfs).error_code == ErrorCode.AUTHFAIL


def test_a_message_of_the_other_direction_is_noticed() -> None:
    pair, _ = sealed_message()
    pair.dfs.send(GetVsList(), START)
    pair.dfs.receive_data(pair.dfs.data_to_send(), START)
    assert closed(pair.dfs).error_code == ErrorCode.AUTHFAIL


def test_a_message_of_another_connection_is_noticed() -> None:
    _, octets = sealed_message()
    pair = Pair(
        Connection(Role.CS, CS_SETTINGS, random_octets=CountingRandom(5000), now=START),
        connect(Role.DFS),
    )
    pair.exchange()
    assert pair.dfs.is_ready
    pair.dfs.receive_data(octets, START)
    assert closed(pair.dfs).error_code == ErrorCode.AUTHFAIL


def test_a_stream_that_ends_within_a_message_gives_no_message() -> None:
    pair, octets = sealed_message()
    pair.dfs.receive_data(octets[:-1], START)
    assert events(pair.dfs) == []
    pair.dfs.receive_data(b"", START)
    assert closed(pair.dfs).reason == "the peer closed the stream within a message"


def test_what_follows_a_broken_message_is_not_read() -> None:
    pair, octets = sealed_message()
    pair.cs.send(DelVs(), START)
    pair.dfs.receive_data(bytes(len(octets)) + pair.cs.data_to_send(), START)
    assert [type(event) for event in events(pair.dfs)] == [Closed]


def test_the_seal_is_what_the_document_says() -> None:
    """Key and count by hand: decision 9, from the octets on the wire."""
    pair = pair_of({}, {})
    pair.to_dfs = b""
    pair.cs.send(DelVs(), START)
    pair.exchange()
    challenge_id = int.from_bytes(CountingRandom(1000)(4), "big")
    challenge, nonce = CountingRandom(1000)(32), CountingRandom(2000)(32)
    by_hand = Outbound()
    for _ in range(4):  # HELLO, AUTH_CHALLENGE, AUTH_RESULT, HELLO
        by_hand.put(Hello(), 2)
    by_hand.take()
    by_hand.seal_with(stream_keys(KEY, challenge_id, challenge, nonce).c2d)
    by_hand.put(DelVs(), 2)
    assert by_hand.take() == pair.to_dfs


@pytest.mark.parametrize("length", [0, 8, 11, 13, 1441, 1444, 0xFFFC, 0xFFFF])
@pytest.mark.parametrize("role", BOTH)
@pytest.mark.parametrize("state", LIVING)
def test_an_impossible_length_ends_it_at_once(role: Role, state: State, length: int) -> None:
    peer = ScriptedPeer(connect(role))
    peer.reach(state)
    peer.say_octets(b"\0\1\0\1\0\1" + length.to_bytes(2, "big"))
    assert closed(peer.connection).error_code == ErrorCode.BADMSG


def test_no_more_than_one_message_is_ever_kept() -> None:
    dfs = connect(Role.DFS)
    header = b"\0\1\0\1\0\1" + (1440).to_bytes(2, "big")
    tracemalloc.start()
    try:
        dfs.receive_data(header, START)
        for _ in range(1431):
            dfs.receive_data(b"\0", START)
        assert tracemalloc.get_traced_memory()[0] < 16_384
    finally:
        tracemalloc.stop()
    assert dfs.state is State.HELLO_WAIT


# --- serials --------------------------------------------------------------------------------


@pytest.mark.parametrize("role", BOTH)
def test_the_first_message_has_serial_1(role: Role) -> None:
    peer = ScriptedPeer(connect(role))
    peer.outbound.put(peer.hello(), 2)
    peer.outbound.take()
    peer.say(peer.hello())
    assert closed(peer.connection).reason == "serial_global 2, expected 1"


def test_a_skipped_serial_by_type_of_a_virtual_server_message_ends_it() -> None:
    peer = ScriptedPeer(connect(Role.DFS))
    peer.reach(State.READY)
    peer.outbound._counts[MessageType.ADD_VS] = 1
    peer.say(AddVs())
    assert closed(peer.connection).reason == "serial_bytype 2 of type 6, expected 1"


def test_a_skipped_serial_by_type_of_another_message_is_nothing() -> None:
    peer = ScriptedPeer(connect(Role.DFS))
    peer.reach(State.READY)
    peer.outbound._counts[MessageType.CONFIG] = 9
    peer.say(Config())
    assert peer.connection.is_ready


def test_a_message_that_does_not_fit_uses_no_serial() -> None:
    pair = pair_of({"csmb_versions": ((1, 0),)}, {})
    with pytest.raises(EncodeError):
        pair.cs.send(DelVs(virt_ipaddr=from_text("fd00::1")), START)
    assert pair.cs.send(DelVs(), START) == (5, 1)
    pair.exchange()
    assert isinstance(events(pair.dfs)[-1], MessageReceived)


def test_a_closed_connection_keeps_no_octets() -> None:
    pair, octets = sealed_message()
    pair.dfs.receive_data(bytes(len(octets)) + octets * 50, START)
    assert pair.dfs.is_closed
    pair.dfs.receive_data(octets * 50, START)
    assert not pair.dfs._actions.inbound.is_within_message
