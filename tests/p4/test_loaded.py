# SPDX-License-Identifier: Apache-2.0
"""A program that somebody else loaded: adopted, never replaced; and one of the switch's own."""

from __future__ import annotations

import contextlib
import select
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from data_flow_segment.targets.contract import InstallFlow, TargetError, Waiting
from data_flow_segment.targets.p4runtime import line
from data_flow_segment.targets.p4runtime.driver import Driver
from data_flow_segment.targets.p4runtime.operations import Connected, Lost
from data_flow_segment.targets.p4runtime.options import P4RuntimeOptions, ProgramOptions
from data_flow_segment.targets.p4runtime.program import Program, split
from data_flow_segment.targets.p4runtime.target import P4RuntimeTarget
from support.octets.packets import TCP_PROTOCOL
from support.targets.p4_model_rig import P4ModelRig
from support.targets.rig import IPV4
from support.targets.scene import Scene
from support.targets.switch_sessions import (
    WAIT_S,
    Fake,
    Switch,
    do,
    everything,
    insert,
    numbers,
    one,
    opened,
    options,
)

P4: Final = Path(__file__).parents[2] / "p4"
LOADED: Final = ProgramOptions(P4 / "dfs.p4info.txtpb", None, 510)


def loaded(switch: Switch) -> P4RuntimeOptions:
    """What must never be used with a program of the switch's: that it may be replaced."""
    return replace(options(switch), program=LOADED, replace_program=False)


def load(switch: Switch, drivers: contextlib.ExitStack) -> None:
    """As somebody does who then goes away."""
    opened(drivers, options(switch))[0].close()


def test_it_is_adopted_and_what_is_in_it_outlives_the_agent(
    switch: Switch, drivers: contextlib.ExitStack
) -> None:
    load(switch, drivers)
    program = Program.load(LOADED)
    first, found = opened(drivers, loaded(switch), program)
    assert (found.pushed, found.renewed) == (False, True)
    do(first, insert(1))
    first.close()
    second, again = opened(drivers, loaded(switch), program)
    assert again == Connected(pushed=False, cookie=found.cookie)
    assert split(again.cookie).boot_id != 0
    (there,) = do(second, everything())
    assert numbers(there) == {1}


def test_it_is_left_as_it_was_found(switch: Switch, drivers: contextlib.ExitStack) -> None:
    load(switch, drivers)
    program = Program.load(LOADED)
    first, before = opened(drivers, loaded(switch), program)
    first.submit([insert(1, 2, 3)])
    first.close(forget=True)
    second, after = opened(drivers, loaded(switch), program)
    assert after.renewed
    assert split(after.cookie).boot_id != split(before.cookie).boot_id
    (there,) = do(second, everything())
    assert numbers(there) == set()


class Heard(Exception):
    """What the agent waits for."""


def hears(fake: Fake, program: Program) -> str:
    def hear(waiting: Waiting) -> None:
        raise Heard(waiting.reason)

    with pytest.raises(Heard) as caught:
        Driver.open(loaded(fake), program, on_wait=hear)
    return str(caught.value)


def test_one_that_is_not_there_yet_is_waited_for(fake: Fake) -> None:
    said = hears(fake, Program.load(LOADED))
    assert "it has no program yet" in said
    assert said.endswith("loaded by somebody else; waiting for it")


def other_table_id(fake: Fake) -> None:
    fake.model.config.p4info.tables[0].preamble.id += 1


def fewer_actions(fake: Fake) -> None:
    fake.model.config.p4info.actions.pop()


@pytest.mark.parametrize(
    ("change", "said"), [(other_table_id, "has another id"), (fewer_actions, "it has no action .*")]
)
def test_another_one_than_the_file_describes_is_refused(
    fake: Fake, drivers: contextlib.ExitStack, change: Callable[[Fake], None], said: str
) -> None:
    load(fake, drivers)
    change(fake)
    with pytest.raises(TargetError, match=f"p4info_file describes: .*{said}; correct the file"):
        Driver.open(loaded(fake), Program.load(LOADED))


def test_tables_that_somebody_emptied_begin_anew(
    fake: Fake, drivers: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line, "PULSE_S", 0.05)
    load(fake, drivers)
    driver, before = opened(drivers, loaded(fake), Program.load(LOADED))
    with fake.model.frozen():
        fake.model.entries.clear()
    assert one(driver, Lost).reason.endswith("the switch's program was replaced")
    assert one(driver, Connected) == before, "with the same boot_id: the agent has all of it"


def test_one_for_this_switch_is_installed_and_copies_go_to_its_port(
    fake: Fake, drivers: contextlib.ExitStack, tmp_path: Path
) -> None:
    (tmp_path / "binary").write_bytes(b"of another compiler")
    given = ProgramOptions(P4 / "dfs.p4info.txtpb", tmp_path / "binary", 320)
    wanted = replace(options(fake), program=given)
    _, found = opened(drivers, wanted, Program.load(given))
    assert found.pushed
    assert fake.model.config.p4_device_config == b"of another compiler"
    clones = fake.model.entries["clone", 1].packet_replication_engine_entry.clone_session_entry
    assert [replica.egress_port for replica in clones.replicas] == [320]


@pytest.fixture
def model() -> Iterator[P4ModelRig]:
    made = P4ModelRig()
    yield made
    made.close()


def test_flows_survive_the_agent_and_are_written_again_into_emptied_tables(
    fake: Fake,
    model: P4ModelRig,
    drivers: contextlib.ExitStack,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(line, "PULSE_S", 0.05)
    load(fake, drivers)
    wanted = replace(model.options, address=fake.address, program=LOADED)
    entry = Scene(model, IPV4, TCP_PROTOCOL).entry()
    first = P4RuntimeTarget.open(wanted)
    try:
        assert not first.adopted
        first.apply([InstallFlow(entry)])
        assert first.settle()
    finally:
        first.close(detach=False)
    second = P4RuntimeTarget.open(wanted)
    try:
        assert (second.adopted, second.boot_id, second.flow_count()) == (True, first.boot_id, 1)
        with fake.model.frozen():
            there = set(map(str, fake.model.entries))
            fake.model.entries.clear()
        deadline = time.monotonic() + WAIT_S
        while not _is_refilled(second):
            assert time.monotonic() < deadline
            select.select([second.fileno()], [], [], 1)
            second.events()
        assert second.settle(WAIT_S)
        with fake.model.frozen():
            assert there <= set(map(str, fake.model.entries))
        assert second.flow_count() == 1
    finally:
        second.close(detach=False)


def _is_refilled(target: P4RuntimeTarget) -> bool:
    is_new = target.counters()["switch_refilled"].value > 0
    return is_new and target.phase == "ready" and not target._core.is_working
