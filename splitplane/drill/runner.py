# SPDX-License-Identifier: Apache-2.0
"""One round of one scenario: the load, the failure in its middle, and what came of it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from admin.errors import CommandError
from splitplane.drill import load, roles
from splitplane.drill.flows import FINISH_S
from splitplane.drill.measure import Measurement, measure
from splitplane.drill.recording import Plan, Recording, Started, from_line
from splitplane.drill.roles import RoleChange
from splitplane.lab.processes import wait_for

_END_S: Final = FINISH_S + 30.0  # after the load's planned end: it hangs
_START_S: Final = 20.0  # for a load process to begin, on a busy machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Of one round, in seconds."""

    settle_s: float = 4.0  # load before the failure
    outage_s: float = 5.0  # from the failure until it is repaired
    after_s: float = 5.0  # from there to the end of the load


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """Something was done to the deployment."""

    at_s: float  # monotonic, when it began
    says: str
    took_s: float = 0.0


@dataclass(frozen=True, slots=True)
class TimedStep:
    """What is to be done, so long after the failure."""

    after_s: float
    says: str
    do: Callable[[], None]


class Deployment(Protocol):
    """What a drill runs against."""

    def sockets(self) -> Mapping[str, Path]:
        """The admin sockets to read roles from."""

    def inside(self, command: list[str]) -> list[list[str]]:
        """The command that starts a load, for each place that it starts from."""

    def active(self) -> str | None:
        """Which CS is active now, as far as is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What happened."""

    failure_s: float  # monotonic
    done: tuple[Done, ...]
    roles: tuple[RoleChange, ...]
    active_before: str | None
    active_after: str | None
    recording: Recording
    measurement: Measurement
    problems: tuple[str, ...]  # everything that makes the round a failed one

    @property
    def passed(self) -> bool:
        """Nothing was lost, and the right CS is active."""
        return not self.problems


def carry_out(
    deployment: Deployment,
    plan: Plan,
    steps: Sequence[TimedStep],
    folder: Path,
    expected: str,
    say: Callable[[str], None],
) -> Round:
    """Run the load, do the steps at their times after the planned failure, and evaluate.

    *folder* gets the recordings.  *expected*: "another", "same" or "either" CS is active at the
    end.  CommandError if the load or a step cannot be carried out.
    """
    before = deployment.active()
    with roles.Sampler(deployment.sockets()) as sampler, _loads(deployment, plan, folder) as loads:
        started = loads.wait_until_started()
        rate = plan.rate * loads.count
        say(f"load: {rate:g} new connections/s; the failure comes in {plan.failure_s:g} s")
        done = []
        for step in sorted(steps, key=lambda step: step.after_s):
            due = started + plan.failure_s + step.after_s
            loads.sleep_until(due)
            say(f"{step.after_s:+7.2f} s  {step.says}")
            done.append(_do(step))
        loads.wait()
        after = deployment.active()
        changes = sampler.changes
    failure = done[0].at_s if done else started + plan.failure_s
    recording = Recording.read(*loads.files)
    measurement = measure(recording, failure)
    return Round(
        failure_s=failure,
        done=tuple(done),
        roles=tuple(changes),
        active_before=before,
        active_after=after,
        recording=recording,
        measurement=measurement,
        problems=(*measurement.lost, *_misplaced(expected, before, after)),
    )


def _do(step: TimedStep) -> Done:
    at = time.monotonic()
    try:
        step.do()
    except CommandError as error:
        raise CommandError(f"{step.says}: {error}") from error
    return Done(at_s=at, says=step.says, took_s=time.monotonic() - at)


def _misplaced(expected: str, before: str | None, after: str | None) -> Iterator[str]:
    """What is wrong with who is active; nothing where it is not known."""
    if before is None and after is None:
        return
    if after is None:
        yield "no CS is active at the end"
    elif expected == "another" and after == before:
        yield f"no other CS took over: {after} is active at the end, as it was before"
    elif expected == "same" and after != before:
        yield f"{after} is active at the end, and there was no need for that: {before} was before"


class _Loads:
    """The load processes of one round."""

    def __init__(self, plan: Plan, children: list[subprocess.Popen[bytes]], files: list[Path]):
        self.files = files
        self._plan = plan
        self._children = children
        self._deadline = time.monotonic() + plan.seconds + _END_S

    @property
    def count(self) -> int:
        """How many."""
        return len(self._children)

    def wait_until_started(self) -> float:
        """When the last one of them began."""
        wait_for("the load to begin", lambda: all(map(_has_line, self.files)), _START_S)
        starts = [from_line(file.read_text().split("\n", 1)[0]) for file in self.files]
        return max(start.at_s for start in starts if isinstance(start, Started))

    def sleep_until(self, due: float) -> None:
        """Nothing else to do until then, and none may end before."""
        time.sleep(max(0.0, due - time.monotonic()))
        self._check()

    def _check(self) -> None:
        for child, file in zip(self._children, self.files, strict=True):
            if child.poll() not in (None, 0):
                said = file.with_suffix(".err").read_text().strip()
                raise CommandError(f"a load process ended with {child.returncode}: {said}")

    def wait(self) -> None:
        """Until all have ended."""
        for child in self._children:
            try:
                child.wait(max(0.0, self._deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                raise CommandError(f"the load has not ended {_END_S:g} s after its time") from None
        self._check()


def _has_line(file: Path) -> bool:
    return b"\n" in file.read_bytes()


@contextmanager
def _loads(deployment: Deployment, plan: Plan, folder: Path) -> Iterator[_Loads]:
    children: list[subprocess.Popen[bytes]] = []
    files: list[Path] = []
    with ExitStack() as stack:
        for number, command in enumerate(deployment.inside(load.command(plan)), 1):
            files.append(folder / f"load-{number}.jsonl")
            out = stack.enter_context(files[-1].open("wb"))
            err = stack.enter_context(files[-1].with_suffix(".err").open("wb"))
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
            )
            stack.callback(child.wait)
            stack.callback(child.kill)
            children.append(child)
        yield _Loads(plan, children, files)
