# SPDX-License-Identifier: Apache-2.0
"""The state file on a real disk: replaced as a whole, and never a reason to stop."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import stat
import threading
from pathlib import Path
from time import monotonic

import pytest

from admin.state import decode
from control_segment.health.machine import Said
from control_segment.health.targets import Target
from control_segment.runtime import state_file as state_file_module
from control_segment.runtime.state_file import LAST_WAIT_S, StateFile
from ssmb.addresses import from_text
from support.segments.dfs_double import CONFIG, Rig, changed_server, config

WALL = 1_790_000_000.0
PLACE = from_text("10.1.1.2"), 8080


def rig_with(clients: int, *, segment_id: int = 1) -> Rig:
    persistence = {"kind": "source_address", "timeout_s": 100}
    servers = changed_server(persistence=persistence)
    rig = Rig(config(virtual_servers=servers, segment_id=segment_id))
    remember(rig, clients)
    return rig


def remember(rig: Rig, clients: int) -> None:
    (table,) = rig.cs.model.persistence.by_name.values()
    for number in range(clients):
        table.remember(number.to_bytes(16, "big"), PLACE, monotonic())  # the loop's clock


def state_file(rig: Rig, path: Path, last_wait_s: float = LAST_WAIT_S) -> StateFile:
    return StateFile(path, rig.cs, wall_time=lambda: WALL, last_wait_s=last_wait_s)


def write_at_the_end(file: StateFile) -> None:
    """The CS stops: what is new is written a last time."""

    async def ends() -> None:
        stopping = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(file.keep(stopping))
            await asyncio.sleep(0)
            stopping.set()

    asyncio.run(ends())


def known(rig: Rig) -> int:
    return sum(len(table) for table in rig.cs.model.persistence.by_name.values())


def test_what_is_written_at_the_end_is_there_at_the_next_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = tmp_path / "cs.state"
    rig = rig_with(0)
    file = state_file(rig, path)
    file.restore(monotonic())
    assert "there is none yet" in caplog.text
    remember(rig, 30_000)  # more than one piece, and more than one chunk
    write_at_the_end(file)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]
    other = rig_with(0)
    state_file(other, path).restore(monotonic())
    assert known(other) == 30_000
    assert "30000 persistent clients, 0 sessions" in caplog.text


def monitored() -> Rig:
    pools = [{**CONFIG["pools"][0], "monitors": ["tcp"]}]
    rig = Rig(config(monitors=[{"name": "tcp", "kind": "tcp"}], pools=pools))
    rig.advance(0.1)
    return rig


def test_a_node_that_was_down_is_down_at_the_next_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path, rig = tmp_path / "cs.state", monitored()
    file = state_file(rig, path)
    file.restore(monotonic())
    rig.cs.monitoring.came([(Target("tcp", "10.1.1.2", 8080), Said("down"))], rig.now)
    write_at_the_end(file)
    again = monitored()
    state_file(again, path).restore(monotonic())
    nodes = again.cs.model.pools["web"].nodes
    assert [name for name, node in nodes.items() if node.is_dead] == ["web1"]
    assert "health of 1 places" in caplog.text


@pytest.mark.parametrize("health", ["up", "down"])
def test_what_is_known_of_a_dead_node_does_not_grow_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, health: str
) -> None:
    path, rig = tmp_path / "cs.state", monitored()
    file = state_file(rig, path)
    rig.cs.monitoring.came([(Target("tcp", "10.1.1.2", 8080), Said(health))], rig.now)
    write_at_the_end(file)
    before = path.stat().st_ino
    write_at_the_end(file)
    assert path.stat().st_ino == before
    monkeypatch.setattr(state_file_module, "REFRESH_S", 0.0)
    write_at_the_end(file)
    assert (path.stat().st_ino != before) == (health == "down")


def test_nothing_new_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "cs.state"
    write_at_the_end(state_file(rig_with(3), path))
    before = path.stat().st_ino
    rig = rig_with(0)
    file = state_file(rig, path)
    file.restore(monotonic())
    write_at_the_end(file)
    assert path.stat().st_ino == before


@pytest.mark.parametrize(
    ("octets", "reason"),
    [(b"not a state file", "no state file"), (b"", "no state file")],
)
def test_a_damaged_file_is_logged_passed_over_and_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, octets: bytes, reason: str
) -> None:
    path = tmp_path / "cs.state"
    path.write_bytes(octets)
    rig = rig_with(0)
    file = state_file(rig, path)
    file.restore(monotonic())
    assert f"state file {path} cannot be used: it is {reason}" in caplog.text
    remember(rig, 5)
    write_at_the_end(file)
    assert len(decode(path.read_bytes(), 1).sections) == 1


@pytest.mark.timeout(20)
def test_a_pipe_in_its_place_is_not_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "cs.state"
    os.mkfifo(path)
    rig = rig_with(0)
    state_file(rig, path).restore(monotonic())
    assert f"state file {path} cannot be used: it is no file, but a pipe" in caplog.text
    remember(rig, 5)
    write_at_the_end(state_file(rig, path))
    assert stat.S_ISREG(path.stat().st_mode)


def test_a_file_of_another_cs_and_one_that_is_too_large_are_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "cs.state"
    write_at_the_end(state_file(rig_with(3, segment_id=2), path))
    rig = rig_with(0)
    state_file(rig, path).restore(monotonic())
    assert "it is that of segment 2, and this is segment 1" in caplog.text
    with path.open("wb") as file:
        file.truncate(1 << 30)
    state_file(rig, path).restore(monotonic())
    assert "it has more than 268435456 octets" in caplog.text
    state_file(rig, tmp_path).restore(monotonic())
    assert f"state file {tmp_path} cannot be used: Is a directory" in caplog.text
    assert known(rig) == 0


def test_a_full_disk_leaves_the_file_of_before_and_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A limit on the size of files stands in for it: writing fails in the middle, too."""
    caplog.set_level(logging.INFO)
    path = tmp_path / "cs.state"
    rig = rig_with(3)
    file = state_file(rig, path)
    write_at_the_end(file)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for _ in range(2):
        remember(rig, 5000)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        try:
            write_at_the_end(file)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    assert caplog.text.count("cannot be written: File too large") == 1
    write_at_the_end(file)
    assert "is written again" in caplog.text
    other = rig_with(0)
    state_file(other, path).restore(monotonic())
    assert known(other) == 5000


