# SPDX-License-Identifier: Apache-2.0
"""One CSMB connection, without its socket: octets and time in, octets and events out.

    connection = Connection(Role.CS, settings, random_octets=secrets.token_bytes, now=now)
    connection.receive_data(octets, now)      # b"" when the peer has closed
    connection.handle_timer(now)              # at connection.get_timer()
    stream.write(connection.data_to_send())   # after every call
    while event := connection.next_event(): ...

The CS is the TCP client and speaks first; create the connection when TCP is connected.  What may
follow what is in `csmb.transitions`, what a message means in `csmb.judgements`, what is then done
in `csmb.actions`.  Nothing that the peer sends raises; the caller's mistakes do.

The first HELLOs are not sealed yet: a host on the path could have changed them.  Therefore the CS
sends its first keep-alive as soon as it is READY, and what counts comes again, sealed, both ways.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from csmb.actions import Actions
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
from csmb.events import Event
from csmb.judgements import OWNERS_TYPES, Judgement, judge, judge_held_hello
from csmb.messages import Message
from csmb.settings import ConnectionSettings, GroupRole
from csmb.transitions import TABLE, Input, State

# Negotiation and authentication take fewer; a peer that needs more will not prove anything
MESSAGES_BEFORE_READY_MAX: Final = 64


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
                f"segment_id {settings.segment_id}: a {role.name} must have {lowest} to {highest}"
            )
        self.role: Final = role
        self.settings = settings
        self._actions = Actions(role, settings, random_octets, now)
        self._heard_at = now
        self._wait_until = now + AUTH_WAIT_S  # for the peer's next part, until READY
        if role is Role.CS:
            self._actions.open()

    # --- what the owner calls ---

    @property
    def state(self) -> State:
        """Where the connection stands."""
        return self._actions.standing.state

    @property
    def is_ready(self) -> bool:
        """Whether `send` is allowed."""
        return self.state is State.READY

    @property
    def is_closed(self) -> bool:
        """Whether the connection has ended."""
        return self.state is State.CLOSED

    @property
    def dropped(self) -> Counter[str]:
        """How many messages had no effect, by reason."""
        return self._actions.dropped

    @property
    def messages_received(self) -> int:
        """How many messages the peer has sent."""
        return self._actions.inbound.count

    def receive_data(self, octets: bytes, now: float) -> None:
        """Take what the stream gave; b"" is its end."""
        self._actions.now = now
        inbound = self._actions.inbound
        if self.is_closed:
            return
        if not octets:
            where = " within a message" if inbound.is_within_message else ""
            self._step(Judgement(Input.EOF, f"the peer closed the stream{where}"))
            return
        inbound.feed(octets)
        while not self.is_closed and self._take_message():
            pass  # ends: each turn takes a message's octets out of the buffer

    def data_to_send(self) -> bytes:
        """Return what is to be written to the stream, once."""
        return self._actions.outbound.take()

    def next_event(self) -> Event | None:
        """Return the oldest event that was not returned yet."""
        return self._actions.events.popleft() if self._actions.events else None

    def get_timer(self) -> float | None:
        """When `handle_timer` wants to be called; None: never again."""
        if self.is_closed:
            return None
        if self._keeps_alive:
            return min(self._deadline, self._actions.hello_due_at)
        return self._deadline

    def handle_timer(self, now: float) -> None:
        """Do what is due; too early or twice does no harm."""
        self._actions.now = now
        if self.is_closed:
            return
        if now >= self._deadline:
            ready = f"no message received for {now - self._heard_at:.1f} s"
            waiting = f"still in {self.state.name} after {AUTH_WAIT_S} s"
            self._step(Judgement(Input.DEADLINE, ready if self.is_ready else waiting))
        elif self._keeps_alive and now >= self._actions.hello_due_at:
            self._step(Judgement(Input.HELLO_DUE))

    def send(self, message: Message, now: float) -> tuple[int, int]:
        """Send a message of the owner's; return (serial_global, serial_bytype), as ACK names them.

        Raises NotReady before Ready and after Closed, EncodeError if a value does not fit; then
        nothing was sent.
        """
        self._actions.now = now
        kind = TYPE_OF[message.__class__]
        may_send = CS_SENDS if self.role is Role.CS else DFS_SENDS
        if kind not in may_send or kind not in OWNERS_TYPES | {MessageType.ACK}:
            raise LocalProtocolError(
                f"{kind.name} is not for the owner of a {self.role.name} to send"
            )
        if not self.is_ready:
            raise NotReady(f"{kind.name} cannot be sent in {self.state.name}")
        return self._actions.put(message)

    def announce(self, active: bool, role_epoch: int, now: float) -> None:
        """Change this side's role: announced at once if READY, otherwise as soon as it is."""
        if not 0 <= role_epoch <= ROLE_EPOCH_MAX:
            raise LocalProtocolError(f"role_epoch {role_epoch} does not fit its field")
        self._actions.now = now
        self._actions.active, self._actions.role_epoch = active, role_epoch
        if self.is_ready:
            self._actions.keep_alive(Judgement(Input.HELLO_DUE))

    def role_changed(self, role: GroupRole, error_code: int, now: float) -> None:
        """A DFS says at once what is new about the peer's group (11.5), if its last HELLO said
        something else.  `error_code`: what the peer's last HELLO would be answered now."""
        self._actions.now = now
        if self.is_ready:
            self._step(Judgement(Input.ROLE_CHANGED, error_code=error_code, role=role))

    def change_hello_interval(self, hello_interval_s: int, now: float) -> None:
        """Send HELLO at another interval: of a CS, whose peer follows the next HELLO (7.7).

        Silence is measured from now on; by a shorter interval the connection would be dead already.
        """
        self.settings = replace(self.settings, hello_interval_s=hello_interval_s)
        self._actions.settings = self.settings
        self._actions.now = self._heard_at = now
        if self.is_ready:
            self._actions.keep_alive(Judgement(Input.HELLO_DUE))

    def probe(self, now: float) -> None:
        """Send what every peer answers at once, if it is READY (7.7, rule 12)."""
        self._actions.now = now
        if self.is_ready:
            self._actions.outbound.put_probe()

    def answer_held_hello(self, now: float) -> None:
        """A DFS's owner has decided about the HELLO that `accept_hello` held."""
        self._actions.now = now
        if self.is_ready:
            self._step(judge_held_hello(self._actions.standing))

    def close(self, reason: str, error_code: int = ErrorCode.OK) -> None:
        """End the connection from this side; a Closed event follows.

        An error that is named is said in a last HELLO.
        """
        if self.is_closed:
            return
        judgement = Judgement(Input.CLOSE, reason, error_code)
        if error_code and self.is_ready:
            self._actions.answer(judgement._replace(message=self._actions.standing.peer))
        self._step(judgement)

    # --- from octets to the table ---

    def _take_message(self) -> bool:
        """Handle the next message; False if none is complete."""
        inbound = self._actions.inbound
        try:
            frame = inbound.next_frame()
        except BrokenStream as error:
            code = ErrorCode.AUTHFAIL if isinstance(error, BadSeal) else ErrorCode.BADMSG
            self._step(Judgement(Input.BROKEN, str(error), code))
            return False
        if frame is None:
            return False
        if not self.is_ready and inbound.count > MESSAGES_BEFORE_READY_MAX:
            reason = f"{inbound.count} messages without authentication"
            self._step(Judgement(Input.BROKEN, reason, ErrorCode.NOTAUTH))
            return False
        self._heard_at = self._actions.now
        self._step(judge(self._actions.standing, frame))
        return True

    def _step(self, judgement: Judgement) -> None:
        actions, before = self._actions, self.state
        next_state, action = TABLE[self.role][before][judgement.input]
        getattr(actions, action)(judgement)
        actions.standing = actions.standing._replace(state=next_state)
        if next_state is State.AUTH_WAIT and before is State.HELLO_WAIT:
            self._wait_until = actions.now + AUTH_WAIT_S

    # --- time ---

    @property
    def _keeps_alive(self) -> bool:
        return self.is_ready and self.role is Role.CS

    @property
    def _hello_interval_s(self) -> int:
        """The CS's counts; a CS that says none gets the default."""
        if self.role is Role.CS:
            return self.settings.hello_interval_s
        peer = self._actions.standing.peer
        return (peer.hello_interval if peer else 0) or HELLO_INTERVAL_S

    @property
    def _deadline(self) -> float:
        if self.is_ready:
            return self._heard_at + DEAD_INTERVALS * self._hello_interval_s
        return self._wait_until
