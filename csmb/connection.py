# SPDX-License-Identifier: Apache-2.0
"""One CSMB connection, without its socket: octets and time in, octets and events out.

    connection = Connection(Role.CS, settings, random_octets=secrets.token_bytes, now=now)
    connection.receive_data(octets, now)      # b"" when the peer has closed
    connection.handle_timer(now)              # at connection.get_timer()
    stream.write(connection.data_to_send())   # after every call
    while event := connection.next_event(): ...

The CS is the TCP client and speaks first; create the connection when TCP is connected.  What may
follow what stands in `csmb.transitions`, what a message amounts to in `csmb.judgements`; here is a
method for each action.  Nothing that the peer sends raises; our caller's mistakes do.

The first HELLOs are not sealed yet: somebody on the path could have changed them.  Therefore the CS
sends its first keep-alive as soon as it is READY, and what counts comes again, sealed, both ways.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import Final

from csmb import versions
from csmb.authentication import CHALLENGE_SIZE
from csmb.codec import TYPE_OF
from csmb.constants import (
    AUTH_WAIT_S,
    CS_ID_MAX,
    CS_SENDS,
    DEAD_INTERVALS,
    DFS_ID_MIN,
    DFS_SENDS,
    HELLO_INTERVAL_S,
    ROLE_EPOCH_MAX,
    SEGMENT_ID_MAX,
    ErrorCode,
    MessageType,
    Role,
)
from csmb.errors import BadSeal, BrokenStream, LocalProtocolError, NotReady
from csmb.events import Closed, Event, HelloReceived, MessageReceived, Ready
from csmb.judgements import OWNERS_TYPES, Judgement, Standing, error_name, judge
from csmb.messages import Ack, AuthChallenge, AuthResponse, Hello, Message
from csmb.settings import ConnectionSettings
from csmb.stream import Inbound, Outbound
from csmb.transitions import TABLE, Input, State

# Negotiation and authentication take fewer; whoever needs more is not about to prove anything
MESSAGES_BEFORE_READY_MAX: Final = 64
NONCE_SIZE: Final = 32


class Connection:
    """One end of a CSMB connection."""

    def __init__(
        self,
        role: Role,
        settings: ConnectionSettings,
        *,
        random_octets: Callable[[int], bytes],
        now: float,
    ) -> None:
        lowest, highest = (1, CS_ID_MAX) if role is Role.CS else (DFS_ID_MIN, SEGMENT_ID_MAX)
        if not lowest <= settings.segment_id <= highest:
            raise ValueError(
                f"segment_id {settings.segment_id}: a {role.name}'s is {lowest} to {highest}"
            )
        self.role: Final = role
        self.settings: Final = settings
        self.dropped: Final[Counter[str]] = Counter()  # messages without effect, by reason
        offer = versions.highest(settings.csmb_versions), versions.highest(settings.ssmb_versions)
        self._standing = Standing(role, settings, State.HELLO_WAIT, offer)
        self._random_octets = random_octets
        self._inbound = Inbound()
        self._outbound = Outbound()
        self._events: deque[Event] = deque()
        self._active = settings.active
        self._role_epoch = settings.role_epoch
        self._now = now
        self._heard_at = now
        self._wait_until = now + AUTH_WAIT_S  # for the peer's next part, until READY
        self._hello_due_at = now
        if role is Role.CS:
            self._send_hello(offer)

    # --- what the owner calls ---

    @property
    def state(self) -> State:
        """Where the connection stands."""
        return self._standing.state

    @property
    def is_ready(self) -> bool:
        """Whether `send` is allowed."""
        return self.state is State.READY

    @property
    def is_closed(self) -> bool:
        """Whether nothing will come of it any more."""
        return self.state is State.CLOSED

    def receive_data(self, octets: bytes, now: float) -> None:
        """Take what the stream gave; b"" is its end."""
        self._now = now
        if self.is_closed:
            return
        if not octets:
            where = " within a message" if self._inbound.is_within_message else ""
            self._step(Judgement(Input.EOF, f"the peer closed the stream{where}"))
            return
        self._inbound.feed(octets)
        while not self.is_closed and self._take_message():
            pass  # ends: each turn takes a message's octets out of the buffer

    def data_to_send(self) -> bytes:
        """Return what is to be written to the stream, once."""
        return self._outbound.take()

    def next_event(self) -> Event | None:
        """Return the oldest event that was not returned yet."""
        return self._events.popleft() if self._events else None

    def get_timer(self) -> float | None:
        """When `handle_timer` wants to be called; None: never again."""
        if self.is_closed:
            return None
        if self._keeps_alive:
            return min(self._deadline, self._hello_due_at)
        return self._deadline

    def handle_timer(self, now: float) -> None:
        """Do what is due; too early or twice does no harm."""
        self._now = now
        if self.is_closed:
            return
        if now >= self._deadline:
            ready = f"nothing heard for {now - self._heard_at:.1f} s"
            waiting = f"still in {self.state.name} after {AUTH_WAIT_S} s"
            self._step(Judgement(Input.DEADLINE, ready if self.is_ready else waiting))
        elif self._keeps_alive and now >= self._hello_due_at:
            self._step(Judgement(Input.HELLO_DUE))

    def send(self, message: Message, now: float) -> tuple[int, int]:
        """Send a message of the owner's; return (serial_global, serial_bytype), as ACK names them.

        Raises NotReady before Ready and after Closed, EncodeError if a value does not fit; then
        nothing was sent.
        """
        self._now = now
        kind = TYPE_OF[message.__class__]
        may_send = CS_SENDS if self.role is Role.CS else DFS_SENDS
        if kind not in may_send or kind not in OWNERS_TYPES | {MessageType.ACK}:
            raise LocalProtocolError(
                f"{kind.name} is not for the owner of a {self.role.name} to send"
            )
        if not self.is_ready:
            raise NotReady(f"{kind.name} cannot be sent in {self.state.name}")
        return self._put(message)

    def announce(self, active: bool, role_epoch: int, now: float) -> None:
        """Change our role: said at once if READY, else as soon as we are."""
        if not 0 <= role_epoch <= ROLE_EPOCH_MAX:
            raise LocalProtocolError(f"role_epoch {role_epoch} does not fit its field")
        self._now = now
        self._active, self._role_epoch = active, role_epoch
        if self.is_ready:
            self._do_keep_alive(Judgement(Input.HELLO_DUE))

    def close(self, reason: str) -> None:
        """End the connection from our side; a Closed event follows."""
        if not self.is_closed:
            self._step(Judgement(Input.CLOSE, reason))

    # --- from octets to the table ---

    def _take_message(self) -> bool:
        """Handle the next message; False if none is complete."""
        try:
            frame = self._inbound.next_frame()
        except BrokenStream as error:
            code = ErrorCode.AUTHFAIL if isinstance(error, BadSeal) else ErrorCode.BADMSG
            self._step(Judgement(Input.BROKEN, str(error), code))
            return False
        if frame is None:
            return False
        if not self.is_ready and self._inbound.count > MESSAGES_BEFORE_READY_MAX:
            reason = f"{self._inbound.count} messages, and no authentication"
            self._step(Judgement(Input.BROKEN, reason, ErrorCode.NOTAUTH))
            return False
        self._heard_at = self._now
        self._step(judge(self._standing, frame))
        return True

    def _step(self, judgement: Judgement) -> None:
        before = self.state
        next_state, action = TABLE[self.role][before][judgement.input]
        getattr(self, f"_do_{action}")(judgement)
        self._standing = self._standing._replace(state=next_state)
        if next_state is State.AUTH_WAIT and before is State.HELLO_WAIT:
            self._wait_until = self._now + AUTH_WAIT_S

    # --- actions: HELLO ---

    def _do_offer(self, judgement: Judgement) -> None:
        """A CS's next lower offer."""
        assert judgement.versions is not None
        self._standing = self._standing._replace(offer=judgement.versions)
        self._send_hello(judgement.versions)

    def _do_challenge(self, judgement: Judgement) -> None:
        """A CS agrees, and asks for proof."""
        self._agree(judgement)
        size = 4 + CHALLENGE_SIZE
        octets = bytes(size) if self.settings.laboratory else self._random_octets(size)
        challenge = AuthChallenge(
            challenge_id=int.from_bytes(octets[:4], "big"), auth_data=octets[4:]
        )
        exchange = self._standing.exchange_for(challenge)
        self._standing = self._standing._replace(exchange=exchange)
        self._put(exchange.challenge_message())

    def _do_agree(self, judgement: Judgement) -> None:
        """A DFS agrees."""
        self._agree(judgement)
        self._do_answer(judgement)

    def _do_answer_hello(self, judgement: Judgement) -> None:
        self._do_note_hello(judgement)
        self._do_answer(judgement)

    def _do_answer_and_fail(self, judgement: Judgement) -> None:
        self._do_answer(judgement)
        self._do_fail(judgement)

    def _do_answer(self, judgement: Judgement) -> None:
        """A DFS's HELLO to a CS's."""
        assert isinstance(judgement.message, Hello)
        pair = judgement.versions or self._standing.agreed or self._standing.offer
        self._send_hello(pair, judgement.error_code, judgement.message)

    def _do_note_hello(self, judgement: Judgement) -> None:
        assert isinstance(judgement.message, Hello)
        self._standing = self._standing._replace(peer=judgement.message)
        self._events.append(HelloReceived(judgement.message))

    def _do_keep_alive(self, _: Judgement) -> None:
        assert self._standing.agreed is not None
        self._hello_due_at = self._now + self.settings.hello_interval_s
        self._send_hello(self._standing.agreed, echo=self._standing.peer)

    def _agree(self, judgement: Judgement) -> None:
        self._standing = self._standing._replace(agreed=judgement.versions)
        self._do_note_hello(judgement)

    # --- actions: authentication ---

    def _do_respond(self, judgement: Judgement) -> None:
        """A DFS proves itself."""
        assert isinstance(judgement.message, AuthChallenge)
        size = NONCE_SIZE
        nonce = bytes(size) if self.settings.laboratory else self._random_octets(size)
        exchange = self._standing.exchange_for(judgement.message, nonce)
        self._standing = self._standing._replace(exchange=exchange)
        self._put(exchange.response_message())
        keys = exchange.stream_keys()
        if keys is not None:
            self._outbound.seal_with(keys.d2c)

    def _do_admit(self, judgement: Judgement) -> None:
        """The DFS has proved itself; so does the CS."""
        exchange = self._standing.exchange
        assert isinstance(judgement.message, AuthResponse)
        assert exchange is not None
        exchange = exchange.answered(judgement.message.auth_nonce)
        self._standing = self._standing._replace(exchange=exchange)
        self._put(exchange.result_message())
        keys = exchange.stream_keys()
        if keys is not None:
            self._outbound.seal_with(keys.c2d)
            self._inbound.expect_seals(keys.d2c)
        self._become_ready()
        self._do_keep_alive(judgement)

    def _do_reject(self, judgement: Judgement) -> None:
        """The DFS has not proved itself."""
        assert self._standing.exchange is not None
        self._put(self._standing.exchange.rejection_message())
        self._do_fail(judgement)

    def _do_be_admitted(self, _: Judgement) -> None:
        """The CS has proved itself to the DFS."""
        assert self._standing.exchange is not None
        keys = self._standing.exchange.stream_keys()
        if keys is not None:
            self._inbound.expect_seals(keys.c2d)
        self._become_ready()

    def _become_ready(self) -> None:
        _, _, _, _, agreed, peer, exchange = self._standing
        assert agreed is not None
        assert peer is not None
        assert exchange is not None
        self._events.append(Ready(peer, *agreed, exchange.ssmb_keys()))

    # --- actions: other messages, the end ---

    def _do_deliver(self, judgement: Judgement) -> None:
        assert judgement.message is not None
        assert judgement.frame is not None
        _, serial_global, serial_bytype, _ = judgement.frame
        self._events.append(MessageReceived(judgement.message, serial_global, serial_bytype))

    def _do_refuse(self, judgement: Judgement) -> None:
        """ACK that a message is not obeyed."""
        assert judgement.frame is not None
        kind, serial_global, serial_bytype, _ = judgement.frame
        self.dropped[error_name(judgement.error_code)] += 1
        self._put(Ack(0, judgement.error_code, kind, serial_global, serial_bytype))

    def _do_ignore(self, judgement: Judgement) -> None:
        self.dropped[judgement.input.name] += 1

    def _do_fail(self, judgement: Judgement) -> None:
        retry_after_s = judgement.retry_after_s if self.role is Role.CS else None
        self._inbound.drop()
        self._events.append(Closed(judgement.reason, judgement.error_code, retry_after_s))

    # --- helpers ---

    @property
    def _keeps_alive(self) -> bool:
        return self.is_ready and self.role is Role.CS

    @property
    def _hello_interval_s(self) -> int:
        """The CS's counts; a CS that says none gets the default."""
        if self.role is Role.CS:
            return self.settings.hello_interval_s
        peer = self._standing.peer
        return (peer.hello_interval if peer else 0) or HELLO_INTERVAL_S

    @property
    def _deadline(self) -> float:
        if self.is_ready:
            return self._heard_at + DEAD_INTERVALS * self._hello_interval_s
        return self._wait_until

    def _send_hello(
        self, pair: versions.Pair, error_code: int = ErrorCode.OK, echo: Hello | None = None
    ) -> None:
        """Say HELLO; a DFS echoes what a CS decides, hello_interval and group_id."""
        hello = self.settings.hello(
            pair, error_code=error_code, active=self._active, role_epoch=self._role_epoch
        )
        if self.role is Role.DFS and echo is not None:
            hello = hello._replace(hello_interval=echo.hello_interval, group_id=echo.group_id)
        self._put(hello)

    def _put(self, message: Message) -> tuple[int, int]:
        return self._outbound.put(message, self._standing.codec_version)
