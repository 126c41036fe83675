# SPDX-License-Identifier: Apache-2.0
"""Whatever a peer sends, in whatever pieces: no exception, no endless loop, a sensible state."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from csmb.connection import MESSAGES_BEFORE_READY_MAX
from csmb.constants import CSMB_MSG_MAX, SEAL_SIZE, ErrorCode, Role
from csmb.events import Closed, Event, MessageReceived, Ready
from csmb.messages import AddVs, Config, DelVs, GetVsList, Message, VsList
from csmb.transitions import State
from support.segments.csmb_pair import START, Pair, ScriptedPeer, connect, events, ready_pair

LABORATORY: dict[str, Any] = {"laboratory": True, "key": b""}

roles = st.sampled_from(Role)
states = st.sampled_from([State.HELLO_WAIT, State.AUTH_WAIT, State.READY])
# octets that look like messages get further than octets that do not
headers = st.builds(
    lambda kind, serial, bytype, length: b"".join(
        value.to_bytes(2, "big") for value in (kind, serial, bytype, length)
    ),
    st.integers(0, 12) | st.integers(0, 0xFFFF),
    st.integers(0, 4) | st.integers(0, 0xFFFF),
    st.integers(0, 4) | st.integers(0, 0xFFFF),
    st.integers(3, 30).map(lambda words: words * 4) | st.integers(0, 0xFFFF),
)
streams = st.lists(st.one_of(headers, st.binary(max_size=120)), max_size=12).map(b"".join)
cuts = st.lists(st.integers(1, 200), max_size=8)
# right serials, right seals, anything else
frames = st.lists(
    st.tuples(
        st.integers(0, 12) | st.sampled_from([127, 128, 257, 0xFFFF]),
        st.integers(1, 30).flatmap(lambda n: st.binary(min_size=4 * n, max_size=4 * n))
        | st.sampled_from([48, 52, 84, 52, 104, 60, 32, 16, 12, 20]).flatmap(
            lambda size: st.binary(min_size=size - 8, max_size=size - 8)
        ),
    ),
    max_size=10,
)
payloads: st.SearchStrategy[Message] = st.sampled_from([Config(), AddVs(), DelVs(), VsList()])


def pieces(octets: bytes, sizes: list[int]) -> list[bytes]:
    """Cut a stream; what is left after the last cut is one piece."""
    cut, at = [], 0
    for size in sizes:
        cut.append(octets[at : at + size])
        at += size
    return [piece for piece in [*cut, octets[at:]] if piece]


def check_events(found: list[Event], peer: ScriptedPeer) -> None:
    """Closed is last and comes once, exactly if the state says so."""
    ends = [event for event in found if isinstance(event, Closed)]
    assert len(ends) == (1 if peer.connection.is_closed else 0)
    assert ends == [event for event in found[-1:] if isinstance(event, Closed)]
    assert (peer.connection.get_timer() is None) == peer.connection.is_closed


@given(roles, states, streams, cuts)
def test_any_octets_in_any_pieces_do_no_harm(
    role: Role, state: State, octets: bytes, sizes: list[int]
) -> None:
    peer = ScriptedPeer(connect(role))
    peer.reach(state)
    for piece in pieces(octets, sizes):
        peer.say_octets(piece)
    if not peer.connection.is_closed:
        kept = peer.connection._actions.inbound._buffer
        assert len(kept) < CSMB_MSG_MAX + SEAL_SIZE
    found = events(peer.connection)
    check_events(found, peer)
    # nobody becomes ready, and nothing is obeyed, without the key
    assert state is State.READY or not any(isinstance(event, Ready) for event in found)
    assert not any(isinstance(event, MessageReceived) for event in found)


@given(roles, states, streams, cuts)
def test_how_a_stream_is_cut_makes_no_difference(
    role: Role, state: State, octets: bytes, sizes: list[int]
) -> None:
    whole, cut = (ScriptedPeer(connect(role)) for _ in range(2))
    for peer, parts in ((whole, [octets] if octets else []), (cut, pieces(octets, sizes))):
        peer.reach(state)
        for part in parts:
            peer.say_octets(part)
    assert whole.connection.state is cut.connection.state
    assert events(whole.connection) == events(cut.connection)
    assert whole.connection.data_to_send() == cut.connection.data_to_send()


@given(roles, states, frames, st.booleans())
def test_any_messages_with_right_serials_and_seals_do_no_harm(
    role: Role, state: State, said: list[tuple[int, bytes]], laboratory: bool
) -> None:
    changes = LABORATORY if laboratory else {}
    peer = ScriptedPeer(connect(role, **changes))
    peer.reach(state)
    before = peer.connection.state
    for kind, body in said:
        peer.say_frame(kind, body)
        after = peer.connection.state
        assert after.value >= before.value  # never back
        before = after
    if not peer.connection.is_closed and not peer.connection.is_ready:
        assert len(said) < MESSAGES_BEFORE_READY_MAX
    check_events(events(peer.connection), peer)
    answers = peer.connection.data_to_send()
    assert len(answers) <= (len(said) + 2) * (CSMB_MSG_MAX + SEAL_SIZE)


@given(roles, states, st.lists(st.floats(0, 40), max_size=8), streams)
def test_any_clock_does_no_harm(
    role: Role, state: State, waits: list[float], octets: bytes
) -> None:
    peer = ScriptedPeer(connect(role))
    peer.reach(state)
    now = START
    for wait in waits:
        now += wait
        peer.connection.handle_timer(now)
        due = peer.connection.get_timer()
        assert due is None or due > now  # what was due is done
    peer.now = now
    peer.say_octets(octets or b"\0")
    check_events(events(peer.connection), peer)


@given(st.lists(payloads, min_size=1, max_size=6), st.data())
def test_one_flipped_bit_behind_the_seal_is_never_obeyed(
    sent: list[Message], data: st.DataObject
) -> None:
    pair = ready_pair()
    for message in sent:
        pair.cs.send(message, START)
    octets = bytearray(pair.cs.data_to_send())
    at = data.draw(st.integers(0, len(octets) * 8 - 1))
    octets[at // 8] ^= 1 << at % 8
    pair.dfs.receive_data(bytes(octets), START)
    got = [event.message for event in events(pair.dfs) if isinstance(event, MessageReceived)]
    assert got == sent[: len(got)]
    assert len(got) < len(sent)


@given(st.lists(st.tuples(st.booleans(), payloads), max_size=20), st.integers(1, 300))
def test_what_is_sent_arrives_once_and_in_order(
    said: list[tuple[bool, Message]], chunk: int
) -> None:
    pair = Pair(connect(Role.CS), connect(Role.DFS))
    pair.exchange(chunk)
    down, up = [], []
    for from_cs, message in said:
        if from_cs:
            pair.cs.send(message, START)
            down.append(message)
        else:
            pair.dfs.send(GetVsList(), START)
            up.append(GetVsList())
    pair.exchange(chunk)
    for connection, expected in ((pair.dfs, down), (pair.cs, up)):
        found = [e.message for e in events(connection) if isinstance(e, MessageReceived)]
        assert found == expected


@given(st.binary(min_size=16, max_size=40), st.binary(min_size=16, max_size=40))
def test_two_are_ready_if_and_only_if_they_hold_the_same_key(left: bytes, right: bytes) -> None:
    for cs_key, dfs_key in ((left, left), (left, right)):
        # HMAC pads a short key with zeros: those at its end do not count
        same = cs_key.rstrip(b"\0") == dfs_key.rstrip(b"\0")
        pair = Pair(connect(Role.CS, key=cs_key), connect(Role.DFS, key=dfs_key))
        pair.exchange()
        for connection in (pair.cs, pair.dfs):
            assert connection.is_ready == same
            last = events(connection)[-1]
            if not same:
                assert isinstance(last, Closed)
                assert last.error_code == ErrorCode.AUTHFAIL
