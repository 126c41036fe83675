# SPDX-License-Identifier: Apache-2.0
"""The CSMB connections: which CSs there are, which is active, what is configured (wire protocol
7.7, 11).

Drives one `csmb.connection.Connection` per TCP connection and notifies the agent, by the callbacks
of `Listener`, what that means for flows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from admin.log_lines import line
from admin.quiet_log import QuietLog
from csmb.codec import TYPE_OF
from csmb.connection import Connection
from csmb.constants import ACKNOWLEDGED, ErrorCode, Role
from csmb.events import Closed, HelloReceived, MessageReceived, Ready
from csmb.messages import Ack, Hello
from csmb.probes import Verdict
from csmb.settings import ConnectionSettings
from data_flow_segment.outbox import Outbox
from data_flow_segment.peers.accepted import Accepted
from data_flow_segment.peers.admission import Admission
from data_flow_segment.peers.attendance import Attendance
from data_flow_segment.peers.claims import Claims
from data_flow_segment.peers.configuration import Configuration
from data_flow_segment.peers.epochs import RoleEpochs
from data_flow_segment.peers.fence import Fence
from data_flow_segment.peers.groups import Listener, Peers
from data_flow_segment.peers.role_news import RoleNews
from data_flow_segment.targets.contract import TargetError

_CLOSED = "connection to an unauthenticated CS closed"
_REFUSED = "connection refused: no place for one more that is not authenticated"


class Connections:
    """All CSMB connections of this DFS."""

    def __init__(
        self,
        settings: ConnectionSettings,
        outbox: Outbox,
        peers: Peers,
        epochs: RoleEpochs,
        configuration: Configuration,
        listener: Listener,
        random_octets: Callable[[int], bytes],
    ) -> None:
        """`settings` come without the hooks, which are set here."""
        self._settings = replace(
            settings,
            accept_hello=self._accept,
            group_ssmb_version=peers.group_version,
            group_role=peers.role_after,
        )
        self._outbox = outbox
        self._peers = peers
        self._epochs = epochs
        self._configuration = configuration
        self._listener = listener
        self._attendance = Attendance(outbox, peers, configuration, listener, self._say)
        self._random_octets = random_octets
        self._accepted: dict[int, Accepted] = {}
        self._claims = Claims(self._accepted)
        self._acting: int | None = None  # the connection whose octets are being looked at
        self._now = 0.0
        self._last_id = 0
        self._role_news = RoleNews(peers)
        self._touched: set[int] = set()  # may have something to send
        self._timer: float | None = None
        self._timer_is_stale = False
        self._admission = Admission(settings.key)
        self._quiet = QuietLog()
        self._fence = Fence(peers, epochs, outbox.counters, self._quiet.add)
        self._log: list[str] = []

    # --- from the runtime ------------------------------------------------------------------

    def connection_made(self, now: float, address: str = "::", first: bytes = b"") -> int | None:
        """A CS connected: the number of its connection; None if it must be closed at once.

        `address` is the other end's as text, `::` if it is not known; `first`: the octets that have
        come already, which `receive` gets too.
        """
        self._outbox.is_steady = False
        self._last_id += 1
        has_place, yields = self._admission.enter(self._last_id, address, first, now)
        if not has_place:
            self._outbox.counters["csmb_auth_failures"] += 1
            self._quiet.add(_REFUSED, f"{_REFUSED} ({address})", now)
            return None
        connection = Connection(
            Role.DFS, self._settings, random_octets=self._random_octets, now=now
        )
        self._accepted[self._last_id] = Accepted(connection, address)
        self._touch(self._last_id)
        self._outbox.counters["csmb_connections"] += 1
        self._yield_place(yields, now)
        return self._last_id

    def _yield_place(self, connection_id: int | None, now: float) -> None:
        accepted = None if connection_id is None else self._accepted.get(connection_id)
        if accepted is not None and connection_id is not None:
            accepted.connection.close("not authenticated, and another connection took its place")
            self._handle_events(connection_id, accepted, now)

    def receive(self, connection_id: int, octets: bytes, now: float) -> None:
        """Octets of a connection; b"" is its end."""
        self._outbox.is_steady = False
        accepted = self._accepted.get(connection_id)
        if accepted is not None:
            self._yield_place(self._admission.spoke(connection_id, octets, now), now)
            self._guarded(connection_id, accepted, lambda each: each.receive_data(octets, now), now)
            self._settle_claims(now)
            self._tell_roles(now)

    def octets_to_send(self, connection_id: int) -> tuple[bytes, bool]:
        """What to write to a connection now, and whether to close it behind that."""
        accepted = self._accepted.get(connection_id)
        if accepted is None:
            return b"", True
        octets, closed = accepted.connection.data_to_send(), accepted.connection.is_closed
        if closed:
            del self._accepted[connection_id]
        return octets, closed

    def take_touched(self) -> list[int]:
        """The connections that may have something to send since the last call."""
        touched = list(self._touched)
        self._touched.clear()
        return touched

    def take_log(self) -> list[str]:
        """Sentences for the operator since the last call."""
        log, self._log = self._log + self._quiet.take(), []
        return log

    def _say(self, sentence: str) -> None:
        self._log.append(sentence)

    def get_timer(self) -> float | None:
        """When `handle_timer` wants to be called; asked in each wake-up, so it is kept."""
        if self._configuration.is_busy:
            return 0.0
        if self._timer_is_stale:
            self._timer_is_stale = False
            timers = [each.connection.get_timer() for each in self._accepted.values()]
            timers += [each.get_timer() for each in (self._quiet, self._claims, self._epochs)]
            self._timer = min((timer for timer in timers if timer is not None), default=None)
        return self._timer

    def handle_timer(self, now: float) -> None:
        self._obey(now)
        self._quiet.handle_timer(now)
        self._epochs.handle_timer(now)
        self._timer_is_stale = True
        for connection_id, accepted in tuple(self._accepted.items()):
            timer = accepted.connection.get_timer()
            if timer is not None and timer <= now:
                self._guarded(connection_id, accepted, lambda each: each.handle_timer(now), now)
        self._settle_claims(now)
        self._tell_roles(now)

    def close(self, reason: str, now: float) -> None:
        """This DFS goes down."""
        self._outbox.is_steady = False
        for connection_id, accepted in tuple(self._accepted.items()):
            self._guarded(connection_id, accepted, lambda each: each.close(reason), now)

    # --- the hooks -------------------------------------------------------------------------

    def _accept(self, hello: Hello) -> int | None:
        """Judge a HELLO; an unsealed one proves nothing, and causes no more than a probe."""
        acting, claims = self._acting, self._claims
        is_proved = acting is not None and self._accepted[acting].connection.is_ready
        if acting is None or not is_proved:
            self._touched.update(claims.ask(claims.before(hello, acting), self._now))
        else:
            verdict, asked = claims.judge(acting, hello, self._now)
            self._touched.update(asked)
            if verdict is Verdict.OPEN:  # it has proved itself, and waits
                self._admission.proved(acting, self._accepted[acting].address)
                return None
            if verdict is Verdict.ALIVE:
                self._outbox.counters["cs_duplicate_id"] += 1
                return ErrorCode.DUPID
        code = self._fence.answer(hello, acting if is_proved else None, self._now)
        if code is None and acting is not None:
            self._admission.proved(acting, self._accepted[acting].address)
        return code

    # --- events of a connection ------------------------------------------------------------

    def _guarded(
        self,
        connection_id: int,
        accepted: Accepted,
        act: Callable[[Connection], None],
        now: float,
    ) -> None:
        """Do something to a connection; a mistake of this program ends that one and no other."""
        self._acting, self._now = connection_id, now
        try:
            act(accepted.connection)
            self._handle_events(connection_id, accepted, now)
        except TargetError:
            raise
        except Exception as error:
            self._fail(connection_id, accepted, error, now)
        finally:
            self._acting, self._now = None, 0.0

    def _fail(self, connection_id: int, accepted: Accepted, error: Exception, now: float) -> None:
        self._outbox.faults.note(f"serving {accepted.who}", error)
        accepted.connection.close("internal error, see the log")
        while (event := accepted.connection.next_event()) is not None:
            if isinstance(event, Closed):
                self._closed(connection_id, accepted, event, now)
        self._touch(connection_id)

    def _touch(self, connection_id: int) -> None:
        self._touched.add(connection_id)
        self._timer_is_stale = True

    def _handle_events(self, connection_id: int, accepted: Accepted, now: float) -> None:
        while (event := accepted.connection.next_event()) is not None:
            if isinstance(event, Ready):
                accepted.ready = event
            elif isinstance(event, HelloReceived):
                self._hello(connection_id, accepted, event.hello, now)
            elif isinstance(event, MessageReceived):
                self._message(connection_id, accepted, event, now)
            else:
                self._closed(connection_id, accepted, event, now)
        self._obey(now)
        self._touch(connection_id)

    def _hello(self, connection_id: int, accepted: Accepted, hello: Hello, now: float) -> None:
        """Nothing that a CS says of itself counts before it has said it under the seal."""
        if accepted.ready is None:
            return
        for other_id in self._claims.before(hello, connection_id):
            other = self._accepted[other_id]
            other.connection.close("this CS was started again", ErrorCode.DUPID)
            self._handle_events(other_id, other, now)
        if accepted.peer is not None:
            self._attendance.said_again(accepted.peer, hello, now)
        else:
            self._admission.proved(connection_id, accepted.address)
            self._attendance.came(connection_id, accepted, hello, now)

    def _settle_claims(self, now: float) -> None:
        """Answer the CSs that had to wait for others to be gone (`claims`), or for the disk."""
        for connection_id in (*self._claims.decided(now), *self._epochs.released()):
            accepted = self._accepted[connection_id]
            self._guarded(connection_id, accepted, lambda each: each.answer_held_hello(now), now)

    def _tell_roles(self, now: float) -> None:
        for connection_id, role, code in self._role_news.take(self._accepted):
            say = partial(Connection.role_changed, role=role, error_code=code, now=now)
            self._guarded(connection_id, self._accepted[connection_id], say, now)

    def _message(
        self, connection_id: int, accepted: Accepted, event: MessageReceived, now: float
    ) -> None:
        if accepted.peer is not None:
            if accepted.peer.is_active:
                self._listener.spoke_as_active(accepted.peer, now)
            self._configuration.take(connection_id, accepted.peer, event)
        elif (kind := TYPE_OF[event.message.__class__]) in ACKNOWLEDGED and (
            accepted.connection.is_ready
        ):
            ack = Ack(0, ErrorCode.NOTAUTH, kind, event.serial_global, event.serial_bytype)
            accepted.connection.send(ack, now)

    def _obey(self, now: float) -> None:
        """Configure a bounded number of virtual servers, and acknowledge the messages obeyed."""
        for connection_id, event, code, error in self._configuration.work():
            accepted = self._accepted.get(connection_id)
            if accepted is not None and error is not None:
                self._fail(connection_id, accepted, error, now)
            elif accepted is not None and accepted.connection.is_ready:
                kind = TYPE_OF[event.message.__class__]
                ack = Ack(0, code, kind, event.serial_global, event.serial_bytype)
                accepted.connection.send(ack, now)
                self._touch(connection_id)

    def _closed(self, connection_id: int, accepted: Accepted, event: Closed, now: float) -> None:
        self._configuration.forget(connection_id)
        counters = self._outbox.counters
        counters["csmb_closed" if accepted.was_ready else "csmb_auth_failures"] += 1
        text = f"connection to {accepted.who} closed: {event.reason}"
        who = {} if accepted.peer is None else {"peer": f"cs-{accepted.peer.hello.segment_id}"}
        self._admission.leave(connection_id)
        self._claims.forget(connection_id)
        self._epochs.forget(connection_id)
        if accepted.was_ready:
            self._say(line(text, **who))
        else:
            self._quiet.add(_CLOSED, text, now)
        self._attendance.left(connection_id, accepted, now)
