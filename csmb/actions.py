# SPDX-License-Identifier: Apache-2.0
"""What a connection does: one method per action of the table, and what they act on.

Each method takes the judgement that led to it.  None of them looks at or changes the state: the
table has decided already.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import Final, TypeAlias

from csmb import knock, versions
from csmb.authentication import CHALLENGE_SIZE
from csmb.constants import ErrorCode, Flag, Role
from csmb.events import Closed, Event, HelloReceived, MessageReceived, Ready
from csmb.judgements import Judgement, Standing, error_name
from csmb.knock import with_knock
from csmb.messages import Ack, AuthChallenge, AuthResponse, Hello, Message
from csmb.settings import ConnectionSettings, GroupRole
from csmb.stream import Inbound, Outbound
from csmb.transitions import State

NONCE_SIZE: Final = 32
Said: TypeAlias = tuple[int, bool, int]
"""What a HELLO said of roles: error_code, whether the group has an active CS, role_epoch."""


class Actions:
    """The hands of one Connection, which alone uses this."""

    def __init__(
        self,
        role: Role,
        settings: ConnectionSettings,
        random_octets: Callable[[int], bytes],
        now: float,
    ) -> None:
        offer = versions.highest(settings.csmb_versions), versions.highest(settings.ssmb_versions)
        self.standing = Standing(role, settings, State.HELLO_WAIT, offer)
        self.inbound: Final = Inbound()
        self.outbound: Final = Outbound()
        self.events: Final[deque[Event]] = deque()
        self.dropped: Final[Counter[str]] = Counter()
        self.active = settings.active
        self.role_epoch = settings.role_epoch
        self.now = now
        self.hello_due_at = now
        self._holds = False  # a HELLO that is not answered yet
        self._said: Said = (ErrorCode.OK, False, 0)
        self._role = role
        self.settings = settings
        self._random_octets = random_octets

    def open(self) -> None:
        """The CS speaks first."""
        self._send_hello(self.standing.offer)

    # --- HELLO ---

    def offer(self, judgement: Judgement) -> None:
        """A CS's next lower offer."""
        assert judgement.versions is not None
        self.standing = self.standing._replace(offer=judgement.versions)
        self._send_hello(judgement.versions)

    def challenge(self, judgement: Judgement) -> None:
        """A CS agrees, and demands proof."""
        self._agree(judgement)
        self._note_transcript(self.outbound.hellos + self.inbound.hellos)
        size = 4 + CHALLENGE_SIZE
        octets = bytes(size) if self.settings.laboratory else self._random_octets(size)
        challenge = AuthChallenge(
            challenge_id=int.from_bytes(octets[:4], "big"), auth_data=octets[4:]
        )
        exchange = self.standing.exchange_for(challenge)
        self.standing = self.standing._replace(exchange=exchange)
        self.put(exchange.challenge_message())

    def agree(self, judgement: Judgement) -> None:
        """A DFS agrees."""
        self._agree(judgement)
        self.answer(judgement)
        self._note_transcript(self.inbound.hellos + self.outbound.hellos)

    def answer_hello(self, judgement: Judgement) -> None:
        self.note_hello(judgement)
        self.answer(judgement)

    def answer_and_fail(self, judgement: Judgement) -> None:
        self.answer(judgement)
        self.fail(judgement)

    def answer(self, judgement: Judgement) -> None:
        """A DFS's HELLO in answer to a CS's."""
        assert isinstance(judgement.message, Hello)
        self._holds = False
        pair = judgement.versions or self.standing.agreed or self.standing.offer
        self._send_hello(pair, judgement.error_code, judgement.message)

    def note_hello(self, judgement: Judgement) -> None:
        assert isinstance(judgement.message, Hello)
        self.standing = self.standing._replace(peer=judgement.message)
        self.events.append(HelloReceived(judgement.message))

    def hold_hello(self, judgement: Judgement) -> None:
        """A DFS answers it later; of several, the last one."""
        assert isinstance(judgement.message, Hello)
        self._holds = True
        self.standing = self.standing._replace(peer=judgement.message)

    def say_role(self, judgement: Judgement) -> None:
        """A DFS's HELLO out of turn, if it says anything new and none is due as an answer."""
        agreed, role = self.standing.agreed, judgement.role
        assert agreed is not None
        assert role is not None
        if not self._holds and self._said != (judgement.error_code, *role):
            self._send_hello(agreed, judgement.error_code, self.standing.peer, role)

    def keep_alive(self, _: Judgement) -> None:
        assert self.standing.agreed is not None
        self.hello_due_at = self.now + self.settings.hello_interval_s
        self._send_hello(self.standing.agreed, echo=self.standing.peer)

    def _agree(self, judgement: Judgement) -> None:
        self.standing = self.standing._replace(agreed=judgement.versions)
        self.note_hello(judgement)

    def _note_transcript(self, hellos: bytes) -> None:
        """What the CS and the DFS have said so far, in this order, if both want it proved."""
        peer = self.standing.peer
        assert peer is not None
        if self.settings.proves_hellos and peer.flags & Flag.TRANSCRIPT:
            self.standing = self.standing._replace(transcript=hellos)

    # --- authentication ---

    def respond(self, judgement: Judgement) -> None:
        """A DFS proves itself."""
        assert isinstance(judgement.message, AuthChallenge)
        size = NONCE_SIZE
        nonce = bytes(size) if self.settings.laboratory else self._random_octets(size)
        exchange = self.standing.exchange_for(judgement.message, nonce)
        self.standing = self.standing._replace(exchange=exchange)
        self.put(exchange.response_message())
        keys = exchange.stream_keys()
        if keys is not None:
            self.outbound.seal_with(keys.d2c)

    def admit(self, judgement: Judgement) -> None:
        """The DFS has proved itself; so does the CS."""
        exchange = self.standing.exchange
        assert isinstance(judgement.message, AuthResponse)
        assert exchange is not None
        exchange = exchange.answered(judgement.message.auth_nonce)
        self.standing = self.standing._replace(exchange=exchange)
        self.put(exchange.result_message())
        keys = exchange.stream_keys()
        if keys is not None:
            self.outbound.seal_with(keys.c2d)
            self.inbound.expect_seals(keys.d2c)
        self._become_ready()
        self.keep_alive(judgement)

    def reject(self, judgement: Judgement) -> None:
        """The DFS has not proved itself."""
        assert self.standing.exchange is not None
        self.put(self.standing.exchange.rejection_message())
        self.fail(judgement)

    def be_admitted(self, _: Judgement) -> None:
        """The CS has proved itself to the DFS."""
        assert self.standing.exchange is not None
        keys = self.standing.exchange.stream_keys()
        if keys is not None:
            self.inbound.expect_seals(keys.c2d)
        self._become_ready()

    def _become_ready(self) -> None:
        agreed, peer, exchange = self.standing.agreed, self.standing.peer, self.standing.exchange
        assert agreed is not None
        assert peer is not None
        assert exchange is not None
        self.events.append(Ready(peer, *agreed, exchange.ssmb_keys()))

    # --- other messages, the end ---

    def deliver(self, judgement: Judgement) -> None:
        assert judgement.message is not None
        assert judgement.frame is not None
        _, serial_global, serial_bytype, _ = judgement.frame
        self.events.append(MessageReceived(judgement.message, serial_global, serial_bytype))

    def refuse(self, judgement: Judgement) -> None:
        """ACK that a message is not obeyed."""
        assert judgement.frame is not None
        kind, serial_global, serial_bytype, _ = judgement.frame
        self.dropped[error_name(judgement.error_code)] += 1
        self.put(Ack(0, judgement.error_code, kind, serial_global, serial_bytype))

    def ignore(self, judgement: Judgement) -> None:
        self.dropped[judgement.input.name] += 1

    def fail(self, judgement: Judgement) -> None:
        retry_after_s = judgement.retry_after_s if self._role is Role.CS else None
        self.inbound.drop()
        self.events.append(Closed(judgement.reason, judgement.error_code, retry_after_s))

    # --- sending ---

    def _send_hello(
        self,
        pair: versions.Pair,
        error_code: int = ErrorCode.OK,
        echo: Hello | None = None,
        role: GroupRole | None = None,
    ) -> None:
        """Say HELLO; a DFS echoes what a CS decides, hello_interval and group_id.

        To a CS that is READY it also says whether the group has an active one (11.5), as `role`
        has it or else as its owner knows; nobody else needs to know.
        """
        settings = self.settings
        if echo is not None and settings.group_role and self.standing.state is State.READY:
            role = role or settings.group_role(echo)
        active, role_epoch = role or (self.active, self.role_epoch)
        self._said = error_code, active, role_epoch
        hello = settings.hello(pair, error_code=error_code, active=active, role_epoch=role_epoch)
        if self._role is Role.DFS and echo is not None:
            hello = hello._replace(hello_interval=echo.hello_interval, group_id=echo.group_id)
        if settings.knocks and self._role is Role.CS and self.standing.state is State.HELLO_WAIT:
            nonce = self._random_octets(knock.NONCE_SIZE)
            self.outbound.put_hello(hello, lambda octets: with_knock(octets, settings.key, nonce))
        else:
            self.put(hello)

    def put(self, message: Message) -> tuple[int, int]:
        """Queue a message; return its serials."""
        return self.outbound.put(message, self.standing.codec_version)
