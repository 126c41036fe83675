# SPDX-License-Identifier: Apache-2.0
"""Network namespaces: create them, run in them, remove them with whatever runs in them.

Commands go in by `nsenter --net`, not by `ip netns exec`: the latter also puts a fresh /sys over
the machine's, and what an agent pins below /sys/fs/bpf there is gone with the process.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from admin.errors import CommandError

NETNS_FOLDER: Final = Path("/run/netns")
_CLONE_NEWNET: Final = 0x40000000
_COMMAND_TIMEOUT_S: Final = 60


def ip(*arguments: str, batch: Sequence[str] = ()) -> str:
    """Run `ip`; with *batch*, those lines in one process."""
    command = ["ip", *arguments, *(("-batch", "-") if batch else ())]
    done = subprocess.run(
        command,
        input="\n".join([*batch, ""]),
        capture_output=True,
        text=True,
        check=False,
        timeout=_COMMAND_TIMEOUT_S,
    )
    if done.returncode != 0:
        said = done.stderr.strip().replace("\n", "; ")
        raise CommandError(f"{' '.join(command)}: {said or f'ended with {done.returncode}'}")
    return done.stdout


def existing(prefix: str) -> list[str]:
    """The namespaces whose names start so."""
    if not NETNS_FOLDER.is_dir():
        return []
    return sorted(path.name for path in NETNS_FOLDER.iterdir() if path.name.startswith(prefix))


def remove(name: str) -> None:
    """Kill what runs in the namespace, then delete it; nothing where there is none."""
    if not (NETNS_FOLDER / name).exists():
        return
    with contextlib.suppress(CommandError):
        for pid in ip("netns", "pids", name).split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
    ip("netns", "delete", name)


class Namespace:
    """One network namespace of this laboratory."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._inside: ThreadPoolExecutor | None = None

    def create(self) -> None:
        """Make it, with its loopback up."""
        ip("netns", "add", self.name)
        self.ip("link set lo up")
        self._inside = self._thread_inside()

    def delete(self) -> None:
        """Take it down.  It lives on without a name while a socket that came from it is open."""
        if self._inside is not None:
            self._inside.shutdown()
            self._inside = None
        remove(self.name)

    def ip(self, *lines: str) -> None:
        """Run lines of `ip` inside, in one process."""
        ip("-netns", self.name, batch=lines)

    def command(self, *command: str) -> list[str]:
        """The argument vector that runs *command* inside."""
        return ["nsenter", f"--net={NETNS_FOLDER / self.name}", "--", *command]

    def run(
        self, *command: str, check: bool = True, timeout_s: float = _COMMAND_TIMEOUT_S
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside and wait for it."""
        done = subprocess.run(
            self.command(*command), capture_output=True, text=True, check=False, timeout=timeout_s
        )
        if check and done.returncode != 0:
            said = done.stderr.strip() or done.stdout.strip()
            raise CommandError(f"{self.name}: {' '.join(command)}: {said}")
        return done

    def sysctl(self, **values: str | int) -> None:
        """Set sysctls, written with __ for dots: net__ipv4__ip_forward=1."""
        self.run("sysctl", "-qw", *(f"{key.replace('__', '.')}={values[key]}" for key in values))

    def socket(self, family: socket.AddressFamily, kind: socket.SocketKind) -> socket.socket:
        """A socket that lives inside, for use by this process.

        A socket belongs to the namespace of the thread that made it, for good: one thread
        waits inside and makes them, and any thread may use them.
        """
        if self._inside is None:
            self._inside = self._thread_inside()
        return self._inside.submit(socket.socket, family, kind).result()

    def _thread_inside(self) -> ThreadPoolExecutor:
        inside = ThreadPoolExecutor(1, self.name, initializer=_enter, initargs=(self.name,))
        inside.submit(int).result()  # it is there from now on
        return inside


def _enter(name: str) -> None:
    """Put the calling thread, and it alone, into a namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(NETNS_FOLDER / name, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.setns(descriptor, _CLONE_NEWNET) != 0:  # os.setns comes with Python 3.12
            raise OSError(ctypes.get_errno(), "setns", name)
    finally:
        os.close(descriptor)
