# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from csmb.connection import MESSAGES_BEFORE_READY_MAX
from csmb.constants import AUTH_WAIT_S, ErrorCode, MessageType, Role
from csmb.events import HelloReceived, MessageReceived
from csmb.messages import (
    Ack,
    AddVs,
    AuthChallenge,
    AuthResponse,
    AuthResult,
    Config,
    DelVs,
    GetVsList,
    Message,
    Nodes,
    VsList,
)
from csmb.transitions import State
from support.segments.csmb_pair import (
    START,
    Pair,
    ScriptedPeer,
    closed,
    connect,
    events,
    ready_pair,
)

BOTH = [Role.CS, Role.DFS]


# --- messages out of place ------------------------------------------------------------------


@pytest.mark.parametrize("role", BOTH)
@pytest.mark.parametrize("kind", [2, 3, 4, 5, 9, 10, 11, 200])
def test_anything_before_hello_ends_it(role: Role, kind: int) -> None:
    peer = ScriptedPeer(connect(role))
    peer.reach(State.HELLO_WAIT)
    peer.say_frame(kind, bytes(4))
    assert closed(peer.connection).reason == f"message type {kind} before HELLO"


@pytest.mark.parametrize("message", [Config(), AddVs(), DelVs(), VsList(), Nodes()])
def test_a_dfs_obeys_nothing_before_authentication(message: Message) -> None:
    peer = ScriptedPeer(connect(Role.DFS))
    peer.reach(State.AUTH_WAIT)
    events(peer.connection)
    peer.say(message)
    (ack,) = peer.heard()
    assert isinstance(ack, Ack)
    assert (ack.error_code, ack.ack_serial_global) == (ErrorCode.NOTAUTH, 2)
    assert events(peer.connection) == []
    assert peer.connection.dropped == {"NOTAUTH": 1}


def test_a_cs_answers_nothing_before_authentication_but_hello() -> None:
    peer = ScriptedPeer(connect(Role.CS))
    peer.reach(State.AUTH_WAIT)
    events(peer.connection)
    peer.say(GetVsList())
    peer.say(Ack())
    peer.say_frame(99, bytes(8))
    assert peer.heard() == []
    assert events(peer.connection) == []
    assert peer.connection.state is State.AUTH_WAIT


def test_between_response_and_result_a_dfs_already_seals() -> None:
    peer = ScriptedPeer(connect(Role.DFS))
    peer.reach(State.AUTH_WAIT)
    peer._challenge()  # both in one go
    other = ScriptedPeer(connect(Role.DFS))
    other.reach(State.AUTH_WAIT)
    other.say(AuthChallenge(challenge_id=5, auth_data=bytes(range(32))))
    other.exchange = peer.exchange
    other.heard()
    other.say(Config())
    (ack,) = other.heard()  # read with its seal
    assert isinstance(ack, Ack)


@pytest.mark.parametrize("role", BOTH)
def test_an_unknown_type_is_unsupported_and_a_far_one_is_ignored(role: Role) -> None:
    peer = ScriptedPeer(connect(role))
    peer.reach(State.READY)
    for kind in (0, 12, 127):
        peer.say_frame(kind, bytes(8))
        (ack,) = peer.heard()
        assert isinstance(ack, Ack)
        assert (ack.error_code, ack.ack_msg_type) == (ErrorCode.UNSUPPORTED, kind)
    for kind in (128, 0xFFFF):
        peer.say_frame(kind, bytes(8))
        assert peer.heard() == []
    assert peer.connection.is_ready
    assert peer.connection.dropped == {"UNSUPPORTED": 3, "IGNORABLE": 2}


@pytest.mark.parametrize(
    ("role", "message"),
    [
        (Role.CS, Config()),
        (Role.CS, AuthResponse()),
        (Role.CS, AuthChallenge()),
        (Role.DFS, GetVsList()),
        (Role.DFS, AuthChallenge()),
        (Role.DFS, AuthResult()),
    ],
)
def test_what_a_ready_peer_may_not_send_is_refused(role: Role, message: Message) -> None:
    peer = ScriptedPeer(connect(role))
    peer.reach(State.READY)
    events(peer.connection)
    peer.say(message)
    (ack,) = peer.heard()
    assert isinstance(ack, Ack)
    assert ack.error_code == ErrorCode.BADMSG
    assert events(peer.connection) == []


def test_a_malformed_message_is_refused_and_the_next_is_obeyed() -> None:
    peer = ScriptedPeer(connect(Role.DFS))
    peer.reach(State.READY)
    events(peer.connection)
    peer.say_frame(MessageType.CONFIG, bytes(4))
    (ack,) = peer.heard()
    assert isinstance(ack, Ack)
    assert (ack.error_code, ack.ack_msg_type) == (ErrorCode.BADMSG, MessageType.CONFIG)
    peer.say(Config())
    assert [type(event) for event in events(peer.connection)] == [MessageReceived]


