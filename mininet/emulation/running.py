# SPDX-License-Identifier: Apache-2.0
"""What runs while a topology is up: its folder, which nothing outlives, and its processes.

The folder /run/splitplane/mininet-PID holds configurations, key, admin sockets and logs.  Its lock
goes with the process; a topology that finds a folder whose lock is free removes it, with the pins
of the same name.  Processes end with the one that started them (PDEATHSIG), Mininet's shells with
their terminals, and namespaces, links and interfaces with their last process: none has a name
outside.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

SOCKET_FOLDER = Path("/run/splitplane")
PIN_FOLDER = Path("/sys/fs/bpf/splitplane")
READY_TIMEOUT_S = 30.0
_LAST_WORDS_OCTETS = 2000


class EmulationError(Exception):
    """Something did not come up, or not do what it should; the message is for people."""


class Folder:
    """The folder of one running topology."""

    def __init__(self, name: str) -> None:
        self.path = SOCKET_FOLDER / name
        self.pins = PIN_FOLDER / name
        self._lock: TextIO | None = None

    def __enter__(self) -> Folder:
        SOCKET_FOLDER.mkdir(parents=True, exist_ok=True)
        with (SOCKET_FOLDER / "mininet.lock").open("w") as one_at_a_time:
            fcntl.flock(one_at_a_time, fcntl.LOCK_EX)  # a folder without a lock is taken for left
            take_remains_away()
            self.path.mkdir(mode=0o700)
            self._lock = (self.path / "lock").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.write("cluster.key", secrets.token_hex(32) + "\n")
        return self

    def __exit__(self, *_: object) -> None:
        _remove(self.path)
        if self._lock is not None:
            self._lock.close()

    def write(self, name: str, content: str) -> Path:
        """Write a file that only its user may read."""
        path = self.path / name
        path.touch(0o600)
        path.write_text(content)
        return path

    def configuration(self, name: str, values: dict[str, Any]) -> Path:
        """Write a configuration: JSON is YAML, and needs no library."""
        return self.write(f"{name}.yaml", json.dumps(values, indent=2) + "\n")


def take_remains_away() -> None:
    """Remove the folders of topologies that were killed; running ones stay."""
    for path in SOCKET_FOLDER.glob("mininet-*"):
        with contextlib.suppress(OSError), (path / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(path)


def _remove(path: Path) -> None:
    _unpin(PIN_FOLDER / path.name)
    shutil.rmtree(path, ignore_errors=True)


def _unpin(path: Path) -> None:
    if path.is_dir():
        for below in path.iterdir():
            _unpin(below)
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


class Daemon:
    """A program in a node's network namespace; it may be killed and started again."""

    def __init__(self, name: str, node: Any, command: list[str], folder: Folder) -> None:
        self.name = name
        self.log = folder.path / f"{name}.log"
        self._node = node
        self._command = command
        self._folder = folder
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of its process, the latest one."""
        assert self._child is not None
        return self._child.pid

    @property
    def is_running(self) -> bool:
        """Whether it lives."""
        return self._child is not None and self._child.poll() is None

    def start(self, is_ready: Callable[[], bool]) -> None:
        """Start it, and return once it is ready; EmulationError with its last words if it ends."""
        # nsenter and not mnexec: that also hides the machine's /sys, and with it what is pinned
        inside = ["nsenter", f"--net=/proc/{self._node.pid}/ns/net", "--"]
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                [*inside, "setpriv", "--pdeathsig", "KILL", "--", *self._command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder.path,
                start_new_session=True,  # Ctrl-C is for the console only
            )
        wait_for(f"{self.name} to be ready", lambda: not self.is_running or is_ready())
        if not self.is_running:
            raise EmulationError(f"{self.name} exited: {self.last_words()}")

    def kill9(self) -> None:
        """End it without notice, as a crash does."""
        if self._child is not None:
            self._child.send_signal(signal.SIGKILL)
            self._child.wait()

    def last_words(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-_LAST_WORDS_OCTETS:].strip()


def wait_for(what: str, come: Callable[[], bool], timeout_s: float = READY_TIMEOUT_S) -> None:
    """Return once *come* says True; EmulationError after *timeout_s*."""
    deadline = time.monotonic() + timeout_s
    while not come():
        if time.monotonic() > deadline:
            raise EmulationError(f"timed out after {timeout_s:.0f} s waiting for {what}")
        time.sleep(0.05)


def ask(admin_socket: Path, command: str) -> Any:
    """One request to a segment (admin/server.py); None if it does not answer."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        try:
            connection.connect(str(admin_socket))
            connection.sendall(json.dumps({"command": command}).encode() + b"\n")
            line = connection.makefile("rb").readline()
        except OSError:
            return None
    answer = json.loads(line) if line else {"ok": False}
    return answer["data"] if answer["ok"] else None
