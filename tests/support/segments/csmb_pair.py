# SPDX-License-Identifier: Apache-2.0
"""Two CSMB connections wired by hand, and a peer that says what a test wants it to say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from csmb.authentication import Exchange
from csmb.codec import decode
from csmb.connection import Connection
from csmb.constants import Flag, Role
from csmb.events import Closed, Event, Ready
from csmb.messages import AuthChallenge, AuthResponse, AuthResult, Hello, Message
from csmb.settings import ConnectionSettings
from csmb.stream import Inbound, Outbound
from csmb.transitions import State
from ssmb.addresses import from_text
from ssmb.seal import tag

KEY = b"sixteen octets.."
CS_ADDRESS, DFS_ADDRESS = from_text("10.255.0.2"), from_text("10.255.0.1")
CS_SETTINGS = ConnectionSettings(
    segment_id=1, key=KEY, group_id=7, boot_id=11, ssmb_ipaddr=CS_ADDRESS, ssmb_port=61019
)
DFS_SETTINGS = ConnectionSettings(
    segment_id=256, key=KEY, boot_id=22, flow_capacity=65536, ssmb_ipaddr=DFS_ADDRESS,
    ssmb_port=61019,
)  # fmt: skip
START = 100.0


class CountingRandom:
    """Octets that never repeat and are the same in every run."""

    def __init__(self, start: int) -> None:
        self._next = start

    def __call__(self, size: int) -> bytes:
        self._next += 1
        return self._next.to_bytes(4, "big") * (size // 4)


def connect(role: Role, now: float = START, **changes: Any) -> Connection:
    """One end with the settings above, and what is changed in them."""
    settings = replace(CS_SETTINGS if role is Role.CS else DFS_SETTINGS, **changes)
    random_octets = CountingRandom(1000 if role is Role.CS else 2000)
    return Connection(role, settings, random_octets=random_octets, now=now)


def events(connection: Connection) -> list[Event]:
    """All that it has to tell."""
    found = []
    while (event := connection.next_event()) is not None:
        found.append(event)
    return found


class Pair:
    """A CS and a DFS, and the octets between them."""

    def __init__(self, cs: Connection, dfs: Connection, now: float = START) -> None:
        self.cs = cs
        self.dfs = dfs
        self.now = now
        self.to_dfs = b""  # all that was ever sent
        self.to_cs = b""

    def exchange(self, chunk: int = 1 << 20) -> None:
        """Carry octets both ways until nobody has any left."""
        for _ in range(1000):
            down, up = self.cs.data_to_send(), self.dfs.data_to_send()
            if not down and not up:
                return
            self.to_dfs += down
            self.to_cs += up
            for at in range(0, len(down), chunk):
                self.dfs.receive_data(down[at : at + chunk], self.now)
            for at in range(0, len(up), chunk):
                self.cs.receive_data(up[at : at + chunk], self.now)
        raise AssertionError("they never stop talking")


def pair_of(cs: dict[str, Any], dfs: dict[str, Any]) -> Pair:
    """Two with changed settings that have said all they had to say."""
    pair = Pair(connect(Role.CS, **cs), connect(Role.DFS, **dfs))
    pair.exchange()
    return pair


def ready_pair(now: float = START, **changes: Any) -> Pair:
    """Two that have authenticated each other; their first events are gone."""
    pair = Pair(connect(Role.CS, now, **changes), connect(Role.DFS, now, **changes), now)
    pair.exchange()
    assert any(isinstance(event, Ready) for event in events(pair.cs))
    assert any(isinstance(event, Ready) for event in events(pair.dfs))
    return pair


class AnyOutbound(Outbound):
    """Sends messages that the codec would not make."""

    def put_octets(self, kind: int, body: bytes) -> None:
        """Queue a message of any type with any body, its serials and its seal right."""
        self._count += 1
        self._counts[kind] = self._counts.get(kind, 0) + 1
        header = (kind, self._count & 0xFFFF, self._counts[kind] & 0xFFFF, 8 + len(body))
        octets = b"".join(value.to_bytes(2, "big") for value in header) + body
        self._buffer += octets
        if self._key is not None:
            self._buffer += tag(self._key, self._count.to_bytes(8, "big") + octets)


class ScriptedPeer:
    """The other end of a Connection: keeps serials and seals right, and says anything."""

    def __init__(self, connection: Connection, now: float = START) -> None:
        self.connection = connection
        self.now = now
        self.key = b"" if connection.settings.laboratory else KEY
        self.version = 2
        self.outbound = AnyOutbound()
        self.inbound = Inbound()
        self.exchange: Exchange | None = None

    def say(self, message: Message) -> None:
        """Send one message."""
        self.outbound.put(message, self.version)
        self.connection.receive_data(self.outbound.take(), self.now)

    def say_octets(self, octets: bytes) -> None:
        """Send these, whatever they are."""
        self.connection.receive_data(octets, self.now)

    def say_frame(self, kind: int, body: bytes) -> None:
        """Send a message of any type with any body, its serials and seal right."""
        self.outbound.put_octets(kind, body)
        self.connection.receive_data(self.outbound.take(), self.now)

    def heard(self) -> list[Message]:
        """What the connection has said since."""
        self.inbound.feed(self.connection.data_to_send())
        messages = []
        while (frame := self.inbound.next_frame()) is not None:
            message = decode(frame.octets, self.version).message
            messages.append(message)
            self._follow(message)
        return messages

    def _follow(self, message: Message) -> None:
        """Note what the peer of an authentication has to note."""
        if isinstance(message, AuthChallenge):
            self.exchange = Exchange(
                self.key, 1, 256, message.challenge_id, message.auth_data, bytes(range(32))
            )
        if isinstance(message, AuthResponse) and self.exchange is not None:
            self.exchange = self.exchange.answered(message.auth_nonce)
            keys = self.exchange.stream_keys()
            if keys is not None:
                self.inbound.expect_seals(keys.d2c)
        if isinstance(message, AuthResult) and not message.error_code and self.exchange:
            keys = self.exchange.stream_keys()
            if keys is not None:
                self.inbound.expect_seals(keys.c2d)

    # --- a whole part in one go ---

    def hello(self, **changes: Any) -> Hello:
        """The HELLO that this peer ought to say."""
        role = self.connection.role
        base = Hello(
            flags=0 if self.connection.settings.laboratory else Flag.SSMB_MAC,
            vers_major=2, ssmb_vers_major=2, group_id=7,
            segment_id=256 if role is Role.CS else 1,
            ssmb_ipaddr=DFS_ADDRESS if role is Role.CS else CS_ADDRESS, ssmb_port=61019,
        )  # fmt: skip
        return base._replace(**changes)

    def reach(self, state: State) -> None:
        """Take the connection there from its start."""
        self.heard()
        if state is State.HELLO_WAIT:
            return
        self.say(self.hello())
        self.heard()
        if state is State.READY and self.connection.role is Role.CS:
            self._answer_challenge()
        elif state is State.READY:
            self._challenge()
        elif state is State.CLOSED:
            self.connection.close("a test wants it closed")
        self.heard()
        assert self.connection.state is state

    def _answer_challenge(self) -> None:
        assert self.exchange is not None
        self.say(self.exchange.response_message())
        keys = self.exchange.stream_keys()
        if keys is not None:
            self.outbound.seal_with(keys.d2c)

    def _challenge(self) -> None:
        self.exchange = Exchange(self.key, 1, 256, 5, bytes(range(32)) if self.key else bytes(32))
        self.say(self.exchange.challenge_message())
        self.heard()
        self.say(self.exchange.result_message())
        keys = self.exchange.stream_keys()
        if keys is not None:
            self.outbound.seal_with(keys.c2d)


def closed(connection: Connection) -> Closed:
    """Its last event, which must say that it is closed."""
    last = events(connection)[-1]
    assert isinstance(last, Closed)
    assert connection.state is State.CLOSED
    assert connection.get_timer() is None
    return last
