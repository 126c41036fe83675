# SPDX-License-Identifier: Apache-2.0
"""The last good configuration on disk, and a CS that follows the API and starts from it."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from admin.link.messages import Applied, Change, LinkError, Refused
from control_segment.config import ControlSegmentConfig
from control_segment.differences import Difference
from control_segment.runtime import memory
from control_segment.runtime.desired import copy, keeper
from control_segment.runtime.desired.copy import changes_path, folding_path, read_copy
from control_segment.runtime.desired.following import Following
from control_segment.runtime.desired.frames import Head, frame_of
from control_segment.runtime.desired.keeper import Keeper
from support.segments.dfs_double import CONFIG

Story = Callable[[], Coroutine[Any, Any, None]]
DOCUMENT = {name: CONFIG[name] for name in ("pools", "virtual_servers")}


def own(**fields: Any) -> ControlSegmentConfig:
    """A CS's file without anything that comes from the API."""
    left = {name: value for name, value in CONFIG.items() if name not in DOCUMENT}
    return ControlSegmentConfig.model_validate({**left, **fields})


def whole(generation: int = 1, group_id: int = 1, **document: Any) -> bytes:
    head = Head(generation=generation, made_at=generation * 10.0, group_id=group_id)
    return frame_of(head, {**DOCUMENT, **document})


