# SPDX-License-Identifier: Apache-2.0
"""The DFS's state file on a real disk."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from pathlib import Path

import pytest

from admin import disk
from admin.faults import Faults
from data_flow_segment.counters import Counters
from data_flow_segment.peers.epochs import RoleEpochs
from data_flow_segment.peers.fencing import NO_CLAIM, Claim
from data_flow_segment.runtime.state_file import StateFile

SEGMENT_ID = 256


def state_file(path: Path | None, segment_id: int = SEGMENT_ID) -> StateFile:
    return StateFile(path, segment_id, lambda: 1000.0)


def written(path: Path, claims: dict[int, Claim], segment_id: int = SEGMENT_ID) -> RoleEpochs:
    """Have claims obeyed, and wait for the disk."""
    epochs, faults = RoleEpochs({}), Faults(Counters())

    async def write() -> None:
        done = asyncio.Event()
        state_file(path, segment_id).follow(epochs, faults, done.set)
        await done.wait()

    for group_id, claim in claims.items():
        assert not epochs.is_kept(group_id, claim, 1000.0)
    asyncio.run(write())
    assert faults.take_log() == []
    return epochs


def test_the_next_process_knows_what_was_obeyed(tmp_path: Path) -> None:
    path = tmp_path / "dfs.state"
    epochs = written(path, {1: Claim(7, 2), 9: Claim(1, 1)})
    assert epochs.is_kept(1, Claim(7, 2), 1001.0)
    again = state_file(path).read()
    assert (again.of(1), again.of(9), again.of(2)) == (Claim(7, 2), Claim(1, 1), NO_CLAIM)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["dfs.state"]


def test_nothing_new_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "dfs.state"
    written(path, {1: Claim(7, 2)})
    before = path.stat()
    state_file(path).follow(state_file(path).read(), Faults(Counters()), lambda: None)
    assert path.stat() == before


def test_a_damaged_file_is_said_put_aside_and_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "dfs.state"
    written(path, {1: Claim(7, 2)})
    octets = path.read_bytes()
    for damaged in (octets[:-1], octets[:30] + b"\xff" + octets[31:], b"", b"\0" * len(octets)):
        path.write_bytes(damaged)
        caplog.clear()
        assert state_file(path).read().of(1) == NO_CLAIM
        (record,) = caplog.records
        assert record.levelno == logging.ERROR
        assert f"state file {path} cannot be used: " in record.message
        assert f"it is {path}.damaged now" in record.message
        assert "may obey one that was replaced" in record.message
        assert (tmp_path / "dfs.state.damaged").read_bytes() == damaged
        assert not path.exists()


def test_the_file_of_another_dfs_is_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "dfs.state"
    written(path, {1: Claim(7, 2)}, segment_id=257)
    assert state_file(path).read().of(1) == NO_CLAIM
    assert "it is that of segment 257, and this is segment 256" in caplog.text


def test_a_pipe_in_its_place_holds_nobody_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    os.mkfifo(tmp_path / "dfs.state")
    assert state_file(tmp_path / "dfs.state").read().of(1) == NO_CLAIM
    assert "it is no file, but a pipe or a device" in caplog.text


def test_a_folder_that_is_not_there_is_said_at_the_start_and_when_it_is_needed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "gone" / "dfs.state"
    file = state_file(path)
    file.read()
    assert "cannot be written: its folder is not there" in caplog.text
    caplog.clear()
    epochs = written(path, {1: Claim(7, 2)})
    assert epochs.is_kept(1, Claim(7, 2), 1001.0)  # obeyed all the same
    file.follow(epochs, Faults(Counters()), lambda: None)
    assert "cannot be written: No such file or directory; trying again" in caplog.text


def test_without_a_file_that_is_said_and_nothing_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    file = state_file(None)
    epochs = file.read()
    file.warn_of_none()
    assert "no state_file: a DFS that starts again may obey" in caplog.text
    assert epochs.is_kept(1, Claim(7, 2), 1000.0)
    file.follow(epochs, Faults(Counters()), lambda: None)


def test_a_crash_while_it_is_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "dfs.state"
    written(path, {1: Claim(7, 2)})

    def fail(file: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("admin.disk.os.fsync", fail)
    epochs = written(path, {1: Claim(8, 1)})
    assert state_file(path).read().of(1) == Claim(7, 2)
    assert [each.name for each in tmp_path.iterdir()] == ["dfs.state"]
    assert epochs.take() is None  # not before it is time


def test_the_disk_is_not_waited_for_in_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []
    replace = disk.replace_file

    def noted(path: Path, octets: bytes) -> None:
        threads.append(threading.current_thread())
        replace(path, octets)

    monkeypatch.setattr("data_flow_segment.runtime.state_file.replace_file", noted)
    written(tmp_path / "dfs.state", {1: Claim(7, 2)})
    assert threads != [threading.main_thread()]
    assert len(threads) == 1
