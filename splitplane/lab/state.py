# SPDX-License-Identifier: Apache-2.0
"""What a laboratory leaves on the machine while it runs, so that a later one can take it away.

`/run/splitplane/lab-NAME.lock` is locked by the process that runs the laboratory; the kernel gives
the lock back however that process ends.  The process that gets the lock finds in `lab-NAME.json`
the processes that may be left, with their start times (a pid may belong to another process by now);
the namespaces are found by their names, and the pins and files by theirs.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Final, TextIO

from admin.client import SOCKET_FOLDER
from admin.errors import CommandError
from splitplane.lab import namespaces
from splitplane.lab.topology import prefix

PIN_FOLDER: Final = Path("/sys/fs/bpf/splitplane")
# a veth's name is its host's; a namespace's is free, but people type it, and it names files
NAME: Final = re.compile(r"[a-z][a-z0-9]{0,15}")


def check_name(lab: str) -> None:
    """ValueError if no laboratory may be called so."""
    if not NAME.fullmatch(lab):
        raise ValueError(
            f"{lab!r} is not a valid laboratory name; use up to 16 lowercase letters and digits"
        )


class LabIsRunning(CommandError):
    """A laboratory of this name is running."""


def folder(lab: str) -> Path:
    """Configurations, key, sockets and logs of a laboratory."""
    return SOCKET_FOLDER / f"lab-{lab}"


def pins(lab: str) -> Path:
    """Where its DFS pins."""
    return PIN_FOLDER / f"lab-{lab}"


def _state_file(lab: str) -> Path:
    return SOCKET_FOLDER / f"lab-{lab}.json"


def _lock_file(lab: str) -> Path:
    return SOCKET_FOLDER / f"lab-{lab}.lock"


def known_labs() -> list[str]:
    """Laboratories that run or have left something."""
    names = {path.stem.removeprefix("lab-") for path in SOCKET_FOLDER.glob("lab-*.json")}
    names |= {path.stem.removeprefix("lab-") for path in SOCKET_FOLDER.glob("lab-*.lock")}
    names |= {path.name.removeprefix("lab-") for path in PIN_FOLDER.glob("lab-*")}
    names |= {name.split("-")[1] for name in namespaces.existing("sp-") if name.count("-") == 2}
    return sorted(name for name in names if NAME.fullmatch(name))


def start_time(pid: int) -> int | None:
    """When the process started, in the kernel's ticks; None when there is none."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if after_name[0] == "Z" else int(after_name[19])


class LabState:
    """The lock and the record of one laboratory; the holder owns everything with its name."""

    def __init__(self, lab: str) -> None:
        try:
            check_name(lab)
        except ValueError as error:
            raise CommandError(str(error)) from None
        self.lab = lab
        self._lock: TextIO | None = None
        self._processes: dict[str, tuple[int, int | None]] = {}

    def acquire(self) -> None:
        """Own the name, and remove what an earlier run left; LabIsRunning if one is alive."""
        SOCKET_FOLDER.mkdir(parents=True, exist_ok=True)
        while True:
            lock = _lock_file(self.lab).open("a+")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                owner = lock.read().strip()
                lock.close()
                raise LabIsRunning(
                    f"the laboratory {self.lab!r} is already running (process {owner}); stop it,"
                    " or give another --name"
                ) from None
            with contextlib.suppress(FileNotFoundError):
                if os.fstat(lock.fileno()).st_ino == _lock_file(self.lab).stat().st_ino:
                    break
            lock.close()  # its owner removed it between our open and our lock
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        self._lock = lock
        self._remove_remains()

    def add_process(self, name: str, pid: int) -> None:
        """Remember a child before it can be left behind."""
        self._processes[name] = pid, start_time(pid)
        temporary = _state_file(self.lab).with_suffix(".new")
        temporary.write_text(json.dumps({"pid": os.getpid(), "processes": self._processes}))
        temporary.replace(_state_file(self.lab))

    def release(self) -> None:
        """Remove everything with the laboratory's name, and give the name back."""
        if self._lock is None:
            return
        try:
            self._remove_remains()
            _lock_file(self.lab).unlink(missing_ok=True)
        finally:
            self._lock.close()
            self._lock = None

    def _remove_remains(self) -> None:
        for pid, started in self._recorded():
            if started is not None and start_time(pid) == started:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        for name in namespaces.existing(prefix(self.lab)):
            namespaces.remove(name)
        remove_pins(pins(self.lab))
        unmount_below(folder(self.lab))
        shutil.rmtree(folder(self.lab), ignore_errors=True)
        _state_file(self.lab).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            PIN_FOLDER.rmdir()  # stays while another process has pins there

    def _recorded(self) -> list[tuple[int, int | None]]:
        try:
            state = json.loads(_state_file(self.lab).read_text())
            return [(int(pid), started) for pid, started in state["processes"].values()]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return []  # killed while writing the first one: the namespaces say the rest


def remove_pins(path: Path) -> None:
    """Unpin everything below *path*: programs detach and maps go with their last user."""
    if not path.is_dir():
        return
    for below in path.iterdir():
        if below.is_dir():
            remove_pins(below)
        else:
            below.unlink()
    path.rmdir()


def unmount_below(path: Path) -> None:
    """Take away what was mounted below *path* for a segment."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mounted = Path(line.split()[4])  # proc_pid_mountinfo(5); these paths have nothing to escape
        if mounted.is_relative_to(path):
            subprocess.run(["umount", "--lazy", str(mounted)], check=False, capture_output=True)


def clean(lab: str) -> bool:
    """Take away what a laboratory left; False when it is running."""
    state = LabState(lab)
    try:
        state.acquire()
    except LabIsRunning:
        return False
    state.release()
    return True