def new_pool(name: str, generation: int, address: str = "10.9.9.9") -> Change:
    """A change that adds a pool, or gives it another node."""
    pool = {"name": name, "nodes": [{"name": "n", "address": address, "port": 80}]}
    return Change(
        generation=generation, since=generation - 1, made_at=generation * 10.0, pools=[pool]
    )


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, as long as a test may take."""
    for _ in range(6000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError


class Cs:
    """Notes what is put in force."""

    def __init__(self, path: Path | None, **options: Any) -> None:
        self.keeper = None if path is None else Keeper(path, retry_s=0.01)
        self.following = Following(own(), self.keeper, **options)
        self.in_force = [self.following.config]
        self.following.applies_by(self._put_in_force)

    async def _put_in_force(
        self, config: ControlSegmentConfig, difference: Difference | None
    ) -> None:
        self.in_force.append(config)

    @property
    def pools(self) -> list[str]:
        return [pool.name for pool in self.in_force[-1].pools]

    def run(self, story: Story) -> None:
        async def main() -> None:
            async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
                task = tasks.create_task(self.following.run())
                try:
                    await story()
                finally:
                    task.cancel()

        asyncio.run(main())

    def apply(self, *changes: Change | bytes) -> list[Applied | Refused]:
        answers: list[Applied | Refused] = []

        async def story() -> None:
            answers.extend([await self.following.apply(change) for change in changes])

        self.run(story)
        return answers


def test_a_cs_without_a_copy_starts_empty_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cs = Cs(tmp_path / "copy")
    assert (cs.pools, cs.following.generation) == ([], None)
    assert "there is none yet" in caplog.text


def test_a_cs_that_is_stopped_while_it_frees_the_old_configuration_has_kept_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stopped(things: list[object]) -> None:
        raise asyncio.CancelledError

    monkeypatch.setattr(memory, "let_go", stopped)
    cs = Cs(tmp_path / "copy")

    async def story() -> None:
        with pytest.raises(asyncio.CancelledError):
            await cs.following.apply(whole(1))

    cs.run(story)
    assert cs.following.generation == Cs(tmp_path / "copy").following.generation == 1


def test_what_was_applied_is_there_at_the_next_start(tmp_path: Path) -> None:
    assert Cs(tmp_path / "copy").apply(whole(1), new_pool("more", 2)) == [
        Applied(generation=1),
        Applied(generation=2),
    ]
    cs = Cs(tmp_path / "copy")
    assert (cs.pools, cs.following.generation, cs.following.made_at) == (["web", "more"], 2, 20.0)
    assert cs.in_force[0].virtual_servers[0].name == "www"


def test_a_small_change_does_not_write_the_whole_again(tmp_path: Path) -> None:
    path = tmp_path / "copy"
    Cs(path).apply(whole(1))
    before = path.read_bytes()
    Cs(path).apply(new_pool("more", 2), new_pool("more", 3, "10.9.9.8"))
    assert path.read_bytes() == before
    assert len(changes_path(path).read_bytes().splitlines()) == 2


def test_a_whole_one_takes_the_place_of_all_before_it(tmp_path: Path) -> None:
    Cs(tmp_path / "copy").apply(
        whole(1), new_pool("more", 2), whole(1, pools=[], virtual_servers=[])
    )
    cs = Cs(tmp_path / "copy")
    assert (cs.pools, cs.following.generation) == ([], 1)
    assert not changes_path(tmp_path / "copy").exists()


def test_a_large_one_is_read_by_another_process(tmp_path: Path) -> None:
    cs = Cs(tmp_path / "copy", in_thread_max=0)
    applied, refused = cs.apply(whole(1), whole(2, pools=[]))
    assert applied == Applied(generation=1)
    assert isinstance(refused, Refused)
    assert "there is no pool 'web'" in refused.problems[0]
    assert cs.pools == ["web"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (whole(2, group_id=7), "group 7"),
        (whole(2, pools=[]), "there is no pool 'web'"),
        (whole(2, pools=[{"name": "a", "nodes": [{"name": "n", "address": "x"}]}]), "address"),
        (frame_of(Head(generation=2, made_at=0.0, group_id=1), {})[:-1], "JSON"),
        (new_pool("more", 2, "no address"), "/pools/0/nodes/0/address"),
        (Change(generation=2, since=1, made_at=0.0, gone={"pools": ["web"]}), "no pool 'web'"),
        (
            Change(generation=2, since=1, made_at=0.0, settings={"grants": 7}),
            "grants",
        ),
        (
            Change(generation=2, since=1, made_at=0.0, monitors=[
                {"name": "m", "kind": "script", "script": {"name": "x"}}]),
            "monitor_scripts",
        ),
        (
            Change(generation=2, since=1, made_at=0.0, monitors=[
                {"name": "m", "kind": "http", "http": {"secret_headers": {"Cookie": "x"}}}]),
            "monitor_secrets",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_with_the_reason_and_changes_nothing(
    tmp_path: Path, change: Change | bytes, said: str
) -> None:
    cs = Cs(tmp_path / "copy")
    _, refused = cs.apply(whole(1), change)
    assert isinstance(refused, Refused)
    assert refused.generation == 2
    assert said in " ".join(refused.problems)
    assert (cs.pools, cs.following.generation) == (["web"], 1)
    assert Cs(tmp_path / "copy").following.generation == 1


def test_what_a_cs_cannot_put_in_force_is_refused(tmp_path: Path) -> None:
    cs = Cs(tmp_path / "copy")

    async def refuse(_: ControlSegmentConfig, difference: Difference | None) -> None:
        raise ValueError("it needs a restart")

    cs.following.applies_by(refuse)
    assert cs.apply(whole(1)) == [Refused(generation=1, problems=["it needs a restart"])]
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize(
    "change",
    [
        new_pool("more", 5),
        Change(generation=2, since=1, made_at=0.0, gone={"pools": ["other"]}),
    ],
)
def test_a_change_of_another_configuration_makes_the_cs_ask_for_the_whole(change: Change) -> None:
    cs = Cs(None)
    cs.apply(whole(1))
    with pytest.raises(BaseExceptionGroup) as raised:
        cs.apply(change)
    assert raised.group_contains(LinkError)
    assert cs.following.generation is None
    cs.apply(whole(6))
    assert cs.following.generation == 6


def test_a_frame_that_is_none_is_no_reason_to_refuse_a_generation() -> None:
    with pytest.raises(BaseExceptionGroup) as raised:
        Cs(None).apply(b"nothing")
    assert raised.group_contains(LinkError)


def test_a_change_leaves_what_it_does_not_name_as_the_same_objects() -> None:
    cs = Cs(None)
    cs.apply(whole(1), new_pool("more", 2))
    assert cs.in_force[-1].pools[0] is cs.in_force[-2].pools[0]
    assert cs.in_force[-1].virtual_servers == cs.in_force[-2].virtual_servers
    assert cs.in_force[-1].settings is cs.in_force[-2].settings


# --- what may be on the disk ----------------------------------------------------------------------


def two_generations(path: Path) -> None:
    Cs(path).apply(whole(1), new_pool("more", 2), new_pool("third", 3))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda octets: octets[:-5], "cut off"),
        (lambda octets: octets[:-5] + b"XXXXX", "checksum"),
        (lambda octets: b"something else\n", "no copy"),
        (lambda octets: b"", "no copy"),
    ],
)
def test_a_broken_copy_is_said_and_ignored(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[bytes], bytes],
    said: str,
) -> None:
    path = tmp_path / "copy"
    two_generations(path)
    path.write_bytes(damage(path.read_bytes()))
    cs = Cs(path)
    assert (cs.pools, cs.following.generation) == ([], None)
    assert said in caplog.text
    cs.apply(whole(4))
    assert Cs(path).following.generation == 4


def test_a_copy_of_another_group_is_ignored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy.write_whole(tmp_path / "copy", whole(1, group_id=2), "x")
    assert Cs(tmp_path / "copy").following.generation is None
    assert "group 2" in caplog.text


def test_a_crash_at_any_octet_of_the_last_change_leaves_the_one_before_it(tmp_path: Path) -> None:
    path = tmp_path / "copy"
    two_generations(path)
    changes = changes_path(path).read_bytes()
    first = changes.index(b"\n") + 1
    for end in range(first, len(changes)):
        changes_path(path).write_bytes(changes[:end])
        kept = read_copy(path)
        assert kept.head.generation == 2
        assert bool(kept.complaints) == (end > first)
    changes_path(path).write_bytes(changes)
    assert read_copy(path).head.generation == 3


def test_a_change_that_was_cut_off_is_taken_away_before_others_follow(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "copy"
    two_generations(path)
    changes_path(path).write_bytes(changes_path(path).read_bytes()[:-3])
    cs = Cs(path)
    assert (cs.pools, cs.following.generation) == (["web", "more"], 2)
    assert "cut off" in caplog.text
    cs.apply(new_pool("again", 3))
    assert Cs(path).pools == ["web", "more", "again"]


def test_changes_behind_a_wrong_one_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "copy"
    two_generations(path)
    first, second, _ = changes_path(path).read_bytes().split(b"\n")
    changes_path(path).write_bytes(first[:-1] + b"?\n" + second + b"\n")
    kept = read_copy(path)
    assert kept.head.generation == 1
    assert "checksum" in kept.complaints[0]


def test_changes_of_an_earlier_whole_one_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "copy"
    two_generations(path)
    copy.write_frame(path, whole(1), "a later lineage".replace(" ", "-"))  # and then a crash
    kept = read_copy(path)
    assert (kept.head.generation, kept.complaints) == (1, [])


def test_changes_are_folded_by_another_process_and_nothing_is_lost_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "copy"
    monkeypatch.setattr(keeper, "FOLD_OCTETS", 1)
    cs = Cs(path)

    async def story() -> None:
        await cs.following.apply(whole(1))
        await cs.following.apply(new_pool("more", 2))
        await cs.following.apply(new_pool("third", 3))
        await until(
            lambda: (
                not folding_path(path).exists()
                and read_copy(path, with_changes=False).head.generation >= 2
                # written behind a folding that takes long, nobody waited for it
                and read_copy(path).head.generation == 3
            )
        )

    cs.run(story)
    kept = read_copy(path)
    assert (kept.head.generation, kept.complaints) == (3, [])
    assert [pool["name"] for pool in kept.configuration["pools"]] == ["web", "more", "third"]
    assert Cs(path).pools == ["web", "more", "third"]


def test_a_crash_between_folding_and_taking_the_changes_away_repeats_nothing(
    tmp_path: Path,
) -> None:
    path = tmp_path / "copy"
    two_generations(path)
    kept = read_copy(path)
    changes_path(path).rename(folding_path(path))
    copy.write_frame(path, frame_of(kept.head, kept.configuration), kept.lineage)
    again = read_copy(path)
    assert (again.head, again.complaints) == (kept.head, [])


# --- a disk that does not do what it should -------------------------------------------------------


def test_a_full_disk_costs_the_copy_only_and_is_written_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = tmp_path / "copy"
    full = [True]
    write, append = copy.write_whole, copy.append_lines

    def no_room(action: Callable[..., Any]) -> Callable[..., Any]:
        def attempt(*arguments: Any) -> Any:
            if full[0]:
                raise OSError(28, "No space left on device")
            return action(*arguments)

        attempt.__name__ = action.__name__
        return attempt

    monkeypatch.setattr(copy, "write_whole", no_room(write))
    monkeypatch.setattr(copy, "append_lines", no_room(append))
    cs = Cs(path)

    async def story() -> None:
        for change in (whole(1), new_pool("more", 2), new_pool("third", 3)):
            assert isinstance(await cs.following.apply(change), Applied)
        full[0] = False
        await until(lambda: "is written again" in caplog.text)

    cs.run(story)
    assert caplog.text.count("No space left on device") == 1
    assert Cs(path).pools == ["web", "more", "third"]


def test_changes_that_are_too_many_for_a_full_disk_make_the_cs_ask_for_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "LINES_OCTETS_MAX", 1)
    cs = Cs(tmp_path / "copy")

    async def story() -> None:
        await cs.following.apply(whole(1))
        await cs.following.apply(new_pool("more", 2))
        assert (cs.pools, cs.following.generation) == (["web", "more"], None)
        await cs.following.apply(whole(3))
        assert cs.following.generation == 3

    cs.run(story)
    assert Cs(tmp_path / "copy").following.generation == 3


def test_a_line_is_json_that_people_can_read(tmp_path: Path) -> None:
    path = tmp_path / "copy"
    two_generations(path)
    line = changes_path(path).read_text().splitlines()[0]
    assert json.loads(line.split(" ", 2)[2])["pools"][0]["name"] == "more"
