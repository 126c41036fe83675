# SPDX-License-Identifier: Apache-2.0
"""The failures of a drill: what is done when, and whether another CS is to be active afterwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from splitplane.drill.field import CLOCK_JUMP, Field

Action: TypeAlias = Callable[[Field], None]
SUPERVISOR_S: Final = (
    1.0  # after which a supervisor has started an agent again: RestartSec= of systemd
)
_HOUR_S: Final = 3600


@dataclass(frozen=True, slots=True)
class Step:
    """Something that is done at a time after the failure; None: when it is repaired."""

    after_s: float | None
    says: str
    do: Action


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of failure."""

    name: str
    title: str
    steps: tuple[Step, ...]
    # the CS that the DFS obeys at the end: another one, the same, or either
    active: Literal["another", "same", "either"] = "another"
    lack: Callable[[], str] = lambda: ""  # why this machine cannot do it; "": it can


def _victim(do: Callable[[Field, str], None]) -> Action:
    return lambda field: do(field, field.victim)


def _standby(field: Field) -> str:
    return next(name for name in field.control_segments if name != field.victim)


def _cut(other: Literal["dfs", "cs"], way: Literal["to", "from", "both"]) -> Action:
    def cut(field: Field) -> None:
        if other == "dfs":
            field.cut(field.victim, "dfs", way)
        else:
            field.cut(field.victim, _standby(field), way)

    return cut


_KILL: Final = Step(0.0, "kill -9 of the active CS", _victim(Field.kill))
_START: Final = Step(None, "the killed CS is started again", _victim(Field.start))
_KILL_AGENT: Final = Step(0.0, "kill -9 of the agent (DFS)", lambda field: field.kill("dfs"))
_START_AGENT: Final = Step(
    SUPERVISOR_S, "the agent is started again", lambda field: field.start("dfs")
)
_MEND: Final = Step(None, "the partition is over", _victim(Field.mend))


def _partition(
    name: str,
    what: str,
    cut: Action,
    active: Literal["another", "same", "either"],
) -> Scenario:
    return Scenario(name, f"partition: {what}", (Step(0.0, what, cut), _MEND), active)


def _fill_all(field: Field) -> None:
    for segment in ("dfs", *field.control_segments):
        field.fill_disk(segment)


def _empty_all(field: Field) -> None:
    for segment in ("dfs", *field.control_segments):
        field.empty_disk(segment)


def _no_clock_jump() -> str:
    if CLOCK_JUMP.is_file():
        return ""
    return f"{CLOCK_JUMP} is not compiled: run make bpf in a checkout"


SCENARIOS: Final = {
    scenario.name: scenario
    for scenario in (
        Scenario("kill", "kill -9 of the active CS", (_KILL, _START)),
        Scenario(
            "hang",
            "the active CS hangs (SIGSTOP), and later goes on",
            (
                Step(0.0, "SIGSTOP to the active CS", _victim(Field.stop)),
                Step(None, "SIGCONT: it goes on where it was", _victim(Field.resume)),
            ),
        ),
        Scenario(
            "link",
            "the link of the active CS is down",
            (
                Step(0.0, "its link goes down", lambda field: field.link(field.victim, "down")),
                Step(None, "its link is up again", lambda field: field.link(field.victim, "up")),
            ),
        ),
        _partition(
            "partition-dfs",
            "the active CS and the DFS do not reach each other",
            _cut("dfs", "both"),
            "another",
        ),
        _partition(
            "partition-to-dfs",
            "nothing of the active CS reaches the DFS",
            _cut("dfs", "to"),
            "another",
        ),
        _partition(
            "partition-from-dfs",
            "nothing of the DFS reaches the active CS",
            _cut("dfs", "from"),
            "another",
        ),
        _partition(
            "partition-cs",
            "the CSs do not reach each other; both reach the DFS",
            _cut("cs", "both"),
            "same",
        ),
        _partition(
            "partition-to-cs",
            "nothing of the active CS reaches the standby directly",
            _cut("cs", "to"),
            "same",
        ),
        Scenario(
            "clock",
            "the clock of the active CS jumps an hour ahead, and back",
            (
                Step(
                    0.0,
                    "its clock jumps ahead",
                    lambda field: field.jump_clock(field.victim, _HOUR_S),
                ),
                Step(None, "its clock jumps back", lambda field: field.jump_clock(field.victim, 0)),
            ),
            "same",
            _no_clock_jump,
        ),
        Scenario(
            "disk",
            "the disks for state files are full, and the active CS is killed",
            (
                Step(0.0, "every state file's disk is full", _fill_all),
                _KILL,
                Step(None, "the disks have room again", _empty_all),
                _START,
            ),
        ),
        Scenario(
            "slow",
            "the active CS gets a fifth of a processor, in turns of 50 ms",
            (
                Step(0.0, "the active CS is slow", _victim(Field.slow)),
                Step(None, "it is as fast as before", Field.hurry),
            ),
            "either",
        ),
        Scenario(
            "agent",
            "kill -9 of the agent (DFS); a supervisor starts it again",
            (_KILL_AGENT, _START_AGENT),
            "either",
        ),
        Scenario(
            "both",
            "kill -9 of the active CS and the agent at once",
            (_KILL, _KILL_AGENT, _START_AGENT, _START),
            "either",
        ),
        Scenario(
            "switchover",
            "switch-over by command",
            (Step(0.0, "splitplane switchover", _victim(Field.switch_over)),),
        ),
    )
}
