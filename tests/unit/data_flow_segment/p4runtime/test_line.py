# SPDX-License-Identifier: Apache-2.0
"""Fences, whose answers may come late; a switch is not needed for that."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

import pytest
from finsy.proto import p4r

from data_flow_segment.targets.p4runtime import line
from data_flow_segment.targets.p4runtime.constants import Operation, Reason
from data_flow_segment.targets.p4runtime.inbox import Inbox
from data_flow_segment.targets.p4runtime.line import Line
from data_flow_segment.targets.p4runtime.options import P4RuntimeOptions
from data_flow_segment.targets.p4runtime.packets import packet_out
from data_flow_segment.targets.p4runtime.program import Program
from data_flow_segment.targets.p4runtime.session import Session

INDEX: Final = 262142
QUESTION: Final = packet_out(Operation.REPORT, value=INDEX)
REPORTS: Final = bytes((Reason.REPORT,))


def raw_line() -> Line:
    """Without its thread: what it does is done by the test's loop."""
    return Line(P4RuntimeOptions("unix:/nowhere", ()), Program.load(), Inbox())


class Asked:
    """A session that keeps the questions."""

    def __init__(self) -> None:
        self._questions: asyncio.Queue[p4r.PacketOut] = asyncio.Queue()

    async def send(self, packet: p4r.PacketOut) -> None:
        self._questions.put_nowait(packet)

    async def answer(self) -> p4r.PacketIn:
        """To its next question, which it waits for."""
        question = await self._questions.get()
        up = p4r.PacketIn(payload=INDEX.to_bytes(4, "big") + bytes(66) + question.payload)
        up.metadata.add(metadata_id=1, value=REPORTS)
        return up


def fence_of(owner: Line, asked: Asked) -> Any:
    return owner._fence(cast(Session, asked), QUESTION, INDEX)


def in_a_line(story: Callable[[Line, Asked], Awaitable[None]]) -> None:
    owner = raw_line()

    async def main() -> None:
        await story(owner, Asked())

    owner._loop.run_until_complete(main())
    owner._loop.close()
    owner._inbox.close()


def test_an_answer_that_comes_as_the_time_is_over_ends_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The loop was held up: in one turn of it the time is over and the answer is there."""
    monkeypatch.setattr(line, "FENCE_S", 0.01)
    monkeypatch.setattr(line, "FENCE_TRIES", 1)

    async def story(owner: Line, asked: Asked) -> None:
        async with asyncio.TaskGroup() as tasks:
            fence = tasks.create_task(fence_of(owner, asked))
            answer = await asked.answer()
            assert owner._answered is not None
            owner._answered[1].cancel()  # what the timeout does
            owner._packet_up(answer)
            fence.cancel()
        assert owner._answered is None

    in_a_line(story)


def test_a_late_answer_of_an_earlier_fence_is_not_the_next_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(line, "FENCE_S", 0.02)

    async def story(owner: Line, asked: Asked) -> None:
        async with asyncio.TaskGroup() as tasks:
            fence = tasks.create_task(fence_of(owner, asked))
            first, second = await asked.answer(), await asked.answer()  # it asks twice
            owner._packet_up(first)
            assert await fence
            fence = tasks.create_task(fence_of(owner, asked))
            own = await asked.answer()
            owner._packet_up(second)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert not fence.done()
            owner._packet_up(own)
            assert await fence

    in_a_line(story)
