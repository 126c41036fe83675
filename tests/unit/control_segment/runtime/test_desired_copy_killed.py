# SPDX-License-Identifier: Apache-2.0
"""A CS that ends at any moment starts with the last generation that it acknowledged, or with one
behind it that it was about to acknowledge: also while changes are folded."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from admin.link.messages import Change, encode
from control_segment.runtime.children import start_module
from control_segment.runtime.desired import copy, keeper
from control_segment.runtime.desired.copy import folding_path, read_copy
from control_segment.runtime.desired.frames import Head, frame_of
from control_segment.runtime.desired.keeper import Keeper


def whole(generation: int) -> bytes:
    head = Head(generation=generation, made_at=1.0, group_id=1)
    return frame_of(head, {"pools": [{"name": "of", "minimum_active": generation}]})


def change(generation: int) -> Change:
    """Of which every generation has all the others in it."""
    pools: list[dict[str, Any]] = [
        {"name": "of", "minimum_active": generation},
        {"name": f"only-{generation}"},
    ]
    return Change(generation=generation, since=generation - 1, made_at=1.0, pools=pools)


def check(path: Path, first: int, acknowledged: int, begun: int) -> None:
    """What is kept is a generation whole, with all since the whole one at *first*."""
    kept = read_copy(path)
    generation = kept.head.generation
    assert acknowledged <= generation <= begun
    of, *others = kept.configuration["pools"]
    assert of == {"name": "of", "minimum_active": generation}
    assert [pool["name"] for pool in others] == [
        f"only-{number}" for number in range(first + 1, generation + 1)
    ]


# --- at each call that changes something on the disk ----------------------------------------------


LAST = 8  # the generation of the last whole one


class Crash(BaseException):
    """The process is no more."""


class Disk:
    """Ends the process at one of its calls, which may be done in half; nothing follows."""

    def __init__(self, at: int) -> None:
        self.left = at
        self.is_over = False

    def ends(self) -> bool:
        """Whether this is the call."""
        if self.is_over:
            raise Crash
        self.left -= 1
        self.is_over = self.left < 0
        return self.is_over


@contextmanager
def crash_at(monkeypatch: pytest.MonkeyPatch, at: int) -> Iterator[Disk]:
    """The process ends at this call, counted from 0."""
    disk = Disk(at)
    write = os.write

    def half(file: int, octets: Any) -> int:
        if disk.ends():
            write(file, bytes(octets[: len(octets) // 2]))
            raise Crash
        return write(file, octets)

    def ending(call: Callable[..., Any]) -> Callable[..., Any]:
        def attempt(*arguments: Any, **options: Any) -> Any:
            if disk.ends():
                raise Crash
            return call(*arguments, **options)

        return attempt

    with monkeypatch.context() as patch:
        for name in ("replace", "unlink", "fsync", "ftruncate"):
            patch.setattr(os, name, ending(getattr(os, name)))
        patch.setattr(os, "write", half)
        yield disk


class Story:
    """What a CS does with its copy, and how far it came."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lineage = ""
        self.first = self.begun = self.acknowledged = 0

    def put_whole(self, generation: int) -> None:
        self.begun, self.lineage = generation, copy.new_lineage()
        copy.write_whole(self.path, whole(generation), self.lineage)
        self.first = self.acknowledged = generation

    def put(self, generation: int) -> None:
        self.begun = generation
        one = change(generation)
        copy.append_lines(self.path, copy.line_of(one, self.lineage, encode(one)))
        self.acknowledged = generation

    def run(self) -> None:
        """A folding with changes before, during and behind it; a whole one during another."""
        self.put_whole(1)
        self.put(2)
        self.put(3)
        assert copy.set_aside(self.path)
        self.put(4)
        folded = copy.folded_path(self.path)
        copy.fold_into(self.path, folded)
        self.put(5)
        copy.take_folded(self.path, folded)
        self.put(6)
        assert copy.set_aside(self.path)
        self.put(7)
        self.put_whole(LAST)
        self.put(LAST + 1)
        assert copy.set_aside(self.path)
        folded = copy.folded_path(self.path)
        copy.fold_into(self.path, folded)
        copy.take_folded(self.path, folded)