@pytest.mark.parametrize("kind", [MessageType.HELLO, MessageType.ACK])
def test_a_malformed_message_that_no_ack_may_answer_ends_it(kind: MessageType) -> None:
    peer = ScriptedPeer(connect(Role.DFS))
    peer.reach(State.READY)
    peer.say_frame(kind, bytes(4))
    assert closed(peer.connection).error_code == ErrorCode.BADMSG


@pytest.mark.parametrize("role", BOTH)
def test_a_peer_that_only_talks_is_cut_off(role: Role) -> None:
    peer = ScriptedPeer(connect(role))
    peer.reach(State.AUTH_WAIT)
    for _ in range(MESSAGES_BEFORE_READY_MAX):
        assert not peer.connection.is_closed
        peer.say(peer.hello())
    assert closed(peer.connection).error_code == ErrorCode.NOTAUTH


# --- time -----------------------------------------------------------------------------------


@pytest.mark.parametrize("role", BOTH)
def test_a_silent_peer_gets_five_seconds_for_each_part(role: Role) -> None:
    peer = ScriptedPeer(connect(role))
    assert peer.connection.get_timer() == START + AUTH_WAIT_S
    peer.now = START + 4.0
    peer.reach(State.AUTH_WAIT)
    assert peer.connection.get_timer() == START + 4.0 + AUTH_WAIT_S
    peer.connection.handle_timer(START + 8.9)
    assert peer.connection.state is State.AUTH_WAIT
    peer.connection.handle_timer(START + 9.0)
    assert closed(peer.connection).reason == "still in AUTH_WAIT after 5.0 s"


def test_negotiating_does_not_win_time() -> None:
    peer = ScriptedPeer(connect(Role.DFS))
    for _ in range(4):
        peer.now += 1.0
        peer.say(peer.hello(vers_major=9))
        peer.connection.handle_timer(peer.now)
    assert peer.connection.get_timer() == START + AUTH_WAIT_S


def test_the_cs_keeps_alive_and_the_dfs_answers_each() -> None:
    pair = ready_pair()
    for turn in range(1, 100):
        due = pair.cs.get_timer()
        assert due == START + 5 * turn
        pair.now = due
        pair.cs.handle_timer(due)
        pair.dfs.handle_timer(due)
        pair.exchange()
        assert [type(event) for event in events(pair.cs)] == [HelloReceived]
        assert [type(event) for event in events(pair.dfs)] == [HelloReceived]
    pair.cs.handle_timer(pair.now)  # twice does no harm
    assert pair.cs.data_to_send() == b""


@pytest.mark.parametrize("role", BOTH)
def test_three_intervals_of_silence_end_it(role: Role) -> None:
    pair = ready_pair(hello_interval_s=2)
    connection = pair.cs if role is Role.CS else pair.dfs
    now = START
    while (due := connection.get_timer()) is not None:
        assert due > now
        now = due
        connection.handle_timer(now)
    assert now == START + 6
    assert closed(connection).reason == "no message received for 6.0 s"


def test_octets_that_make_no_message_are_no_sign_of_life() -> None:
    pair = ready_pair()
    pair.cs.send(DelVs(), START)
    octets = pair.cs.data_to_send()
    for at in range(14):
        pair.dfs.receive_data(octets[at : at + 1], START + at)
    pair.dfs.handle_timer(START + 15)
    assert pair.dfs.is_closed


def test_a_late_keep_alive_does_not_make_the_next_one_early() -> None:
    pair = ready_pair()
    pair.cs.handle_timer(START + 7)
    assert pair.cs.data_to_send() != b""
    assert pair.cs.get_timer() == START + 7 + 5


def test_an_announcement_is_a_keep_alive_too() -> None:
    pair = ready_pair()
    pair.cs.announce(active=True, role_epoch=1, now=START + 3)
    assert pair.cs.get_timer() == START + 3 + 5


def test_the_dfs_follows_the_interval_that_the_cs_says_last() -> None:
    peer = ScriptedPeer(connect(Role.DFS))
    peer.reach(State.READY)
    for interval, patience in ((9, 27), (2, 6), (0, 15)):  # none said: the default
        peer.say(peer.hello(hello_interval=interval))
        assert peer.connection.get_timer() == START + patience


@pytest.mark.parametrize("interval_s", [1, 60])
def test_both_sides_follow_another_interval_at_once(interval_s: int) -> None:
    pair = ready_pair(hello_interval_s=5)
    quiet = START + 4.9
    pair.cs.change_hello_interval(interval_s, quiet)
    pair.now = quiet
    pair.exchange()
    assert pair.cs.get_timer() == quiet + interval_s  # the next HELLO
    assert pair.dfs.get_timer() == quiet + 3 * interval_s  # what silence it takes
    pair.cs.handle_timer(quiet + min(interval_s, 3) * 0.9)
    assert pair.cs.is_ready


def test_an_interval_that_changes_before_ready_is_said_at_ready() -> None:
    pair = Pair(connect(Role.CS, hello_interval_s=5), connect(Role.DFS))
    pair.cs.change_hello_interval(2, START)
    assert not pair.cs.is_ready
    pair.exchange()
    assert pair.cs.get_timer() == START + 2
    assert pair.dfs.get_timer() == START + 6
