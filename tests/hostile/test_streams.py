# SPDX-License-Identifier: Apache-2.0
"""Forged, replayed, truncated and oversized CSMB streams, to connections of both roles in each
state, and to whole segments: nobody without the key gets anywhere, and each is counted.  `make
soak` sends a million of each kind, `make test` a twentieth."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

import pytest

from admin.quiet_log import LINES
from control_segment.connections import Connections
from csmb.connection import Connection
from csmb.constants import FIRST_IGNORED_TYPE, MessageType, Role
from csmb.transitions import State
from ssmb.seal import tag
from support.octets.hostile_streams import KINDS, Scene, outcome, spoilt
from support.segments.agent_rig import AgentRig
from support.segments.busy import BusyAgent, BusyCs
from support.segments.dfs_double import Rig
from support.snapshot import snapshot
from support.soak import part

EACH: Final = 1_000_000
# role, state, whether a DFS has answered the challenge; how many of each kind
SCENES: Final[dict[str, tuple[Role, State, bool, int]]] = {
    "DFS before HELLO": (Role.DFS, State.HELLO_WAIT, False, 125_000),
    "CS before HELLO": (Role.CS, State.HELLO_WAIT, False, 125_000),
    "DFS before the challenge": (Role.DFS, State.AUTH_WAIT, False, 50_000),
    "DFS before the result": (Role.DFS, State.AUTH_WAIT, True, 130_000),
    "CS before the response": (Role.CS, State.AUTH_WAIT, False, 70_000),
    "DFS ready": (Role.DFS, State.READY, False, 125_000),
    "CS ready": (Role.CS, State.READY, False, 125_000),
}
CLOSED_HEARS: Final = 125_000  # in each role, of each kind
SEGMENTS_HEAR: Final = part(50_000)
SEALED_NONSENSE: Final = part(100_000)
READY_ENDS: Final = {"closed: AUTHFAIL", "closed: BADMSG", "incomplete"}
UNPROVED_ENDS: Final = {"dropped", "heard, nothing proved", "incomplete"}


def test_the_scenes_make_a_million_of_each_kind_and_a_million_to_each_state() -> None:
    assert sum(share for _, _, _, share in SCENES.values()) + 2 * CLOSED_HEARS == EACH
    assert 2 * CLOSED_HEARS * len(KINDS) >= EACH
    for state in (State.HELLO_WAIT, State.AUTH_WAIT, State.READY):
        shares = [share for _, where, _, share in SCENES.values() if where is state]
        assert sum(shares) * len(KINDS) >= EACH


@pytest.mark.soak
@pytest.mark.parametrize("name", SCENES)
def test_hostile_streams_prove_nothing_and_each_is_counted(name: str) -> None:
    role, state, challenged, whole = SCENES[name]
    share = part(whole)
    scene = Scene(role, state, challenged=challenged)
    connection, rewind = scene.connection, scene.rewind
    for make in KINDS.values():
        found: Counter[str] = Counter()
        for octets in make(scene, share):
            rewind()
            found[outcome(connection, octets)] += 1
        assert found.total() == share
        ends = set(found)
        if state is State.READY:
            assert ends <= READY_ENDS, found
        else:
            assert {end for end in ends if not end.startswith("closed: ")} <= UNPROVED_ENDS, found


@pytest.mark.parametrize("role", Role)
def test_what_would_be_in_order_is_heeded(role: Role) -> None:
    """Otherwise the test above shows nothing."""
    for state in (State.HELLO_WAIT, State.AUTH_WAIT, State.READY):
        scene = Scene(role, state)
        for octets in scene.genuine:
            scene.rewind()
            scene.connection.receive_data(octets, 100.0)
            assert not scene.connection.is_closed
            assert scene.connection.dropped.total() == 0
            assert scene.connection.next_event() or scene.connection.data_to_send()


@pytest.mark.soak
@pytest.mark.parametrize("role", Role)
def test_a_closed_connection_takes_everything_and_keeps_nothing(role: Role) -> None:
    scene = Scene(role, State.CLOSED)
    connection = scene.connection
    receive = connection.receive_data
    before = snapshot(connection, "")
    for make in KINDS.values():
        for octets in make(scene, part(CLOSED_HEARS)):
            receive(octets, 100.0)
    assert snapshot(connection, "") == before


@pytest.mark.soak
@pytest.mark.parametrize("role", Role)
def test_nonsense_under_the_right_seal_is_counted_and_answered_but_not_heeded(role: Role) -> None:
    """The peer has the key and is broken: unknown types, types that it must not send, no bodies."""
    scene = Scene(role, State.READY)
    connection, key = scene.connection, scene.peer.outbound._key
    assert key is not None
    sent_by_peer = (MessageType.AUTH_CHALLENGE, MessageType.AUTH_RESPONSE, MessageType.AUTH_RESULT)
    kinds = [0, 11, 64, FIRST_IGNORED_TYPE - 1, FIRST_IGNORED_TYPE, 255, 65535, *sent_by_peer]
    count = scene.peer.outbound._count
    dice = random.Random(6)
    for number in range(1, SEALED_NONSENSE + 1):
        kind = kinds[number % len(kinds)]
        body = dice.randbytes(4 * (1 + number % 30))
        header = (kind, (count + number) & 0xFFFF, 0, 8 + len(body))
        octets = b"".join(value.to_bytes(2, "big") for value in header) + body
        octets += tag(key, (count + number).to_bytes(8, "big") + octets)
        connection.receive_data(octets, 100.0)
        connection.data_to_send()
        assert connection.next_event() is None
    assert connection.is_ready
    assert connection.dropped.total() == SEALED_NONSENSE
    assert set(connection.dropped) == {"BADMSG", "UNSUPPORTED", "IGNORABLE"}


# --- whole segments ----------------------------------------------------------------------------


def conversation_to_an_agent() -> list[bytes]:
    """What a CS with the right key said to another DFS, message by message."""
    rig = AgentRig()
    rig.random_octets(100)  # that one's nonces are others
    said: list[bytes] = []
    receive = rig.agent.connections.receive

    def recording(connection_id: int, octets: bytes, now: float) -> None:
        said.append(octets)
        receive(connection_id, octets, now)

    rig.agent.connections.receive = recording  # type: ignore[method-assign]
    rig.cs(1)
    assert rig.agent.peers.by_identity
    return said


def conversation_to_a_cs() -> list[bytes]:
    """What a DFS with the right key said to another CS."""
    said: list[bytes] = []
    receive = Connections.stream_received

    def recording(cs: Connections, index: int, octets: bytes, now: float) -> float | None:
        said.append(octets)
        return receive(cs, index, octets, now)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Connections, "stream_received", recording)
        rig = Rig()
        rig._random = 1 << 30  # that one's challenges are others
        rig.dfs.disconnect(rig)
        said.clear()
        rig.dfs.connect(rig)
    assert rig.cs.connections.links[0].is_ready
    return said


def streams(conversation: Sequence[bytes], count: int) -> Iterator[list[bytes]]:
    dice = random.Random(8)
    for _ in range(count):
        yield spoilt(conversation, dice)


@pytest.mark.soak
def test_hostile_streams_change_nothing_in_an_agent() -> None:
    busy = BusyAgent()
    sessions, now = busy.rig.agent.connections, busy.rig.now
    sessions.take_touched()
    sessions.take_log()
    # A HELLO in a CS's name makes the DFS ask that CS whether it is there, once a second
    sessions._claims.ask(list(sessions._accepted), now)
    for living in sessions._accepted:
        sessions.octets_to_send(living)
    for _ in range(LINES):  # more lines are not written, but counted
        sessions.receive(sessions.connection_made(now) or 0, b"", now)
    for closed in sessions.take_touched():
        sessions.octets_to_send(closed)
    assert len(sessions.take_log()) == LINES
    sessions.get_timer()
    watch = busy.watch()
    for parts in streams(conversation_to_an_agent(), SEGMENTS_HEAR):
        number = sessions.connection_made(now)
        assert number is not None
        for octets in (*parts, b""):
            sessions.receive(number, octets, now)
            sessions.octets_to_send(number)
    sessions.take_touched()
    sessions.get_timer()
    assert sessions.take_log() == []
    rose = watch.increases()
    assert rose.pop("['agent'].connections._last_id") == SEGMENTS_HEAR
    kinds = "['agent'].connections._quiet._kinds"
    closed_line = f"{kinds}['connection to an unauthenticated CS closed'].left_out"
    assert rose.pop(closed_line) == SEGMENTS_HEAR
    rose.pop("['count']['cs_not_active']", None)  # how some of the HELLOs were answered
    assert rose == {
        "['count']['csmb_connections']": SEGMENTS_HEAR,
        "['count']['csmb_auth_failures']": SEGMENTS_HEAR,
    }


@pytest.mark.soak
def test_hostile_streams_change_nothing_in_a_cs() -> None:
    """Somebody else answers at the address of a DFS."""
    busy = BusyCs()
    busy.rig.cs.log.clear()
    cs, now, index = busy.rig.cs, busy.rig.now, busy.unconnected
    for _ in range(LINES):  # more lines are not written, but counted
        cs.connections.connected(index, now)
        cs.connections.stream_received(index, b"", now)
    cs.connections.stream_to_send(index)
    assert len(cs.log) == LINES
    cs.log.clear()
    watch = busy.watch()
    for parts in streams(conversation_to_a_cs(), SEGMENTS_HEAR):
        cs.connections.connected(index, now)
        for octets in (*parts, b""):
            cs.connections.stream_to_send(index)
            if cs.connections.stream_received(index, octets, now) is not None:
                break
        cs.connections.stream_to_send(index)
    assert cs.log == []
    changes = watch.changes()
    assert changes.pop("['count']['stream_unproved']") == (LINES, LINES + SEGMENTS_HEAR)
    (left_out,) = [path for path in changes if "._quiet._kinds" in path]
    assert changes.pop(left_out) == (0, SEGMENTS_HEAR)
    assert {path for path in changes if f"links[{index}]" not in path} == set()


@pytest.mark.parametrize("behind", [bytes(8), b"\xff" * 64], ids=["no length", "noise"])
def test_noise_right_behind_a_genuine_response_ends_that_connection_and_nothing_else(
    behind: bytes,
) -> None:
    """Somebody on the path adds to a segment: the CS hears READY and the end at once."""
    rig = Rig()
    rig.dfs.disconnect(rig)
    dfs = Connection(Role.DFS, rig.dfs.settings, random_octets=rig.random_octets, now=rig.now)
    rig.cs.connections.connected(0, rig.now)
    retry_s: float | None = None
    while retry_s is None:
        dfs.receive_data(rig.cs.connections.stream_to_send(0), rig.now)
        answer = dfs.data_to_send()
        is_response = answer[:2] == MessageType.AUTH_RESPONSE.to_bytes(2, "big")
        retry_s = rig.cs.connections.stream_received(0, answer + behind * is_response, rig.now)
    assert rig.cs.connections.links[0].connection is None
    rig.cs.datagrams_to_send()  # under keys that nobody has any more
    rig.dfs.connect(rig)
    assert rig.dfs.query(rig) is not None


def test_noise_right_behind_a_genuine_result_ends_that_connection_and_nothing_else() -> None:
    """The same to a DFS."""
    rig = AgentRig()
    receive = rig.agent.connections.receive

    def with_noise(connection_id: int, octets: bytes, now: float) -> None:
        is_result = octets[:2] == MessageType.AUTH_RESULT.to_bytes(2, "big")
        receive(connection_id, octets + b"\xff" * 64 * is_result, now)

    rig.agent.connections.receive = with_noise  # type: ignore[method-assign]
    assert rig.cs(1, prepare=False).closed is not None
    assert rig.agent.peers.by_identity == {}
    rig.agent.connections.receive = receive  # type: ignore[method-assign]
    rig.cs(1)
    assert (1, 1) in rig.agent.peers.by_identity
