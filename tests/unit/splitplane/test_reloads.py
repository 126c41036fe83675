# SPDX-License-Identifier: Apache-2.0
"""Reloads: one at a time, the last state of the file wins, and a large file is read in a process
of its own."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from admin.errors import CommandError, ConfigError
from control_segment.config import ControlSegmentConfig
from splitplane.config import load
from splitplane.reading import ConfigFile
from splitplane.reloads import Reloads

GOOD = """\
segment_id: 1
ssmb: {address: 192.0.2.1}
laboratory_no_authentication: true
data_flow_segments: [{address: 192.0.2.2}]
settings: {hello_interval_s: 7}
"""


def large(pools: int) -> str:
    lines = [
        f"  - {{name: p{n}, nodes: [{{name: a, address: 10.1.{n >> 8}.{n & 255}, port: 80}},"
        f" {{name: b, address: 10.2.{n >> 8}.{n & 255}}}]}}\n"
        for n in range(pools)
    ]
    servers = [
        f"  - {{name: s{n}, address: 10.3.{n >> 8}.{n & 255}, port: 80, protocol: tcp,"
        f" pool: p{n}}}\n"
        for n in range(pools)
    ]
    return GOOD + "pools:\n" + "".join(lines) + "virtual_servers:\n" + "".join(servers)


class File:
    """A file that takes as long to read as a test wants."""

    def __init__(self) -> None:
        self.state = "first"
        self.in_force = ""
        self.reads = 0
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()

    async def reload(self, say: Callable[[str], None]) -> None:
        self.reads += 1
        read = self.state
        self.begun.set()
        await self.go_on.wait()
        if read == "wrong":
            raise ConfigError(["cs.yaml:1: wrong"])
        self.in_force = read


def run(story: Callable[[File, Reloads], object]) -> None:
    async def test() -> None:
        file = File()
        await story(file, Reloads(file.reload))  # type: ignore[misc]

    asyncio.run(test())


def test_the_last_state_of_the_file_wins_however_many_ask_while_one_is_read() -> None:
    async def story(file: File, reloads: Reloads) -> None:
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(reloads.request())
            await file.begun.wait()
            file.state = "second"
            others = [tasks.create_task(reloads.request()) for _ in range(5)]
            await asyncio.sleep(0)
            file.state = "third"
            file.go_on.set()
            await first
            await asyncio.gather(*others)
        assert file.in_force == "third"
        assert file.reads == 2  # the five shared one

    run(story)


def test_who_shares_a_reading_shares_what_is_wrong_with_it() -> None:
    async def story(file: File, reloads: Reloads) -> None:
        first = asyncio.ensure_future(reloads.request())
        await file.begun.wait()
        file.state = "wrong"
        others = [asyncio.ensure_future(reloads.request()) for _ in range(2)]
        await asyncio.sleep(0)
        file.go_on.set()
        await first
        said = await asyncio.gather(*others, return_exceptions=True)
        assert [str(error) for error in said] == ["cs.yaml:1: wrong"] * 2
        assert file.in_force == "first"
        file.state = "better"
        await reloads.request()
        assert file.in_force == "better"

    run(story)


def test_a_reload_that_is_given_up_does_not_count_for_those_who_wait() -> None:
    async def story(file: File, reloads: Reloads) -> None:
        first = asyncio.ensure_future(reloads.request())
        await file.begun.wait()
        second = asyncio.ensure_future(reloads.request())
        await asyncio.sleep(0)
        first.cancel()
        file.go_on.set()
        await second
        assert file.reads == 2

    run(story)


@pytest.mark.parametrize("pools", [1, 500])
def test_a_process_of_its_own_reads_what_this_one_would(tmp_path: Path, pools: int) -> None:
    path = tmp_path / "cs.yaml"
    path.write_text(large(pools))
    here = load(path, ControlSegmentConfig)
    beside = asyncio.run(ConfigFile(path, in_thread_max=-1).load())
    assert beside == here
    assert beside.settings.hello_interval_s == 7
    assert [server.key for server in beside.virtual_servers] == [
        s.key for s in here.virtual_servers
    ]


def others(before: ControlSegmentConfig, after: ControlSegmentConfig) -> set[str]:
    """What is not the same object."""
    known = {id(each) for each in (*before.pools, *before.virtual_servers)}
    pools = {pool.name for pool in after.pools if id(pool) not in known}
    return pools | {server.name for server in after.virtual_servers if id(server) not in known}


def test_what_a_file_still_says_is_not_read_again(tmp_path: Path) -> None:
    path = tmp_path / "cs.yaml"
    file = ConfigFile(path, in_thread_max=-1)

    def loaded(text: str) -> ControlSegmentConfig:
        path.write_text(text)
        config = asyncio.run(file.load())
        assert config == load(path, ControlSegmentConfig)
        return config

    first = loaded(large(30))
    second = loaded(large(30).replace("10.1.0.7,", "10.1.0.207,"))
    assert others(first, second) == {"p7"}
    with pytest.raises(ConfigError):
        loaded(large(30).replace("port: 80", "port: 0"))
    third = loaded(large(29))
    assert others(second, third) == {"p7"}
    assert others(third, loaded(large(31))) == {"p29", "p30", "s29", "s30"}


def test_a_process_of_its_own_finds_the_same_mistakes(tmp_path: Path) -> None:
    path = tmp_path / "cs.yaml"
    path.write_text(large(3).replace("port: 80", "port: 0"))
    with pytest.raises(ConfigError) as here:
        load(path, ControlSegmentConfig)
    with pytest.raises(ConfigError) as beside:
        asyncio.run(ConfigFile(path, in_thread_max=-1).load())
    assert beside.value.problems == here.value.problems


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    for in_thread_max in (-1, 1 << 20):
        with pytest.raises(ConfigError, match=r"none\.yaml: there is no such file"):
            asyncio.run(ConfigFile(tmp_path / "none.yaml", in_thread_max=in_thread_max).load())


@pytest.mark.timeout(20)
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "cs.yaml"
    os.mkfifo(path)
    with pytest.raises(ConfigError, match=r"cs\.yaml: a pipe or device cannot be reloaded"):
        asyncio.run(ConfigFile(path).load())


@pytest.mark.timeout(60)
def test_what_has_no_end_is_refused_and_fills_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "cs.yaml"
    path.symlink_to("/dev/zero")
    with pytest.raises(ConfigError, match=r"cs\.yaml: a pipe or device cannot be reloaded"):
        asyncio.run(ConfigFile(path).load())
    with pytest.raises(ConfigError, match=r"cs\.yaml: larger than 33554432 octets; is it the rig"):
        load(path, ControlSegmentConfig)
    path.unlink()
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a hole: it takes no place on the disk
    with pytest.raises(ConfigError, match=r"cs\.yaml: larger than 33554432 octets"):
        asyncio.run(ConfigFile(path).load())


def test_a_pipe_may_be_read_at_the_start(tmp_path: Path) -> None:
    """`splitplane cs <(make-configuration)`"""
    read, write = os.pipe()
    try:
        os.write(write, GOOD.encode())
        os.close(write)
        assert load(Path(f"/dev/fd/{read}"), ControlSegmentConfig).segment_id == 1
    finally:
        os.close(read)


@pytest.mark.timeout(60)
def test_a_disk_that_hangs_holds_neither_the_loop_nor_later_reloads_nor_the_end() -> None:
    """It is read again when it answers; the second reload begins no second read."""
    reads = 0
    answers = threading.Event()

    def hanging(path: Path) -> str:
        nonlocal reads
        reads += 1
        assert answers.wait(60)
        return GOOD

    async def story() -> None:
        file = ConfigFile(Path("cs.yaml"), read=hanging, disk_wait_s=0.01)
        with pytest.raises(ConfigError, match="s; does its disk answer"):
            await file.load()
        with pytest.raises(ConfigError, match="an earlier read hangs; does its disk answer"):
            await file.load()
        assert reads == 1
        hung = file._reading
        assert hung is not None
        answers.set()
        await hung
        patient = ConfigFile(Path("cs.yaml"), read=hanging)
        assert (await patient.load()).segment_id == 1

    asyncio.run(story())


@pytest.mark.timeout(60)
def test_a_loop_ends_although_a_disk_hangs() -> None:
    answers = threading.Event()
    ended = threading.Event()

    def hanging(path: Path) -> str:
        answers.wait(60)
        ended.set()
        return GOOD

    async def story() -> None:
        with pytest.raises(ConfigError, match="does its disk answer"):
            await ConfigFile(Path("cs.yaml"), read=hanging, disk_wait_s=0.01).load()

    asyncio.run(story())  # returns
    assert not ended.is_set()
    answers.set()
    assert ended.wait(60)


def test_a_process_that_dies_is_an_error_and_no_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cs.yaml"
    path.write_text(large(1))
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(CommandError, match="the process that reads it ended early, with code 1"):
        asyncio.run(ConfigFile(path, in_thread_max=-1).load())


def test_where_no_process_can_be_started_the_reload_fails_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cs.yaml"
    path.write_text(large(1))
    monkeypatch.setattr("sys.executable", str(tmp_path / "none"))
    with pytest.raises(CommandError, match=r"no process could be started to read it: .*No such"):
        asyncio.run(ConfigFile(path, in_thread_max=-1).load())
