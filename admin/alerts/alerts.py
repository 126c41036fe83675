# SPDX-License-Identifier: Apache-2.0
"""Tells people what happens, beside everything else: nobody who says that something happened waits
for a mail server, and no more is kept for one than an outbox has room for.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeAlias

from admin.alerts.config import AlertConfig
from admin.alerts.outbox import Batch, Event, Outbox
from admin.alerts.secret_files import read_headers, read_secret
from admin.alerts.ways import ByEmail, ByWebhook, NotSent, Way
from admin.disk import in_daemon
from admin.happened import Happened

SEND_S: Final = 120.0  # for one message, however many steps it takes

Count: TypeAlias = Callable[[str, str], None]
"""Of an alert, by name, one of OUTCOMES."""

OUTCOMES: Final = ("sent", "failed", "given_up")

log = logging.getLogger("splitplane.alerts")


def _nobody_counts(name: str, outcome: str) -> None:
    """Where there are no metrics."""


class Alert:
    """One of the list."""

    def __init__(self, config: AlertConfig, folder: Path, count: Count) -> None:
        self.config = config
        self._count = count
        self.outbox = Outbox(
            batch_s=config.batch_s, max_per_hour=config.max_per_hour, give_up_s=config.give_up_s
        )
        self._folder = folder
        self._lock = threading.Lock()  # of the outbox
        self._wake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def add(self, event: Event) -> None:
        """From any thread."""
        with self._lock:
            self.outbox.add(event, time.monotonic())
            loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # it has ended meanwhile
                loop.call_soon_threadsafe(self._wake.set)

    async def run(self) -> None:
        """Send what there is to send, until cancelled."""
        with self._lock:
            self._loop = asyncio.get_running_loop()
        try:
            while True:
                self._wake.clear()
                with self._lock:
                    batch = self.outbox.take(time.monotonic())
                    due = self.outbox.get_timer()
                if batch is None:
                    await self._wait(due)
                else:
                    await self._send(batch)
        finally:
            with self._lock:
                self._loop = None

    async def _wait(self, due: float | None) -> None:
        try:
            async with asyncio.timeout(None if due is None else max(0.0, due - time.monotonic())):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _send(self, batch: Batch) -> None:
        way = way_of(self.config, self._folder)
        try:
            async with asyncio.timeout(SEND_S):
                await in_daemon(way.send, batch)
        except NotSent as error:
            self._failed(str(error), error.retry_s)
        except TimeoutError:
            self._failed(f"it takes longer than {SEND_S:.0f} s", 0.0)
        except Exception as error:  # a mistake in here costs this message's try
            self._failed(f"internal error: {type(error).__name__}", 0.0)
            log.debug("alert %s", self.config.name, exc_info=True)
        else:
            self._count(self.config.name, "sent")
            with self._lock:
                self.outbox.was_sent(time.monotonic())
        finally:
            way.close()

    def _failed(self, reason: str, retry_s: float) -> None:
        with self._lock:
            now = time.monotonic()
            given_up = self.outbox.given_up
            is_tried_again = self.outbox.was_not_sent(now, retry_s)
            due, given_up = self.outbox.get_timer(), self.outbox.given_up - given_up
        name, place = self.config.name, self.config.place
        self._count(name, "failed" if is_tried_again else "given_up")
        if is_tried_again and due is not None:
            log.warning(
                "alert %s to %s was not sent, and is tried again in %.0f s: %s",
                name, place, due - now, reason,
            )  # fmt: skip
        else:
            log.error(
                "alert %s to %s was not sent for %d s: %d events are given up: %s",
                name, place, self.config.give_up_s, given_up, reason,
            )  # fmt: skip


class Alerts:
    """All of the list."""

    def __init__(
        self, configs: Sequence[AlertConfig], folder: Path, count: Count = _nobody_counts
    ) -> None:
        """*folder*: of the configuration; ConfigError: a secret cannot be read."""
        for each in configs:
            _check_secrets(each, folder)
        self.alerts = [Alert(each, folder, count) for each in configs]

    def tell(self, happened: Happened, at: float, segment: str | None) -> None:
        """Something happened (*at*: Unix time, s) and this segment says so; None: the API itself.
        From any thread; returns at once."""
        event: Event | None = None
        for alert in self.alerts:
            if alert.config.wants(happened):
                if event is None:
                    event = Event(
                        at, segment, happened.severity, happened.kind, happened.what,
                        dict(happened.subject),
                    )  # fmt: skip
                alert.add(event)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for alert in self.alerts:
                tasks.create_task(alert.run())


def way_of(config: AlertConfig, folder: Path) -> Way:
    """For one message."""
    if config.email is not None:
        return ByEmail(config.email, folder)
    assert config.webhook is not None, "the configuration has been checked"
    return ByWebhook(config.webhook, folder)


def _check_secrets(config: AlertConfig, folder: Path) -> None:
    """Say at the start what would fail later."""
    if config.email is not None and config.email.password_file is not None:
        read_secret(folder / config.email.password_file)
    if config.webhook is not None and config.webhook.secret_file is not None:
        read_secret(folder / config.webhook.secret_file)
    if config.webhook is not None and config.webhook.headers_file is not None:
        read_headers(folder / config.webhook.headers_file)
