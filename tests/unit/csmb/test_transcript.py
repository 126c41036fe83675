# SPDX-License-Identifier: Apache-2.0
"""Nobody on the path can change what two segments offered each other (wire protocol 12.6).

HELLO is not sealed before authentication.  Two segments that both prove their HELLOs notice every
change; with one that does not, the connection is what it was before there were such proofs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

from csmb import keys
from csmb.codec import decode, encode
from csmb.connection import Connection
from csmb.constants import HELLO_SIZE_V2, ErrorCode, Flag, MessageType, Role
from csmb.events import Closed, Event, MessageReceived, Ready
from csmb.messages import Config, Hello
from csmb.transitions import State
from csmb.versions import Versions
from support.segments.csmb_pair import KEY, START, Pair, ScriptedPeer, connect, events

Change = Callable[[str, bytes], bytes]  # of a message that goes "down" to the DFS, or "up"

V1: Final[Versions] = ((1, 0),)
BOTH: Final[Versions] = ((1, 0), (2, 0))


class OnThePath:
    """Carries messages, and changes those that are not sealed yet."""

    def __init__(self, change: Change, cs: Connection, dfs: Connection) -> None:
        self.cs, self.dfs = cs, dfs
        self._change = change
        self._has_sent = False
        self.events: dict[Role, list[Event]] = {Role.CS: [], Role.DFS: []}

    def run(self) -> None:
        sealed = {"down": False, "up": False}
        for _ in range(50):
            down, up = self.cs.data_to_send(), self.dfs.data_to_send()
            if not down and not up:
                return
            for way, octets, receiver in (("down", down, self.dfs), ("up", up, self.cs)):
                while octets and not sealed[way]:
                    length = int.from_bytes(octets[6:8], "big")
                    message, octets = octets[:length], octets[length:]
                    kind = int.from_bytes(message[:2], "big")
                    sealed[way] = kind in (MessageType.AUTH_RESULT, MessageType.AUTH_RESPONSE)
                    if kind == MessageType.HELLO:
                        message = self._change(way, message)
                    receiver.receive_data(message, START)
                receiver.receive_data(octets, START) if octets else None
            self._send_something()
            self.events[Role.CS] += events(self.cs)
            self.events[Role.DFS] += events(self.dfs)
        raise AssertionError("they never stop talking")

    def _send_something(self) -> None:
        """As soon as the CS may, it configures."""
        if self.cs.is_ready and not self._has_sent:
            self._has_sent = True
            self.cs.send(Config(), START)

    @property
    def obeyed(self) -> bool:
        return any(isinstance(event, MessageReceived) for event in self.events[Role.DFS])

    def versions(self) -> set[tuple[object, object]]:
        return {
            (event.csmb_version, event.ssmb_version)
            for side in self.events.values()
            for event in side
            if isinstance(event, Ready)
        }


def attacked(change: Change, cs: Versions = BOTH, dfs: Versions = BOTH) -> OnThePath:
    path = OnThePath(
        change, connect(Role.CS, csmb_versions=cs), connect(Role.DFS, csmb_versions=dfs)
    )
    path.run()
    return path


def rewritten(octets: bytes, *, stripped: bool, **changes: Any) -> bytes:
    message, *serials = decode(octets, 2)
    assert isinstance(message, Hello)
    if stripped:
        message = message._replace(flags=message.flags & ~Flag.TRANSCRIPT)
    return encode(message._replace(**changes), 2, *serials)


def test_undisturbed_they_are_ready_and_obey() -> None:
    path = attacked(lambda way, octets: octets)
    assert path.cs.is_ready
    assert path.dfs.is_ready
    assert path.obeyed
    assert path.versions() == {((2, 0), (2, 0))}


@pytest.mark.parametrize("stripped", [False, True], ids=["versions", "versions and the flag"])
@pytest.mark.parametrize("bus", ["vers_major", "ssmb_vers_major"])
def test_a_version_that_was_talked_down_is_noticed_before_anything_is_obeyed(
    bus: str, stripped: bool
) -> None:
    """The first offer becomes one that is too new, its refusal names version 1."""
    seen: list[str] = []

    def change(way: str, octets: bytes) -> bytes:
        first = way not in seen
        seen.append(way)
        lies = {bus: 9 if way == "down" else 1} if first else {}
        return rewritten(octets, stripped=stripped, **lies)

    path = attacked(change)
    assert len(seen) == 4  # they did agree on the lower version
    assert not path.obeyed
    assert path.cs.is_closed
    assert path.dfs.is_closed
    ends = [each for side in path.events.values() for each in side if isinstance(each, Closed)]
    assert {end.error_code for end in ends} == {ErrorCode.AUTHFAIL}
    assert any("HELLOs were changed on the way" in end.reason for end in ends)


@pytest.mark.parametrize("stripped", [False, True], ids=["versions", "versions and the flag"])
@pytest.mark.parametrize("bus", ["vers_major", "ssmb_vers_major"])
def test_two_ends_that_believe_in_different_versions_do_not_stay_together(
    bus: str, stripped: bool
) -> None:
    """One octet in each of the two HELLOs."""

    def change(way: str, octets: bytes) -> bytes:
        return rewritten(octets, stripped=stripped, **{bus: 1 if way == "down" else 2})

    path = attacked(change)
    assert not path.obeyed
    assert path.cs.is_closed
    assert path.dfs.is_closed


@pytest.mark.parametrize("way", ["down", "up"])
@pytest.mark.parametrize("bit", [0x01, 0x80])
def test_no_octet_of_a_hello_can_be_changed(way: str, bit: int) -> None:
    for at in range(HELLO_SIZE_V2):

        def change(direction: str, octets: bytes, at: int = at) -> bytes:
            if direction != way:
                return octets
            return octets[:at] + bytes([octets[at] ^ bit]) + octets[at + 1 :]

        path = attacked(change)
        assert not path.obeyed, at
        assert not (path.cs.is_ready and path.dfs.is_ready), at


@pytest.mark.parametrize(("cs", "dfs"), [(V1, BOTH), (BOTH, V1), (V1, V1)])
def test_one_that_knows_no_such_proofs_is_taken_as_before(cs: Versions, dfs: Versions) -> None:
    path = attacked(lambda way, octets: octets, cs, dfs)
    assert path.obeyed
    assert path.versions() == {((1, 0), (2, 0))}


@pytest.mark.parametrize("role", Role)
def test_a_peer_of_version_2_without_the_capability_is_taken_too(role: Role) -> None:
    peer = ScriptedPeer(connect(role))
    peer.reach(State.READY)
    peer.say(peer.hello(boot_id=5))
    assert peer.connection.is_ready


@pytest.mark.parametrize("role", Role)
def test_whoever_shows_the_capability_behind_the_seal_only_was_robbed_of_it(role: Role) -> None:
    peer = ScriptedPeer(connect(role))
    peer.reach(State.READY)
    peer.say(peer.hello(flags=Flag.SSMB_MAC | Flag.TRANSCRIPT))
    (*_, end) = events(peer.connection)
    assert isinstance(end, Closed)
    assert end.error_code == ErrorCode.AUTHFAIL
    assert end.reason == "the HELLOs were changed on the way: both sides prove theirs (TRANSCRIPT)"


def test_the_laboratory_proves_nothing() -> None:
    changes: dict[str, Any] = {"laboratory": True, "key": b""}
    pair = Pair(connect(Role.CS, **changes), connect(Role.DFS, **changes))
    pair.exchange()
    hello = decode(pair.to_dfs[:HELLO_SIZE_V2], 2).message
    assert isinstance(hello, Hello)
    assert not hello.flags & Flag.TRANSCRIPT
    assert pair.cs.is_ready


def test_the_transcript_is_in_both_proofs_and_has_both_sides_in_it() -> None:
    arguments = (KEY, 7, bytes(32), bytes(range(32)))
    proofs = [
        proof(*arguments, dfs_id=256, cs_id=1, transcript=transcript)
        for proof in (keys.auth_proof, keys.result_proof)
        for transcript in (b"", bytes(64), bytes(63) + b"1", b"1" + bytes(63))
    ]
    assert len(set(proofs)) == len(proofs)
