# SPDX-License-Identifier: Apache-2.0
"""The driver's thread: sessions with the switch, one after the other, on an asyncio loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from finsy.proto import p4r

from data_flow_segment.targets.contract import TargetError, Waiting
from data_flow_segment.targets.p4runtime.constants import FENCE_INDEX, Reason
from data_flow_segment.targets.p4runtime.constants import (
    Operation as Wish,
)
from data_flow_segment.targets.p4runtime.failures import (
    NoP4Runtime,
    NotPrimary,
    SwitchLost,
    where,
)
from data_flow_segment.targets.p4runtime.inbox import Inbox
from data_flow_segment.targets.p4runtime.operations import (
    LOST,
    Connected,
    Demoted,
    Fence,
    FenceDone,
    IdleTimeout,
    Lost,
    Operation,
    PacketRefused,
    PacketUp,
    Read,
    ReadDone,
    Result,
    Send,
    UpdateError,
    Write,
    WriteDone,
)
from data_flow_segment.targets.p4runtime.options import P4RuntimeOptions
from data_flow_segment.targets.p4runtime.packets import packet_out
from data_flow_segment.targets.p4runtime.program import Program, split
from data_flow_segment.targets.p4runtime.session import Session
from data_flow_segment.targets.p4runtime.waiting import Patience

RETRY_FIRST_S: Final = 0.2
RETRY_LAST_S: Final = 2.0

STANDBY_S: Final = 3.0
"""How long a standby, or an agent that has only known the switch away, leaves a switch that is back
to the agent that was primary, which tries at least every RETRY_LAST_S and knows what it held."""

PULSE_S: Final = 2.0
"""How often the switch is asked whether it lives.  HTTP/2's own pings would be cheaper, but a gRPC
server ends a quiet connection that sends more than two in five minutes."""

FENCE_S: Final = 1.0
FENCE_TRIES: Final = 2

CLOSE_S: Final = 1.0
"""For the operations that were submitted before `close`."""

FORGET_S: Final = 10.0
"""For a program that is to start over at the end."""

_REASON_ID: Final = 1  # the first field of packet_in
_INDEX: Final = slice(0, 4)  # of what comes up with a report (packets.py)
_FRAME_AT: Final = 70  # behind it: the frame that the question had
_NUMBER_SIZE: Final = 6
_LOG: Final = logging.getLogger("splitplane.dfs")


class Line:
    """The driver's thread: sessions, one after the other.

    `submit`, `check` and `close` are called by the agent's thread, everything else by this one.
    """

    def __init__(self, options: P4RuntimeOptions, program: Program, inbox: Inbox) -> None:
        self._options, self._program, self._inbox = options, program, inbox
        self.news: queue.SimpleQueue[Connected | Waiting | BaseException] = queue.SimpleQueue()
        self._loop = asyncio.new_event_loop()
        self._failed: TargetError | None = None
        self._main: asyncio.Task[None] | None = None
        self._closing = False
        self._forgets = False
        self._boot_id: int | None = None  # of the tables that the agent knows
        # of operations
        self._submitted: deque[tuple[int, Operation]] = deque()
        self._woken = False
        self._work = asyncio.Event()
        self._current: Operation | None = None
        self._epoch = 0
        self._cookie: int | None = None  # while primary, with the program in place
        # of the connection
        self._opened = False
        self._patience = Patience()  # until it is opened
        self._gives_way = False  # to another agent, which may know what the switch held
        self._reported = ""
        self._fenced: set[bytes] = set()
        self._fences = 0  # ever
        self._answered: tuple[bytes, asyncio.Future[None]] | None = None

    # --- called by the agent's thread ------------------------------------------------------------

    def submit(self, epoch: int, operations: Sequence[Operation]) -> None:
        self._submitted.extend((epoch, operation) for operation in operations)
        if not self._woken:
            self._woken = True
            self._call(self._accept)

    def check(self) -> None:
        if self._failed is not None:
            raise self._failed

    def close(self, *, forget: bool) -> None:
        self._forgets = forget
        self._call(self._begin_close)

    def _call(self, function: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the thread has ended, and its loop is closed
            self._loop.call_soon_threadsafe(function)

    # --- the thread ------------------------------------------------------------------------------

    def run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.set_exception_handler(_unless_of_another_loop)
        self._main = self._loop.create_task(self._keep_connected())
        try:
            self._loop.run_until_complete(self._main)
        except asyncio.CancelledError:
            pass
        except BaseException as error:
            self._fail(error)
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    def _fail(self, error: BaseException) -> None:
        """A bug in the driver: the agent learns of it in `check`, and ends."""
        _LOG.debug("the driver's thread", exc_info=error)
        self._failed = TargetError(
            f"{where(self._options)}: the driver's thread failed, which is a bug in splitplane:"
            f" {type(error).__name__}: {error}"
        )
        self._failed.__cause__ = error
        self.news.put(self._failed)
        self._inbox.put(Lost(str(self._failed)))

    def _is_closing(self) -> bool:
        return self._closing

    def _begin_close(self) -> None:
        self._closing = True
        assert self._main is not None
        if self._cookie is None:
            self._main.cancel()
        else:
            self._work.set()
            limit = FORGET_S if self._forgets else CLOSE_S
            self._loop.call_later(limit, self._main.cancel)

    async def _keep_connected(self) -> None:
        pause = RETRY_FIRST_S
        while not self._is_closing():
            epoch = self._epoch
            try:
                await self._live()
            except TargetError as error:
                if self._is_closing():
                    return
                if not (self._opened or self._can_wait(error)):
                    return
                self._lose(error)
            pause = RETRY_FIRST_S if epoch != self._epoch else min(2 * pause, RETRY_LAST_S)
            await asyncio.sleep(pause)

    def _can_wait(self, error: TargetError) -> bool:
        """Whether the agent, which has not had the switch yet, may get it by waiting."""
        said = self._patience.hear(error, self._loop.time())
        if said is not None:
            self.news.put(said)
        if isinstance(error, SwitchLost) and not isinstance(error, NotPrimary):
            self._gives_way = True
        return not isinstance(said, TargetError)

    async def _live(self) -> None:
        """One session, until its end, which is always an exception."""
        ended: list[BaseException] = []
        try:
            async with Session.open(self._options, self._program) as session:
                await session.knock()
                if self._gives_way:
                    await asyncio.sleep(STANDBY_S)
                update = await session.arbitrate()
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._feel_pulse(session))
                    await self._listen(session, group, update)
        except BaseExceptionGroup as failures:
            ended.append(_what_ended(failures))
        finally:
            self._cookie = None
        raise ended.pop()

    async def _listen(
        self, session: Session, group: asyncio.TaskGroup, update: p4r.MasterArbitrationUpdate
    ) -> None:
        lead: asyncio.Task[None] | None = None
        while True:
            if not session.leads(update):
                if lead is not None:
                    lead.cancel()
                    lead = None
                self._stand_by(session.standing_by(update))
            elif lead is None:
                lead = group.create_task(self._lead(session))
            while True:
                message = await session.receive()
                if message.HasField("packet"):
                    self._packet_up(message.packet)
                elif message.HasField("idle_timeout_notification"):
                    entries = message.idle_timeout_notification.table_entry
                    self._inbox.put(IdleTimeout(tuple(entries)))
                elif message.HasField("error"):
                    self._inbox.put(PacketRefused(message.error.message))
                elif message.HasField("arbitration"):
                    update = message.arbitration
                    break

    async def _feel_pulse(self, session: Session) -> None:
        while True:
            await asyncio.sleep(PULSE_S)
            cookie = await session.cookie()
            if self._cookie not in (None, cookie):
                raise SwitchLost(f"{where(self._options)}: the switch's program was replaced")

    def _packet_up(self, packet: p4r.PacketIn) -> None:
        if self._fenced and packet.payload[_INDEX] in self._fenced and _is_report(packet):
            self._fence_answered(packet.payload[_FRAME_AT:])
        else:
            self._inbox.put(PacketUp(packet))

    def _fence_answered(self, frame: bytes) -> None:
        """Perhaps too late: its time may be over in this very turn of the loop, or the answer is an
        earlier fence's, which asked twice."""
        if self._answered is not None:
            number, answer = self._answered
            if frame.startswith(number) and not answer.done():
                answer.set_result(None)

    # --- what becomes of the connection ----------------------------------------------------------

    def _lose(self, error: TargetError) -> None:
        reason = str(error)
        if isinstance(error, NoP4Runtime):  # a switch is there, but starting or ending
            reason = (
                f"{where(self._options)}: it is not ready for P4Runtime: it is starting or ending"
            )
        self._drop(reason)
        if self._opened and reason != self._reported:
            self._reported = reason
            self._inbox.put(Lost(reason))

    def _stand_by(self, reason: str) -> None:
        self._gives_way = True
        self._cookie = None
        self._drop(reason)
        if not self._opened:
            if (said := self._patience.stand_by(reason)) is not None:
                self.news.put(said)
        elif reason != self._reported:
            self._reported = reason
            self._inbox.put(Demoted(reason))

    # --- operations ------------------------------------------------------------------------------

    async def _lead(self, session: Session) -> None:
        # a switch that restarted is filled again with what the agent knows: the same tables
        known = self._boot_id
        connected = await session.prepare(known or _new_boot_id(), refills=known is not None)
        await self._require_answers(session)
        self._boot_id = split(connected.cookie).boot_id
        self._epoch += 1
        self._gives_way = False
        self._cookie, self._reported = connected.cookie, ""
        self._fenced.clear()
        self._inbox.put(connected)
        if not self._opened:
            self._opened = True
            self.news.put(connected)
        while True:
            self._work.clear()
            while self._submitted:
                epoch, operation = self._submitted.popleft()
                if epoch != self._epoch:
                    self._refuse(operation, "the connection was lost before that")
                    continue
                self._current = operation
                result = await self._carry_out(session, operation)
                self._current = None
                if result is not None:
                    self._inbox.put(result)
            if self._closing:
                if self._forgets:
                    await session.forget(_new_boot_id())
                await session.finish()
            await self._work.wait()

    async def _require_answers(self, session: Session) -> None:
        """A switch that is given another port for its agent than the program has accepts every
        entry, drops what is for the agent and says nothing.  It may be started anew, correctly."""
        question = packet_out(Wish.REPORT, value=FENCE_INDEX)
        if not await self._fence(session, question, FENCE_INDEX):
            port = self._program.agent_port
            remedy = (
                f"start simple_switch_grpc with --cpu-port {port}"
                if self._options.program is None
                else "correct p4runtime.program.agent_port, or the switch's or program's port"
            )
            raise SwitchLost(
                f"{where(self._options)}: what the program sends to the agent does not come up: the"
                f" agent's port has to be {port}: {remedy}"
            )

    def _accept(self) -> None:
        self._woken = False
        if self._cookie is not None:
            self._work.set()
        else:
            self._drop("there is no connection")

    async def _carry_out(self, session: Session, operation: Operation) -> Result | None:
        match operation:
            case Send(packet):
                await session.send(packet)
                return None
            case Write(updates, token):
                return WriteDone(token, await session.write(updates))
            case Read(entities, token):
                found = await session.read(entities)
                if isinstance(found, str):
                    return ReadDone(token, (), found)
                return ReadDone(token, found, None)
            case Fence(packet, index):
                return FenceDone(index, await self._fence(session, packet, index))

    async def _fence(self, session: Session, packet: p4r.PacketOut, index: int) -> bool:
        """The frame of the query comes up with the answer: it begins with the fence's number."""
        self._fenced.add(index.to_bytes(4, "big"))
        self._fences += 1
        number = self._fences.to_bytes(_NUMBER_SIZE, "big")
        numbered = p4r.PacketOut()
        numbered.CopyFrom(packet)
        numbered.payload = number + packet.payload[_NUMBER_SIZE:]
        try:
            for _ in range(FENCE_TRIES):
                answer = self._loop.create_future()
                self._answered = number, answer
                await session.send(numbered)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(FENCE_S):
                        await answer
                    return True
            return False
        finally:
            self._answered = None

    def _drop(self, reason: str) -> None:
        """Neither the operation under way nor those behind it are carried out."""
        if self._current is not None:
            self._refuse(self._current, reason)
            self._current = None
        while self._submitted:
            self._refuse(self._submitted.popleft()[1], reason)

    def _refuse(self, operation: Operation, reason: str) -> None:
        match operation:
            case Write(updates, token):
                error = UpdateError(LOST, reason)
                self._inbox.put(WriteDone(token, dict.fromkeys(range(len(updates)), error)))
            case Read(_, token):
                self._inbox.put(ReadDone(token, (), f"{LOST} {reason}"))
            case Fence(_, index):
                self._inbox.put(FenceDone(index, False))
            case Send():
                pass


def _unless_of_another_loop(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    """gRPC has one queue for all loops of a process, and each loop looks into it: what an earlier
    driver's calls ended with may come when that one's loop is closed, or another was quicker."""
    is_grpc = "PollerCompletionQueue" in repr(context.get("handle"))
    if not (is_grpc and isinstance(context.get("exception"), RuntimeError | BlockingIOError)):
        loop.default_exception_handler(context)


def _new_boot_id() -> int:
    return secrets.randbelow(0xFFFFFFFF) + 1


def _what_ended(failures: BaseExceptionGroup) -> BaseException:
    """What is told of a session's end; all of it if a mistake is among it.

    An exception that is held by a frame which it came through, as TaskGroup does, or by one whose
    context it is, stays until garbage is collected, and with it the session's connection.
    """
    told, mistakes = failures.split(TargetError)
    if told is None or mistakes is not None:
        return failures
    failures.__traceback__ = told.__traceback__ = None
    return _first(told)


def _first(group: BaseExceptionGroup[TargetError]) -> TargetError:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


def _is_report(packet: p4r.PacketIn) -> bool:
    reason = bytes((Reason.REPORT,))
    return any(m.metadata_id == _REASON_ID and m.value == reason for m in packet.metadata)
