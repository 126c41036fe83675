# SPDX-License-Identifier: Apache-2.0
"""All links of one API process: `api.segments.hub.Hub`.

Each link is served by a task of its own, so a segment that is slow keeps nobody else waiting.  The
database is asked in threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

from starlette.websockets import WebSocket, WebSocketDisconnect

from admin.answers import AnswerT, Command
from admin.faults import Faults
from admin.happened import Severity
from admin.link.messages import (
    CLOSE_REPLACED,
    CLOSE_REVOKED,
    CLOSE_WRONG,
    Answer,
    Applied,
    Event,
    LinkError,
    Refused,
    Welcome,
)
from api.access.roles import Caller
from api.desired.service import Desired
from api.errors import Problem
from api.events.service import Events, Happened
from api.segments import said as says
from api.segments.deliveries import Delivery
from api.segments.hub import Linked
from api.segments.link import SegmentLink, greeted
from api.segments.sending import Sending
from api.segments.threads import in_thread

GREETING_S: Final = 10.0
CLOSE_GOING: Final = 1001  # RFC 6455 7.4.1
CHECK_S: Final = 2.0  # how soon a revoked token ends its link
AGAIN_S: Final = 5.0  # after which what could not be sent is tried again
TOLD_EVERY_S: Final = 0.2  # subscribers of one segment, while its generations fly by
EVENTS_MAX: Final = 1000  # of one segment, that wait for the database

log = logging.getLogger("splitplane.api")


class Links:
    """The segments that are linked, or were."""

    def __init__(
        self, desired: Desired, events: Events, clock: Callable[[], float], release: str
    ) -> None:
        """*clock*: Unix time, s."""
        self._newest = desired.generation
        self._loop: asyncio.AbstractEventLoop | None = None  # that serves the links
        self._events = events
        self._clock = clock
        self._release = release
        self._sending = Sending(desired)
        self._links: dict[str, SegmentLink] = {}  # the latest of each name
        self._subscribers: list[Callable[[str, Any], None]] = []
        self._untold: dict[str, asyncio.TimerHandle] = {}
        self._faults = Faults(Counter())
        self._stopping = asyncio.Event()
        desired.subscribe(self._made)

    def stop(self) -> None:
        """End all links, and take no more; from the event loop."""
        self._stopping.set()
        for timer in self._untold.values():
            timer.cancel()
        self._untold.clear()

    def _made(self, generation: int) -> None:
        """There is a new generation; from whatever thread made it."""
        self._newest = max(self._newest, generation)
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        for link in self._links.values():
            link.news.set()

    # --- what endpoints ask --------------------------------------------------------------------

    def segments(self) -> Sequence[Linked]:
        """All that are linked or were, CSs first."""
        found = [self._describe(link) for link in self._links.values()]
        return sorted(found, key=lambda each: (each.identity.role, each.identity.segment_id))

    async def ask(self, segment: str, command: Command[AnswerT], **arguments: object) -> AnswerT:
        """Ask one; Problem 404, 409, 502, 503, 504."""
        link = self._links.get(segment)
        if link is None:
            known = ", ".join(sorted(self._links)) or "none"
            raise Problem(
                404, f"there is no segment {segment!r}; there are: {known}", kind="not-found"
            )
        if link.hello.identity.role not in command.roles:
            raise Problem(
                409, f"{segment} has no command {command.name}", kind="refused-by-segment"
            )
        return await link.ask(command, arguments)

    async def ask_all(
        self, command: Command[AnswerT], *, role: str | None = None, **arguments: object
    ) -> dict[str, AnswerT | Exception]:
        """Ask all that are connected and have the command."""
        asked = [
            link
            for name, link in sorted(self._links.items())
            if not link.is_closed
            and link.hello.identity.role in command.roles
            and role in (None, link.hello.identity.role)
        ]

        async def one(link: SegmentLink) -> AnswerT | Exception:
            try:
                return await link.ask(command, arguments)
            except Problem as problem:
                return problem

        answers = await asyncio.gather(*(one(link) for link in asked))
        return {link.name: answer for link, answer in zip(asked, answers, strict=True)}

    def subscribe(self, call: Callable[[str, Any], None]) -> Callable[[], None]:
        """*call* gets ("segment", Linked) and ("event", dict), in the event loop."""
        self._subscribers.append(call)

        def end() -> None:
            self._subscribers.remove(call)

        return end

    def _describe(self, link: SegmentLink) -> Linked:
        deliveries, newest = link.deliveries, self._newest
        status: Any = "none"
        if link.is_closed:
            status = "unconnected"
        elif link.is_cs and (newest or deliveries.running is not None):
            status = deliveries.state(newest).value
        return Linked(
            identity=link.hello.identity,
            group_id=link.hello.group_id,
            host=link.hello.host,
            address=link.address,
            since=link.at,
            connected=not link.is_closed,
            generation=deliveries.running,
            refused=deliveries.refused,
            problems=deliveries.problems,
            status=status,
        )

    # --- one link ------------------------------------------------------------------------------

    async def serve(
        self, websocket: WebSocket, caller: Caller, still_may: Callable[[], bool]
    ) -> None:
        """An accepted WebSocket, until it ends.  *still_may*: whether its token is good; it is
        called in a thread."""
        if self._stopping.is_set():
            await websocket.close(CLOSE_GOING, "the API is being stopped")
            return
        try:
            async with asyncio.timeout(GREETING_S):
                hello = await greeted(websocket, caller)
        except (LinkError, TimeoutError) as error:
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):
                await websocket.close(CLOSE_WRONG, str(error)[:100] or "no hello")
            return
        except WebSocketDisconnect:
            return
        self._loop = asyncio.get_running_loop()
        link = SegmentLink(websocket, hello, self._clock())
        try:
            await self._replace(link)
            await self._serve(link, still_may)
        except* WebSocketDisconnect:
            pass
        except* LinkError as errors:
            said = str(errors.exceptions[0])
            log.warning("%s: what it sent is not understood: %s", link.name, said)
            await link.close(CLOSE_WRONG, said[:100])
        except* Exception as errors:  # a mistake of this program: it costs this link
            self._note(f"serving the link of {link.name}", errors)
            await link.close(CLOSE_WRONG, "internal error")
        finally:
            link.ended()
            await self._lost(link)

    async def _replace(self, link: SegmentLink) -> None:
        older = self._links.get(link.name)
        self._links[link.name] = link
        if older is not None and not older.is_closed:
            await older.close(CLOSE_REPLACED, "a newer link has this segment's name")
        if link.is_cs:
            deliveries = link.deliveries
            running = deliveries.running
            if running is not None and not await in_thread(
                self._sending.is_of_this_database, running, deliveries.made_at
            ):
                deliveries.made_at = None

    async def _serve(self, link: SegmentLink, still_may: Callable[[], bool]) -> None:
        events: asyncio.Queue[Happened] = asyncio.Queue(EVENTS_MAX)
        await link.send(Welcome(release=self._release, generation=self._newest))
        what = (
            f"{link.name} is linked, from {link.hello.host} ({link.address}), release"
            f" {link.hello.identity.release}"
        )
        events.put_nowait(_happened(self._clock(), "info", "segment_linked", what, link))
        self._told(link)
        try:
            async with asyncio.TaskGroup() as tasks:  # which ends as soon as one of them fails
                tasks.create_task(self._receive(link, events))
                tasks.create_task(self._keep_events(events))
                tasks.create_task(self._check(link, still_may))
                if link.is_cs:
                    tasks.create_task(self._deliver(link))
        finally:
            while not events.empty():  # what it said last
                await self._keep(events.get_nowait())

    async def _receive(self, link: SegmentLink, events: asyncio.Queue[Happened]) -> None:
        while True:
            message, line = await link.receive()
            if isinstance(message, Answer):
                link.answered(message.id, line)
            elif isinstance(message, Event):
                await events.put(says.happened(message, link.name, self._clock()))
            elif isinstance(message, Applied | Refused) and link.is_cs:
                self._outcome(link, message, events)
            else:
                raise LinkError(f"{message.type} does not belong here")

    def _outcome(
        self, link: SegmentLink, message: Applied | Refused, events: asyncio.Queue[Happened]
    ) -> None:
        deliveries = link.deliveries
        if isinstance(message, Applied):
            is_expected = deliveries.applied(message.generation)
        else:
            problems = says.problems(message.problems)
            is_expected = deliveries.refuse(message.generation, problems)
            said = says.sentence("; ".join(problems[:3]))
            what = f"{link.name} refuses generation {message.generation}: {said}"
            log.warning("%s", what)
            with contextlib.suppress(asyncio.QueueFull):
                events.put_nowait(
                    _happened(self._clock(), "error", "generation_refused", what, link)
                )
        if not is_expected:
            raise LinkError(f"generation {message.generation} was not sent")
        link.news.set()
        self._told(link)

    async def _deliver(self, link: SegmentLink) -> None:
        """Send what the CS lacks, one thing at a time."""
        assert link.hello.group_id is not None
        deliveries = link.deliveries
        while True:
            link.news.clear()
            if deliveries.state(self._newest) is Delivery.BEHIND:
                await self._send(link, link.hello.group_id)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(AGAIN_S):
                    await link.news.wait()

    async def _send(self, link: SegmentLink, group_id: int) -> None:
        deliveries = link.deliveries
        try:
            parcel = await in_thread(
                self._sending.pack, group_id, deliveries.running, deliveries.made_at
            )
        except Exception as error:  # of the database, as a rule: it is tried again
            self._note(f"packing a configuration for {link.name}", error)
            return
        if parcel is None:
            return
        self._newest = max(self._newest, parcel.generation)  # of another API process, perhaps
        deliveries.send(parcel.generation, parcel.made_at)
        self._told(link)
        await link.send(parcel.frame)

    async def _check(self, link: SegmentLink, still_may: Callable[[], bool]) -> None:
        while await self._may(still_may):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CHECK_S):
                    await self._stopping.wait()
                await link.close(CLOSE_GOING, "the API is being stopped")
                raise WebSocketDisconnect
        await link.close(CLOSE_REVOKED, "the token is no longer good")
        raise WebSocketDisconnect

    async def _may(self, still_may: Callable[[], bool]) -> bool:
        try:
            return await in_thread(still_may)
        except Exception as error:  # the database is away: links stay
            self._note("checking the token of a link", error)
            return True

    async def _lost(self, link: SegmentLink) -> None:
        if self._links.get(link.name) is not link:
            return  # a newer one has its name
        self._told(link)
        what = f"{link.name} has no link any more"
        await self._keep(_happened(self._clock(), "warning", "segment_lost", what, link))

    # --- what is told --------------------------------------------------------------------------

    async def _keep_events(self, events: asyncio.Queue[Happened]) -> None:
        while True:
            await self._keep(await events.get())

    async def _keep(self, happened: Happened) -> None:
        try:
            await in_thread(self._events.add, happened)
        except Exception as error:
            self._note("keeping an event", error)

    def _told(self, link: SegmentLink) -> None:
        """Tell subscribers of a segment, soon."""
        if link.name not in self._untold and not self._stopping.is_set():
            loop = asyncio.get_running_loop()
            self._untold[link.name] = loop.call_later(TOLD_EVERY_S, self._tell, link.name)

    def _tell(self, name: str) -> None:
        del self._untold[name]
        link = self._links.get(name)
        if link is None:
            return
        linked = self._describe(link)
        for call in list(self._subscribers):
            try:
                call("segment", linked)
            except Exception as error:
                self._note("telling of a segment", error)

    def _note(self, doing: str, error: Exception) -> None:
        self._faults.note(doing, error)
        for line in self._faults.take_log():
            log.error("%s", line)


def _happened(at: float, severity: Severity, kind: str, what: str, link: SegmentLink) -> Happened:
    return Happened(
        at=at, severity=severity, kind=kind, what=what, segment=link.name,
        subject={"segment": link.name},
    )  # fmt: skip
