# SPDX-License-Identifier: Apache-2.0
"""What an API does without being asked: forget what is too old, and notice other processes."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from typing import Final

from sqlalchemy import delete
from starlette.concurrency import run_in_threadpool

from admin.faults import Faults
from api.access.known import KnownCallers
from api.config import RetentionConfig
from api.events.kept import DAY_S, KeptEvents
from api.http import idempotency
from api.state import ApiState
from api.tables import Audited

log = logging.getLogger("splitplane.api")
NOTICE_S: Final = 0.3
FORGET_S: Final = 3600.0


def forget(state: ApiState, retention: RetentionConfig, now: float) -> None:
    """Remove what is older than it has to be kept (`now`: Unix time, s)."""
    assert isinstance(state.events, KeptEvents)
    assert isinstance(state.access, KnownCallers)
    state.events.forget(now - retention.events_days * DAY_S)
    state.access.keeper.forget_over()
    idempotency.forget(state, now)
    with state.database.writing() as session:
        session.execute(delete(Audited).where(Audited.at < now - retention.audit_days * DAY_S))
    if retention.generations:
        state.desired.prune(retention.generations)


class Housekeeping:
    """Until it is cancelled."""

    def __init__(
        self, state: ApiState, retention: RetentionConfig, clock: Callable[[], float]
    ) -> None:
        self._state = state
        self._retention = retention
        self._clock = clock
        self._faults = Faults(Counter())

    async def run(self) -> None:
        """Several times a second, and every hour."""
        loop = asyncio.get_running_loop()
        next_forget = loop.time()
        while True:
            await self._try("noticing other processes", self._state.desired.notice)
            if loop.time() >= next_forget:
                next_forget = loop.time() + FORGET_S
                await self._try("forgetting what is too old", self._forget)
            await asyncio.sleep(NOTICE_S)

    def _forget(self) -> None:
        forget(self._state, self._retention, self._clock())

    async def _try(self, what: str, action: Callable[[], object]) -> None:
        """A database that is away for a while ends nothing."""
        try:
            await run_in_threadpool(action)
        except Exception as error:
            self._faults.note(what, error)
            for line in self._faults.take_log():
                log.error("%s", line)
