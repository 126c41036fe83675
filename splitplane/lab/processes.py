# SPDX-License-Identifier: Apache-2.0
"""Child processes inside namespaces: started, waited for, ended politely or not."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from admin.errors import CommandError
from splitplane.lab.namespaces import Namespace
from splitplane.lab.state import LabState

READY_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = 10.0
_POLL_S: Final = 0.02
_LAST_WORDS_OCTETS: Final = 2000


class Process:
    """One program of the laboratory, which may be started again after its end."""

    def __init__(
        self,
        name: str,
        namespace: Namespace | None,
        command: list[str],
        log: Path,
        state: LabState,
    ) -> None:
        """*namespace* None: the machine's own."""
        self.name = name
        self.log = log
        self._namespace = namespace
        self._command = command
        self._state = state
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the running process."""
        if self._child is None:
            raise CommandError(f"{self.name} is not running")
        return self._child.pid

    @property
    def is_running(self) -> bool:
        """Whether it lives."""
        return self._child is not None and self._child.poll() is None

    def start(self, ready: Callable[[], bool]) -> None:
        """Start it and return once *ready* says so; CommandError with its last words if it ends."""
        if self.is_running:
            raise CommandError(f"{self.name} is already running")
        # the kernel ends it when the thread that started it ends, however that happens
        command = ["setpriv", "--pdeathsig", "KILL", "--", *self._command]
        if self._namespace is not None:
            command = self._namespace.command(*command)
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.log.parent,
                start_new_session=True,  # Ctrl-C is for the laboratory's owner, not for its parts
            )
        self._state.add_process(self.name, self._child.pid)
        wait_for(f"{self.name} to be ready", lambda: ready() or not self.is_running)
        if not self.is_running:
            raise CommandError(f"{self.name} exited with {self.wait()}: {self.last_words()}")

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        if self.is_running:
            assert self._child is not None
            self._child.send_signal(number)

    def wait(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Its exit code."""
        if self._child is None:
            return 0
        return self._child.wait(timeout_s)

    def stop(self) -> None:
        """Ask it to end; insist if it does not."""
        self.signal(signal.SIGTERM)
        try:
            self.wait()
        except subprocess.TimeoutExpired:
            self.kill9()

    def kill9(self) -> None:
        """End it without a word, as a crash does."""
        self.signal(signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait()

    def last_words(self) -> str:
        """The end of its log."""
        if not self.log.exists():
            return ""
        return self.log.read_text(errors="replace")[-_LAST_WORDS_OCTETS:].strip()


def wait_for(what: str, come: Callable[[], bool], timeout_s: float = READY_TIMEOUT_S) -> None:
    """Return once *come* says True; CommandError after *timeout_s*."""
    deadline = time.monotonic() + timeout_s
    while not come():
        if time.monotonic() > deadline:
            raise CommandError(f"timed out after {timeout_s:.0f} s waiting for {what}")
        time.sleep(_POLL_S)
