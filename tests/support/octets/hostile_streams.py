# SPDX-License-Identifier: Apache-2.0
"""Hostile CSMB octets by the million, and connections that can be taken back to where they stood.

A connection ends with the first thing that is wrong, so a test needs a million connections; making
one costs a hundred times as much as breaking it.  `Scene` makes one of each kind and rewinds it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from csmb.authentication import Exchange
from csmb.codec import decode
from csmb.connection import Connection
from csmb.constants import CSMB_MSG_MAX, HEADER_SIZE, HELLO_SIZE, Role
from csmb.errors import MalformedMessage
from csmb.events import Closed, HelloReceived
from csmb.judgements import error_name
from csmb.messages import Ack, AddVs, Config, DelVs, GetVsList, Message, VsEntry, VsList
from csmb.stream import Outbound
from csmb.transitions import State
from ssmb.seal import tag
from support.segments.csmb_pair import KEY, START, CountingRandom, ScriptedPeer, connect

SEAL: Final = 8
NOW: Final = START + 0.5
_NOISE: Final = 1 << 16
_LIES: Final = (0, 4, 11, 13, CSMB_MSG_MAX + 4, 4096, 65532, 65535)  # as msg_length

CHALLENGE: Final = Exchange(KEY, 1, 256, 5, bytes(range(32)))
OWNERS: Final[dict[Role, tuple[Message, ...]]] = {  # what a READY connection is told
    Role.DFS: (
        Config(),
        VsList(0, 1, (VsEntry(virt_port=80),)),
        AddVs(virt_port=443),
        DelVs(virt_port=443),
    ),
    Role.CS: (GetVsList(), Ack(), GetVsList()),
}


class Scene:
    """A connection in one state, what its peer would say next, and what it has said."""

    def __init__(self, role: Role, state: State, *, challenged: bool = False) -> None:
        self.connection = connect(role)
        self.peer = peer = ScriptedPeer(self.connection)
        self._said = _recorded(self.connection, lambda: peer.reach(state))
        if challenged:
            self._said += _recorded(self.connection, self._hear_challenge)
        while self.connection.next_event() is not None:
            pass
        self.role, self.state = role, state
        self.genuine = self._next_messages(challenged)
        self.wrong = self._with_wrong_keys() if state is State.READY else []
        self.rewind: Callable[[], None] = _rewinder(self.connection)

    @property
    def history(self) -> list[bytes]:
        """Messages that were delivered, and one that never comes at this point."""
        return [*self._said, *STRANGERS[self.role]]

    def _hear_challenge(self) -> None:
        """A DFS that has answered and waits for AUTH_RESULT."""
        self.peer.exchange = CHALLENGE
        self.peer.say(CHALLENGE.challenge_message())
        self.peer.heard()

    def _next_messages(self, challenged: bool) -> list[bytes]:
        """Whatever would be in order now; each would be heeded."""
        peer, state = self.peer, self.state
        messages: list[Message]
        if state in (State.HELLO_WAIT, State.CLOSED):
            messages = [peer.hello()]
        elif state is State.READY:
            messages = [peer.hello(boot_id=99), *OWNERS[self.role]]
        elif self.role is Role.CS:
            assert peer.exchange is not None
            messages = [peer.exchange.response_message()]
        else:
            exchange = peer.exchange or CHALLENGE
            messages = [exchange.result_message() if challenged else exchange.challenge_message()]
        return [_said_next(peer.outbound, message) for message in messages]

    def _with_wrong_keys(self) -> list[bytes]:
        """The next messages, sealed with a guess, with what both know, with the other way's key."""
        other = self.connection._actions.outbound._key
        count = self.peer.outbound._count + 1
        made = []
        for key in (bytes(16), KEY, other):
            assert key is not None
            for octets in self.genuine:
                body = octets[:-SEAL]
                made.append(body + tag(key, count.to_bytes(8, "big") + body))
        return made

    # --- what is hostile -----------------------------------------------------------------------

    def forged(self, count: int) -> Iterator[bytes]:
        """One octet changed so that it matters, another seal, or noise."""
        dice = random.Random(11)
        noise = dice.randbytes(_NOISE)
        pool = [
            changed for octets in self.genuine for changed in self._changes(octets) for _ in (1, 2)
        ]
        pool += self.wrong
        for number in range(count):
            pick = dice.getrandbits(30)
            if number & 7:
                yield pool[pick % len(pool)]
            else:
                start = pick & 0x7FFF
                yield noise[start : start + 12 + (pick >> 15) % 200]

    def _changes(self, octets: bytes) -> Iterator[bytes]:
        """Every octet changed by every bit, but for what a receiver has to ignore."""
        is_sealed = self.state is State.READY
        for place in range(len(octets)):
            for bit in range(8):
                changed = bytearray(octets)
                changed[place] ^= 1 << bit
                if is_sealed or _matters(octets, bytes(changed)):
                    yield bytes(changed)

    def replayed(self, count: int) -> Iterator[bytes]:
        """What was said before on this connection, or on another one."""
        dice = random.Random(12)
        history = self.history
        pool = [first + second for first in history for second in (b"", *history)]
        yield from dice.choices(pool, k=count)

    def truncated(self, count: int) -> Iterator[bytes]:
        """Cut anywhere; the stream goes on with the next message, or ends."""
        dice = random.Random(13)
        pool = [
            octets[:cut] + behind
            for octets in self.genuine
            for cut in range(1, len(octets))
            for behind in (b"", octets, self.genuine[0])
        ]
        yield from dice.choices(pool, k=count)

    def oversized(self, count: int) -> Iterator[bytes]:
        """A length that cannot be, or that is not what the type has; with all that it announces."""
        dice = random.Random(14)
        noise = dice.randbytes(_NOISE)
        lies = [*_LIES, *range(88, CSMB_MSG_MAX, 36)]
        pool = []
        for octets in self.genuine:
            for lie in lies:
                head = octets[:6] + lie.to_bytes(2, "big") + octets[HEADER_SIZE:]
                behind = max(0, lie + SEAL - len(head))
                if not self._may_be(octets, lie):
                    pool += [head + noise[:behind], head + bytes(behind)]
        yield from dice.choices(pool, k=count)

    def _may_be(self, octets: bytes, length: int) -> bool:
        """Only an unsealed HELLO may be longer: later versions have more behind it (7.4)."""
        is_hello = octets[:2] == b"\0\x01" and self.state is not State.READY
        return is_hello and length % 4 == 0 and HELLO_SIZE <= length <= CSMB_MSG_MAX