def test_a_crash_at_any_call_leaves_what_was_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at, is_over = 0, True
    while is_over:
        path = tmp_path / str(at) / "copy"
        path.parent.mkdir()
        story = Story(path)
        with crash_at(monkeypatch, at) as disk, contextlib.suppress(Crash):
            story.run()
        is_over = disk.is_over
        if story.acknowledged:
            # a whole one counts from its name on, before the call that lets it outlive the power
            first = story.begun if read_copy(path).head.generation == LAST else story.first
            check(path, first, story.acknowledged, story.begun)
            copy.remove_folded(path)
            assert not [each for each in path.parent.iterdir() if ".folded-" in each.name]
            check(path, first, story.acknowledged, story.begun)
        at += 1
    assert at > 40


# --- a folding that takes long --------------------------------------------------------------------


def test_nobody_waits_for_a_folding_and_a_whole_one_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "copy"
    monkeypatch.setattr(keeper, "FOLD_OCTETS", 1)
    started = list[asyncio.subprocess.Process]()
    has_started = asyncio.Event()

    async def start_stopped(*arguments: str) -> asyncio.subprocess.Process:
        process = await start_module(*arguments)
        process.send_signal(signal.SIGSTOP)  # it takes as long as it likes
        started.append(process)
        has_started.set()
        return process

    monkeypatch.setattr(keeper, "start_module", start_stopped)
    it = Keeper(path, wait_s=3600.0)  # it returns when it is on the disk

    async def story() -> None:
        await it.put(whole(1))
        await it.put(change(2))
        await has_started.wait()
        await it.put(change(3))
        assert folding_path(path).exists()
        check(path, 1, 3, 3)
        await it.put(whole(4))
        check(path, 4, 4, 4)
        await started[0].wait()
        await it.put(change(5))
        check(path, 4, 5, 5)

    async def main() -> None:
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            task = tasks.create_task(it.run())
            try:
                await story()
            finally:
                task.cancel()

    asyncio.run(main())
    check(path, 4, 5, 5)
    assert started[0].returncode == -signal.SIGKILL


# --- processes that are killed --------------------------------------------------------------------


_CS = """
import asyncio, json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
import test_desired_copy_killed as test
from control_segment.runtime.desired import keeper
from control_segment.runtime.desired.keeper import Keeper

keeper.FOLD_OCTETS = 400

async def main():
    path = Path(sys.argv[1])
    it = Keeper(path)
    kept = it.read()
    generation = int(sys.argv[2])
    running = asyncio.ensure_future(it.run())
    if kept is None:
        generation += 1
        print(json.dumps(["first", generation]), flush=True)
        await it.put(test.whole(generation))
    else:
        assert kept.head.generation >= generation, (kept.head, generation)
        generation = kept.head.generation
    while True:
        print(json.dumps(["done", generation]), flush=True)
        generation += 1
        print(json.dumps(["begun", generation]), flush=True)
        await it.put(test.change(generation))

asyncio.run(main())
"""


def test_a_cs_that_is_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    path, said = tmp_path / "copy", {"first": 0, "begun": 0, "done": 0}
    here = str(Path(__file__).parent)
    for number in (1, 9, 30, 55, 100):
        command = [sys.executable, "-c", _CS, str(path), str(said["done"]), here]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in islice(process.stdout, 2 * number):
                what, generation = json.loads(line)
                said[what] = generation
            process.kill()
            for line in process.stdout:  # what it had said until then
                what, generation = json.loads(line)
                said[what] = generation
        assert process.returncode == -signal.SIGKILL
        if said["done"]:  # the whole one is done before any change is begun
            check(path, said["first"], said["done"], max(said["begun"], said["first"]))
    assert said["done"] > 90
