# SPDX-License-Identifier: Apache-2.0
"""Probes what the schedule says is due, so many at once at most, and reports what has changed."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from admin.errors import ConfigError
from control_segment.health.agents import silent
from control_segment.health.config import MonitorConfig
from control_segment.health.machine import Observed, Said
from control_segment.health.schedule import Schedule, Watch
from control_segment.health.targets import Target
from control_segment.runtime.probes import agent, http, icmp, script, secret, tcp, tls, udp

AT_ONCE: Final = 4000  # of all kinds, each with a socket
SCRIPTS_AT_ONCE: Final = 16
BUSY_S: Final = 0.05
"""If a time-out comes so late, this process had no processor, and the node may have answered."""

TICK_S: Final = 0.002  # what is due within it begins together: a wake-up costs as much as a probe

_BUSY: Final = Observed(None, "this machine was too busy to look")


class Runner:
    """All probes of one process."""

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        tell: Callable[[Target, Said], None],
        *,
        scripts: Path | None,
        secrets: Path | None = None,
        at_once: int = AT_ONCE,
    ) -> None:
        """`tell`: something else is said of a target; `scripts`, `secrets`: the folders of what
        monitors name."""
        self.schedule = Schedule()
        self.begun = 0  # probes
        self._tasks = tasks
        self._tell = tell
        self._scripts = scripts
        self._secrets = secrets
        self._at_once = at_once
        self._loop = asyncio.get_running_loop()
        self._running = 0
        self._connects = tcp.Connects(self._loop)
        self._timer: asyncio.TimerHandle | None = None
        self._icmp = icmp.Icmp()
        self._of_scripts = asyncio.Semaphore(SCRIPTS_AT_ONCE)
        self._kinds: dict[str, Callable[[Target, MonitorConfig], Awaitable[Observed]]] = {
            "http": self._http,
            "https": self._http,
            "icmp": lambda target, monitor: self._icmp.probe(target),
            "udp": udp.probe,
            "script": self._script,
            "agent": agent.probe,
            "certificate": tls.probe,
        }

    def close(self) -> None:
        """End what runs outside of the tasks."""
        if self._timer is not None:
            self._timer.cancel()
        self._connects.close()
        self._icmp.close()

    def go_on(self) -> None:
        """Begin what is due, and come back for what is due next."""
        now = self._loop.time()
        while self._running < self._at_once and (watch := self.schedule.take_due(now)) is not None:
            self._begin(watch, now)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self.schedule.get_timer()
        if due is not None and self._running < self._at_once:
            self._timer = self._loop.call_at(max(due, now + TICK_S), self.go_on)

    def _begin(self, watch: Watch, now: float) -> None:
        self._running += 1
        self.begun += 1
        if watch.monitor.kind != "tcp":
            self._tasks.create_task(self._probe(watch, now))
            return
        timeout_s = watch.monitor.timeout_ms / 1000

        def done(seen: Observed) -> None:
            if seen is tcp.NO_ANSWER and self._loop.time() > now + timeout_s + BUSY_S:
                seen = _BUSY
            self._ended(watch, seen, now)

        try:
            self._connects.begin(watch.target.address, watch.target.port, timeout_s, done)
        except OSError as error:
            self._loop.call_soon(done, tcp.failed(error.errno, error.strerror or ""))

    def _ended(self, watch: Watch, seen: Observed, began: float) -> None:
        was_full = self._running >= self._at_once
        self._running -= 1
        said = self.schedule.observed(watch, seen, began, self._loop.time())
        if said is not None:
            self._tell(watch.target, said)
        timer = self._timer
        if was_full or timer is None or (watch.due is not None and watch.due < timer.when()):
            self.go_on()

    async def _probe(self, watch: Watch, began: float) -> None:
        monitor = watch.monitor
        until = self._loop.time() + monitor.timeout_ms / 1000
        try:
            if monitor.kind == "script":
                async with self._of_scripts:
                    until = self._loop.time() + monitor.timeout_ms / 1000
                    seen = await self._within(until, watch)
            else:
                seen = await self._within(until, watch)
        except Exception as error:  # of one probe: the others go on
            seen = Observed(None, f"a mistake in this program: {error!r}")
        self._ended(watch, seen, began)

    async def _within(self, until: float, watch: Watch) -> Observed:
        target, monitor = watch.target, watch.monitor
        try:
            async with asyncio.timeout_at(until):
                return await self._kinds[monitor.kind](target, monitor)
        except TimeoutError:
            if self._loop.time() > until + BUSY_S:
                return _BUSY
            return _failed(monitor, "no answer")
        except OSError as error:
            return _met(monitor, error)

    async def _http(self, target: Target, monitor: MonitorConfig) -> Observed:
        wanted = {} if monitor.http is None else monitor.http.secret_headers
        try:
            headers = secret.headers(self._secrets, wanted)
        except ConfigError as error:  # which says nothing of the node
            return Observed(None, str(error), warning=str(error))
        return await http.probe(target, monitor, headers)

    async def _script(self, target: Target, monitor: MonitorConfig) -> Observed:
        if self._scripts is None:
            return Observed(None, "this CS runs no scripts")
        wanted = {} if monitor.script is None else monitor.script.secret_environment
        try:
            environment = secret.values(self._secrets, wanted)
        except ConfigError as error:  # which says nothing of the node
            return Observed(None, str(error), warning=str(error))
        return await script.probe(self._scripts, target, monitor, environment)


def _failed(monitor: MonitorConfig, why: str) -> Observed:
    """A probe had no answer; some kinds of monitors draw no conclusion from that."""
    if monitor.kind == "agent":
        return silent(why)
    section = monitor.certificate
    if monitor.kind == "certificate" and (section is None or section.down_days is None):
        return Observed(None, why, warning=f"its certificate cannot be seen: {why}")
    return Observed(False, why)


def _met(monitor: MonitorConfig, error: OSError) -> Observed:
    """A probe ended with an error of the system, or of TLS."""
    if isinstance(error, ssl.SSLError):
        verdict = getattr(error, "verify_message", "")
        said = f"its certificate is refused: {verdict}" if verdict else f"TLS: {error.reason}"
        return _failed(monitor, said)
    why = str(error) if error.errno is None else os.strerror(error.errno)
    seen = tcp.failed(error.errno, why)
    return seen if seen.passed is None else _failed(monitor, seen.reason)
