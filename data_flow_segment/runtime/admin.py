# SPDX-License-Identifier: Apache-2.0
"""The operator's commands.  Long tables are read in slices: new flows do not wait for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from admin.arguments import Arguments
from data_flow_segment import inspection
from data_flow_segment.agent import Agent


class Admin:
    """Answers one command at a time."""

    def __init__(self, agent: Agent, clock: Callable[[], float]) -> None:
        self._agent = agent
        self._clock = clock

    async def handle(self, command: str, arguments: dict[str, object]) -> object:
        """Return an answer (admin.answers); ValueError for what cannot be answered."""
        answer = inspection.COMMANDS.answer(command, self._agent, Arguments(arguments), self._clock)
        if not isinstance(answer, Iterator):
            return answer
        whole = []
        for piece in answer:
            whole += piece
            await asyncio.sleep(0)
        return whole
