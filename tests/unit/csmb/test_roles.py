# SPDX-License-Identifier: Apache-2.0
"""Who speaks first, and who keeps a connection alive: the CS; a DFS only answers."""

from __future__ import annotations

import pytest

from csmb.constants import AUTH_WAIT_S, Flag, MessageType, Role
from csmb.events import Closed
from csmb.messages import AuthResult, Hello
from csmb.transitions import State
from support.segments.csmb_pair import START, ScriptedPeer, closed, connect, events, ready_pair


def test_a_dfs_says_nothing_before_the_cs_does() -> None:
    dfs = connect(Role.DFS)
    for tenths in range(int(AUTH_WAIT_S) * 10):
        dfs.handle_timer(START + tenths / 10)
        assert dfs.data_to_send() == b""
    dfs.handle_timer(START + AUTH_WAIT_S)
    assert isinstance(closed(dfs), Closed)


def test_a_cs_says_hello_at_once() -> None:
    (hello,) = ScriptedPeer(connect(Role.CS)).heard()
    assert isinstance(hello, Hello)


def test_a_dfs_that_is_not_spoken_to_keeps_its_silence() -> None:
    pair = ready_pair()
    events(pair.dfs)
    for second in range(1, 15):
        pair.dfs.handle_timer(START + second)
        assert pair.dfs.data_to_send() == b""


def test_hello_has_the_flags_of_its_sender_and_no_others() -> None:
    """REDUNDANT comes with a standby address; APP_PROXY only from who is capable of it."""
    (plain,) = ScriptedPeer(connect(Role.CS)).heard()
    assert isinstance(plain, Hello)
    assert not plain.flags & (Flag.REDUNDANT | Flag.APP_PROXY)
    (able,) = ScriptedPeer(connect(Role.CS, flags=int(Flag.APP_PROXY))).heard()
    assert isinstance(able, Hello)
    assert able.flags & Flag.APP_PROXY


# HELLO is answered, and a wrong AUTH_RESPONSE with the refusal that ends the connection
UNPROVED = sorted(set(MessageType) - {MessageType.HELLO, MessageType.AUTH_RESPONSE})


@pytest.mark.parametrize("kind", [*UNPROVED, 11, 99, 127, 128, 300])
@pytest.mark.parametrize("octets", [0, 4, 12, 24, 52, 96])
def test_a_cs_is_silent_until_the_dfs_has_proved_itself(kind: int, octets: int) -> None:
    peer = ScriptedPeer(connect(Role.CS))
    peer.reach(State.AUTH_WAIT)
    peer.say_frame(kind, bytes(octets))
    assert peer.heard() == []
    assert not peer.connection.is_ready


def test_a_wrong_proof_is_told_once_and_ends_it() -> None:
    peer = ScriptedPeer(connect(Role.CS))
    peer.reach(State.AUTH_WAIT)
    peer.say_frame(MessageType.AUTH_RESPONSE, bytes(76))
    (refusal,) = peer.heard()
    assert isinstance(refusal, AuthResult)
    assert refusal.error_code
    assert isinstance(closed(peer.connection), Closed)
