# SPDX-License-Identifier: Apache-2.0
"""All scenarios and rounds of a drill, one after the other, in the laboratory or elsewhere."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from admin.errors import CommandError, ConfigError
from splitplane import __version__
from splitplane.drill.field import Field
from splitplane.drill.operators import OperatorsDeployment, OperatorsFile
from splitplane.drill.operators import steps as operators_steps
from splitplane.drill.results import Drill, Played, in_a_row, timeline
from splitplane.drill.runner import Round, TimedStep, Times, carry_out
from splitplane.drill.scenarios import SCENARIOS, Scenario

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a drill is carried out."""

    rounds: int
    times: Times
    rate: float  # of all load processes together
    timeout_s: float = 10.0  # of a new connection
    folder: Path
    timings: str = "default"
    cs_count: int = 2
    name: str = "drill"  # of the laboratory
    target: str = "bpf"


def in_laboratory(names: Sequence[str], options: Options, say: Say) -> Drill:
    """These scenarios (none: all), each round in a new laboratory."""
    scenarios = _chosen(names, SCENARIOS)
    clients = 2
    plan = Field(options.name, clients=clients).plan(**_choices(options, clients, options.times))
    return Drill(
        release=__version__,
        machine=_machine(),
        deployment=(
            f"laboratory on one machine: {options.cs_count} CSs, one DFS (target"
            f" {options.target}), {clients} clients, 3 nodes"
        ),
        timings=options.timings,
        plan=plan,
        loads=clients,
        scenarios=tuple(
            _played(
                name,
                scenario.title,
                scenario.active,
                scenario.lack(),
                partial(_round_in_laboratory, scenario, options, clients),
                options,
                say,
            )
            for name, scenario in scenarios.items()
        ),
    )


def _round_in_laboratory(
    scenario: Scenario, options: Options, clients: int, folder: Path, say: Say
) -> Round:
    times = options.times
    with Field(
        options.name,
        cs_count=options.cs_count,
        clients=clients,
        target=options.target,
        timings=options.timings,
    ) as field:
        steps = [
            TimedStep(
                times.outage_s if step.after_s is None else step.after_s,
                step.says,
                partial(step.do, field),
            )
            for step in scenario.steps
        ]
        plan = field.plan(**_choices(options, clients, times))
        return carry_out(field, plan, steps, times, folder, scenario.active, say)


def of_operator(file: OperatorsFile, names: Sequence[str], options: Options, say: Say) -> Drill:
    """These scenarios of the operator's file (none: all), against the deployment that it names."""
    deployment = OperatorsDeployment(file)
    clients = len(file.load.clients)
    scenarios = _chosen(names, file.scenarios)

    def play(name: str) -> Played:
        section = scenarios[name]
        times = options.times
        if section.outage_s is not None:
            times = replace(times, outage_s=section.outage_s)

        def one(folder: Path, say: Say) -> Round:
            plan = deployment.plan(**_choices(options, clients, times))
            steps = operators_steps(section, times.outage_s)
            return carry_out(deployment, plan, steps, times, folder, section.active, say)

        return _played(name, section.title or section.fail, section.active, "", one, options, say)

    return Drill(
        release=__version__,
        machine=_machine(),
        deployment=f"of the operator: {', '.join(file.load.addresses)}",
        timings="as deployed",
        plan=deployment.plan(**_choices(options, clients, options.times)),
        loads=clients,
        scenarios=tuple(play(name) for name in scenarios),
    )


def _choices(options: Options, clients: int, times: Times) -> dict[str, Any]:
    """What a drill decides of a plan."""
    return {
        "seconds": times.seconds,
        "failure_s": times.settle_s,
        "rate": options.rate / clients,
        "timeout_s": options.timeout_s,
    }


def _chosen(names: Sequence[str], known: dict[str, Any]) -> dict[str, Any]:
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError([f"there is no scenario {unknown[0]!r}; there are: {', '.join(known)}"])
    return {name: known[name] for name in names or known}


def _played(
    name: str,
    title: str,
    expected: str,
    lack: str,
    one: Callable[[Path, Say], Round],
    options: Options,
    say: Say,
) -> Played:
    rounds: list[Round] = []
    errors: list[str] = []
    if lack:
        say(f"=== {name}: skipped: {lack}")
    for number in range(1, 1 + (0 if lack else options.rounds)):
        of = f" (round {number} of {options.rounds})" if options.rounds > 1 else ""
        say(f"=== {name}{of}: {title}")
        folder = options.folder / f"{name}-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        try:
            rounds.append(one(folder, say))
        except CommandError as error:
            errors.append(str(error))
            say(f"it could not be carried out: {error}")
        else:
            for sentence in _said(rounds[-1]):
                say(sentence)
    return Played(name, title, expected, tuple(rounds), tuple(errors), lack)


def _said(round_: Round) -> Iterator[str]:
    """The timeline and the outcome, for the screen."""
    found = round_.measurement
    if len(round_.failures) > 1:
        yield in_a_row(round_.failures)
    else:
        for at_ms, what in timeline(round_):
            yield f"{at_ms / 1000:+9.3f} s  {what}"
    yield (
        f"longest gap between new connections {found.after.longest_gap_ms:.0f} ms (before the"
        f" failure {found.before.longest_gap_ms:.0f} ms), slowest connect"
        f" {found.after.slowest_ms:.0f} ms"
    )
    for problem in round_.problems:
        yield f"FAILED: {problem}"
    if round_.passed:
        yield "passed: nothing was lost"


def _machine() -> str:
    return (
        f"Linux {platform.release()} on {platform.machine()}, {os.cpu_count()} processors,"
        f" Python {platform.python_version()}"
    )