def test_a_folder_that_is_not_there_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_at_the_end(state_file(rig_with(3), tmp_path / "gone" / "cs.state"))
    assert "cannot be written: No such file or directory" in caplog.text


@pytest.mark.parametrize("is_there", [False, True])
def test_a_folder_that_cannot_be_written_is_said_at_the_start(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    is_there: bool,
) -> None:
    folder = tmp_path / "cs"
    if is_there:
        folder.mkdir()
        monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    state_file(rig_with(0), folder / "cs.state").restore(monotonic())
    assert "cs.state cannot be written: its folder is not there, or not writable" in caplog.text


@pytest.mark.faults
def test_a_mistake_in_reading_the_file_is_noted_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cs.state"
    write_at_the_end(state_file(rig_with(3), path))
    rig = rig_with(0)

    def broken(*_: object) -> int:
        raise IndexError("a mistake")

    monkeypatch.setattr(rig.cs.saved_sessions, "restore", broken)
    state_file(rig, path).restore(monotonic())
    (noted,) = rig.cs.faults.take_log()
    assert f"reading state file {path}" in noted


def test_an_end_in_the_middle_of_writing_leaves_the_file_of_before(tmp_path: Path) -> None:
    """A task group that fails cancels its tasks; the thread is waited for, the part goes."""
    path = tmp_path / "cs.state"
    rig = rig_with(3)
    file = state_file(rig, path)
    write_at_the_end(file)
    before = path.read_bytes()
    remember(rig, 60_000)

    async def is_cancelled() -> None:
        async with asyncio.TaskGroup() as tasks:
            stopping = asyncio.Event()
            stopping.set()
            task = tasks.create_task(file.keep(stopping))
            for _ in range(1_000_000):  # until a thread has opened it
                await asyncio.sleep(0)
                if path.with_name("cs.state.new").exists():
                    break
            for _ in range(20):  # of its 60 pieces
                await asyncio.sleep(0)
            assert path.with_name("cs.state.new").exists()
            task.cancel()

    asyncio.run(is_cancelled())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.timeout(60)
def test_a_disk_that_hangs_does_not_keep_the_cs_from_ending(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the loop goes on while it is waited for."""
    hangs, answers, over = threading.Event(), threading.Event(), threading.Event()

    def hanging(descriptor: int) -> None:
        hangs.set()
        answers.wait(60)
        over.set()

    rig = rig_with(3)
    file = state_file(rig, tmp_path / "cs.state", last_wait_s=0.01)
    monkeypatch.setattr("os.fsync", hanging)

    monkeypatch.setattr("control_segment.runtime.state_file.INTERVAL_S", 0.0)

    async def ends() -> None:
        stopping = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(file.keep(stopping))
            await asyncio.to_thread(hangs.wait, 60)
            stopping.set()

    asyncio.run(ends())  # returns
    assert not over.is_set()
    assert caplog.text.count("its disk does not answer; what is new is lost") == 1
    answers.set()
    assert over.wait(60)
