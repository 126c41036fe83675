# SPDX-License-Identifier: Apache-2.0
"""Every test leaves the process and the machine as it found them; one that does not fails itself.

After each test, once its fixtures have ended, garbage is collected and what is there is compared
with what was there before: descriptors, threads, child processes, tasks, and the files, namespaces
and pins whose names have this process's pid as their first number (those of parallel workers have
another).  A fixture of a wider scope keeps what its set-up made until its own end, where it is held
to the same.

What has survived the collection after a test is frozen, as is everything that was there when the
tests had been collected: without that, collecting garbage would take longer than the tests.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

# where the first number in the name of a thing is the pid of the process that it belongs to
FOLDERS: Final = {
    "network namespace": Path("/run/netns"),
    "pin": Path("/sys/fs/bpf"),
    "pin of a laboratory": Path("/sys/fs/bpf/splitplane"),
    "file of a laboratory": Path("/run/splitplane"),
}
END_S: Final = 5.0  # what ends by itself, as a thread that was told to, is given so long
_POLL_S: Final = 0.01
_SERIAL: Final = re.compile(r":\[\d+\]")  # a socket's or a pipe's
_DIGITS: Final = re.compile(r"\d+")

Found = Counter[str]


class LeakDetector:
    """A plugin: register it before the tests are collected."""

    def __init__(self, end_s: float = END_S) -> None:
        self._end_s = end_s
        self._before: Found = Counter()
        self._after: Found | None = None  # what the last test left, and the next one begins with
        self._kept: dict[object, Found] = {}  # by fixtures that outlive a test
        self._passing: set[object] = set()  # those that a session outlives: they may become garbage
        self._tasks: list[str] = []
        self._thawed = False

    # --- what pytest calls ---------------------------------------------------------------------

    def pytest_sessionstart(self) -> None:
        _watch_runners(self._tasks)
        unfreeze = gc.unfreeze

        def thaw() -> None:  # as the runtimes do at their end
            self._thawed = True
            unfreeze()

        gc.unfreeze = thaw

    def pytest_collection_finish(self) -> None:
        gc.collect()
        gc.freeze()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self) -> Generator[None, object, object]:
        self._before = found() if self._after is None else self._after
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any]
    ) -> Generator[None, object, object]:
        if fixturedef.scope == "function":
            return (yield)
        start, known = found(), self._before.copy()
        try:
            return (yield)
        finally:
            made = found() - start - (self._before - known)  # but for what fixtures within it made
            self._kept[fixturedef] = made
            self._before += made
            if fixturedef.scope != "session":
                self._passing.add(fixturedef)

    def pytest_fixture_post_finalizer(self, fixturedef: pytest.FixtureDef[Any]) -> None:
        self._before -= self._kept.pop(fixturedef, Counter())
        self._passing.discard(fixturedef)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Generator[None, object, object]:
        ended = yield
        left = self._look()
        if self._thawed or not self._passing or nextitem is None or nextitem.path != item.path:
            self._thawed = False
            gc.freeze()  # reports and caches, which grow
        if left:
            pytest.fail("left behind: " + "; ".join(left), pytrace=False)
        return ended

    # --- looking -------------------------------------------------------------------------------

    def _look(self) -> list[str]:
        self._after = self._await_ends()
        held = self._after - self._before
        with _said_while_collecting() as said:
            gc.collect()
        if held:
            self._after = found()
        left = self._after - self._before
        said += [f"{what}, to the garbage collector" for what in (held - left).elements()]
        said += [*left.elements(), *self._tasks]
        self._tasks.clear()
        return said

    def _await_ends(self) -> Found:
        """What there is, as soon as it is no more than before, or when time is over."""
        deadline = time.monotonic() + self._end_s
        while (now := found()) - self._before and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        return now


def found() -> Found:
    """What this process has, and how many of each; numbers that only tell two apart left out."""
    things = Counter(_descriptors())
    things.update(_threads())
    things.update(_children())
    things.update(_named())
    return things


def _descriptors() -> Iterator[str]:
    with os.scandir("/proc/self/fd") as entries:
        for entry in entries:
            with contextlib.suppress(OSError):  # the one that lists them
                target = os.readlink(entry.path)  # noqa: PTH115 (a Path costs as much as the rest)
                # the kernel calls a link that it made bpf_link and one that it found bpf-link
                yield "open: " + _SERIAL.sub("", target).replace("bpf_link", "bpf-link")


def _threads() -> Iterator[str]:
    for thread in threading.enumerate():
        yield "thread: " + _DIGITS.sub("N", thread.name)


def _children() -> Iterator[str]:
    with os.scandir("/proc/self/task") as threads:
        for thread in threads:
            with contextlib.suppress(OSError):
                pids = Path(thread.path, "children").read_text().split()
                yield from (f"process: {_command(pid)}" for pid in pids)


def _command(pid: str) -> str:
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return b" ".join(words).decode(errors="replace").strip() or "one that nobody waited for"
    return "one that has just ended"


def _named() -> Iterator[str]:
    # not a later number, which may be what another process counts: in a container, pids are small
    own = re.compile(rf"\D*({os.getpid()}|{os.getpid() % 100_000})(?!\d)")
    for kind, folder in FOLDERS.items():
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            yield from (f"{kind}: {entry.name}" for entry in entries if own.match(entry.name))


@contextlib.contextmanager
def _said_while_collecting() -> Iterator[list[str]]:
    """Warnings are errors, and finalizers cannot raise: what pytest would hear of too late."""
    said: list[str] = []
    usual = sys.unraisablehook
    sys.unraisablehook = lambda unraisable: said.append(str(unraisable.exc_value))
    try:
        yield said
    finally:
        sys.unraisablehook = usual


def _watch_runners(tasks: list[str]) -> None:
    """`asyncio.run` cancels the tasks that are left at its end and says nothing."""
    close = asyncio.Runner.close

    def watching(runner: asyncio.Runner) -> None:
        with contextlib.suppress(RuntimeError):  # closed already
            left = asyncio.all_tasks(runner.get_loop())
            tasks.extend(f"task: {task.get_coro()}" for task in left)
        close(runner)

    asyncio.Runner.close = watching  # type: ignore[method-assign,assignment]