KINDS: Final[dict[str, Callable[[Scene, int], Iterator[bytes]]]] = {
    "forged": Scene.forged,
    "replayed": Scene.replayed,
    "truncated": Scene.truncated,
    "oversized": Scene.oversized,
}


def outcome(connection: Connection, octets: bytes) -> str:
    """What became of hostile octets and the end of the stream, in one word that counts it.

    Ready and MessageReceived, which alone give anybody power, are failures here.
    """
    dropped = connection.dropped.total()
    connection.receive_data(octets, NOW)
    name = ""
    if not connection.is_closed:
        rose = connection.dropped.total() - dropped
        name = "dropped" if rose else "incomplete"
        if not rose:
            connection.receive_data(b"", NOW)  # what has begun ends here
    while (event := connection.next_event()) is not None:
        if event.__class__ is Closed:
            assert isinstance(event, Closed)
            name = name or f"closed: {error_name(event.error_code)}"
        elif event.__class__ is HelloReceived:
            name = "heard, nothing proved"
        else:
            raise AssertionError(f"{octets.hex()} led to {event}")
    return name


def spoilt(conversation: Sequence[bytes], dice: random.Random) -> list[bytes]:
    """A conversation of another day: as it was, changed in an octet, cut, in another order."""
    parts = list(conversation)
    at = dice.randrange(len(parts))
    octets = parts[at]
    match dice.randrange(7):
        case 0:
            place = dice.randrange(len(octets))
            changed = octets[place] ^ dice.randrange(1, 256)
            parts[at] = octets[:place] + bytes([changed]) + octets[place + 1 :]
        case 1:
            parts[at] = octets[: dice.randrange(len(octets))]
        case 2:
            parts.insert(at, octets)
        case 3:
            del parts[at]
        case 4:
            dice.shuffle(parts)
        case 5:
            parts[at:] = [dice.randbytes(dice.randrange(1, 1500))]
    return [part for part in parts if part]


def _rewinder(connection: Connection) -> Callable[[], None]:
    """A function that puts everything back as it is now, in two microseconds."""
    actions = connection._actions
    inbound, outbound = actions.inbound, actions.outbound
    kept: list[tuple[dict[str, Any], dict[str, Any]]] = []
    mutable: list[tuple[dict[str, Any], str, Callable[[Any], Any], Any]] = []
    for part in (connection, actions, inbound, outbound):
        fields = part.__dict__
        kept.append((fields, dict(fields)))
        for name, value in fields.items():
            if isinstance(value, dict):
                mutable.append((fields, name, value.__class__, value.copy()))
            elif isinstance(value, bytearray):
                mutable.append((fields, name, bytearray, bytes(value)))
    assert not actions.events

    def rewind() -> None:
        for fields, values in kept:
            fields.update(values)
        for fields, name, make, value in mutable:
            fields[name] = make(value)
        actions.events.clear()

    return rewind


def _said_next(outbound: Outbound, message: Message) -> bytes:
    """What a message would be on the wire now; the outbound side stays as it is."""
    count, counts = outbound._count, dict(outbound._counts)
    outbound.put(message, 2)
    outbound._count, outbound._counts = count, counts
    return outbound.take()


def _matters(octets: bytes, changed: bytes) -> bool:
    """Whether a receiver heeds the difference: reserved octets and unknown flags it does not."""
    try:
        before, now = decode(octets, 2), decode(changed, 2)
    except MalformedMessage:
        return True
    if before.serial_global != now.serial_global or before.message.__class__ is not (
        now.message.__class__
    ):
        return True
    return before.message._replace(flags=0) != now.message._replace(flags=0)


def _strangers(role: Role) -> list[bytes]:
    """What the peer of another connection said to it, up to READY and beyond; and all in one."""
    settings = connect(role).settings
    random_octets = CountingRandom(50_000)  # its challenge is another one
    connection = Connection(role, settings, random_octets=random_octets, now=START)
    peer = ScriptedPeer(connection)
    said = _recorded(connection, lambda: _say_everything(peer, role))
    return [*said, b"".join(said)]


def _say_everything(peer: ScriptedPeer, role: Role) -> None:
    peer.reach(State.READY)
    for message in OWNERS[role]:
        peer.say(message)


def _recorded(connection: Connection, talk: Callable[[], None]) -> list[bytes]:
    """What a connection is given meanwhile."""
    said: list[bytes] = []
    feed = connection.receive_data

    def recording(octets: bytes, now: float) -> None:
        said.append(octets)
        feed(octets, now)

    connection.receive_data = recording  # type: ignore[method-assign]
    talk()
    del connection.receive_data  # the class's again
    return said


STRANGERS: Final = {role: _strangers(role) for role in Role}
