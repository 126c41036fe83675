# SPDX-License-Identifier: Apache-2.0
"""The operator's commands.  Long tables are read in slices: new flows do not wait for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from data_flow_segment import inspection
from data_flow_segment.agent import Agent

FLOWS_DEFAULT: Final = 1000
FLOWS_MAX: Final = 1_000_000
_SLICE: Final = 256  # about a millisecond


class Admin:
    """Answers one command at a time."""

    def __init__(self, agent: Agent, clock: Callable[[], float]) -> None:
        self._agent = agent
        self._clock = clock

    async def handle(self, command: str, arguments: dict[str, object]) -> object:
        """Return something that can be said in JSON; ValueError for what cannot be answered."""
        agent = self._agent
        if command == "flows":
            return await self._flows(arguments)
        if command == "virtual_servers":
            return inspection.virtual_servers(agent)
        if command == "messages":
            return inspection.messages(agent)
        if command == "counters":
            return inspection.counters(agent)
        if command == "status":
            return inspection.status(agent)
        if command == "trace":
            return inspection.trace(agent, arguments, self._clock())
        raise ValueError(
            f"a DFS does not know the command {command!r};"
            " it knows flows, virtual_servers, messages, counters, status, trace"
        )

    async def _flows(self, arguments: dict[str, object]) -> list[inspection.Json]:
        limit = arguments.get("limit", FLOWS_DEFAULT)
        if not isinstance(limit, int) or not 0 < limit <= FLOWS_MAX:
            raise ValueError(f"limit: expected a number from 1 to {FLOWS_MAX}, not {limit!r}")
        client = arguments.get("client")
        wanted = None if client is None else str(client)
        found = [
            inspection.pending_flow(session, waiting, self._clock())
            for session, waiting in self._agent.new_flows.pending.by_session.items()
            if inspection.is_client(session, wanted)
        ][:limit]
        cursor: bytes | None = None
        while len(found) < limit:
            states, cursor = self._agent.target.scan(cursor, _SLICE)
            found += [
                inspection.flow(state, self._clock())
                for state in states
                if inspection.is_client(state.entry.signature.session, wanted)
            ]
            if cursor is None:
                break
            await asyncio.sleep(0)
        return found[:limit]
