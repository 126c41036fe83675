# SPDX-License-Identifier: Apache-2.0
"""Alerts of a CS that has its own, and of the API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from admin.alerts.alerts import Alerts
from admin.happened import Happened

if TYPE_CHECKING:
    from api.events import service
    from control_segment.runtime.runtime import ControlSegmentRuntime


@asynccontextmanager
async def running(alerts: Alerts) -> AsyncIterator[None]:
    """Send meanwhile; what was not sent at the end is lost."""
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(alerts.run())
        try:
            yield
        finally:
            task.cancel()


@asynccontextmanager
async def of_segment(
    alerts: Alerts, runtime: ControlSegmentRuntime, name: str
) -> AsyncIterator[None]:
    """Tell what a CS sees.  All CSs of a group see what becomes of nodes: the active one tells."""

    def observe(happened: Happened, at: float) -> None:
        if "segment" in happened.subject or runtime.segment.group.election.claims:
            alerts.tell(happened, at, name)

    runtime.observers.append(observe)
    try:
        async with running(alerts):
            yield
    finally:
        runtime.observers.remove(observe)


@asynccontextmanager
async def of_api(alerts: Alerts, events: service.Events) -> AsyncIterator[None]:
    """Tell what the API and its segments see."""

    def happened(event: service.Happened) -> None:
        what = Happened(event.severity, event.kind, event.what, event.subject)
        alerts.tell(what, event.at, event.segment)

    end = events.subscribe(happened)
    try:
        async with running(alerts):
            yield
    finally:
        end()
