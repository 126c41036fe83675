# SPDX-License-Identifier: Apache-2.0
"""One round of one scenario: the load, the failures in its middle, and what came of them."""

from __future__ import annotations

import math
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
from splitplane.drill.measure import Measurement, gaps_ms, measure
from splitplane.drill.recording import Plan, Recording, Started, from_line
from splitplane.drill.roles import RoleChange
from splitplane.lab.processes import wait_for

_END_S: Final = FINISH_S + 30.0  # after the load's planned end: it hangs
_LATE_S: Final = 1.0  # that the last failure may be late: some load is left after its repair
_LOOK_AGAIN_S: Final = 0.05
_START_S: Final = 20.0  # for a load process to begin, on a busy machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Of one round, in seconds."""

    settle_s: float = 4.0  # load before the failure
    outage_s: float = 5.0  # from a failure until it is repaired
    after_s: float = 5.0  # from there to the next one, or to the end of the load
    failures: int = 1  # in a row, under one load

    @property
    def period_s(self) -> float:
        """From one failure to the next."""
        return self.outage_s + self.after_s

    @property
    def seconds(self) -> float:
        """Of load."""
        return self.settle_s + self.failures * self.period_s


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One of a round."""

    at_s: float  # monotonic, when it began
    gap_ms: float  # the longest between two successful new connections, until the next failure
    ready_ms: float | None  # from the repair until all was redundant again; None: not awaited
    active_before: str | None
    active_after: str | None


class Deployment(Protocol):
    """What a drill runs against."""

    def sockets(self) -> Mapping[str, Path]:
        """The admin sockets to read roles from."""

    def inside(self, command: list[str]) -> list[list[str]]:
        """The command that starts a load, for each place that it starts from."""

    def active(self) -> str | None:
        """Which CS is active now, as far as is known."""

    def is_ready(self) -> bool:
        """Whether a failure may come now: as far as is known, another CS can take over at once."""

    def choose_victim(self) -> None:
        """The next failure is that of the CS that is active now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What happened."""

    failures: tuple[Failure, ...]
    done: tuple[Done, ...]
    roles: tuple[RoleChange, ...]
    recording: Recording
    measurement: Measurement
    problems: tuple[str, ...]  # everything that makes the round a failed one

    @property
    def failure_s(self) -> float:
        """When the first one began, monotonic."""
        return self.failures[0].at_s

    @property
    def active_before(self) -> str | None:
        """The CS that was active before all of it."""
        return self.failures[0].active_before

    @property
    def active_after(self) -> str | None:
        """The CS that was active at the end."""
        return self.failures[-1].active_after

    @property
    def passed(self) -> bool:
        """Nothing was lost, and the right CS was active after each failure."""
        return not self.problems


def carry_out(
    deployment: Deployment,
    plan: Plan,
    steps: Sequence[TimedStep],
    times: Times,
    folder: Path,
    expected: str,
    say: Callable[[str], None],
) -> Round:
    """Run the load, do the steps at their times after each failure, and evaluate.

    A failure after the first one waits until all is redundant again, so there may be fewer than
    *times* asks for, which is a problem of the round.  *folder* gets the recordings.  *expected*:
    "another", "same" or "either" CS is active after each failure.  CommandError if the load or a
    step cannot be carried out.
    """
    caused: list[_Caused] = []
    with roles.Sampler(deployment.sockets()) as sampler, _loads(deployment, plan, folder) as loads:
        started = loads.wait_until_started()
        rate = plan.rate * loads.count
        say(f"load: {rate:g} new connections/s; the failure comes in {plan.failure_s:g} s")
        ordered = sorted(steps, key=lambda step: step.after_s)
        due, last = started + plan.failure_s, started + times.seconds - times.period_s
        before = deployment.active()
        while len(caused) < times.failures and due <= last + _LATE_S:
            loads.sleep_until(due)
            deployment.choose_victim()
            caused.append(_cause(ordered, due, before, loads, say))
            if len(caused) < times.failures:
                due = _ready(deployment, caused[-1], due + times.period_s, last, loads)
                before = caused[-1].active_after
        loads.wait()
        caused[-1].active_after = deployment.active()
        changes = sampler.changes
    recording = Recording.read(*loads.files)
    failures = _evaluated(caused, recording)
    measurement = measure(recording, failures[0].at_s)
    return Round(
        failures=failures,
        done=tuple(done for one in caused for done in one.done),
        roles=tuple(changes),
        recording=recording,
        measurement=measurement,
        problems=(*measurement.lost, *wrong(expected, failures, times.failures)),
    )


@dataclass(slots=True)
class _Caused:
    """A failure, while its round goes on."""

    at_s: float
    done: list[Done]
    active_before: str | None
    active_after: str | None = None
    ready_ms: float | None = None


def _cause(
    steps: Sequence[TimedStep],
    due: float,
    before: str | None,
    loads: _Loads,
    say: Callable[[str], None],
) -> _Caused:
    done: list[Done] = []
    for step in steps:
        # from when it failed, which a busy machine may delay: an outage must not be shorter
        loads.sleep_until((done[0].at_s if done else due) + step.after_s)
        since = time.monotonic() - done[0].at_s if done else 0.0
        say(f"{since:+7.2f} s  {step.says}")
        done.append(_do(step))
    return _Caused(done[0].at_s if done else due, done, before)


def _ready(
    deployment: Deployment, caused: _Caused, due: float, last: float, loads: _Loads
) -> float:
    """When the next failure comes: as planned if all is redundant by then, or once it is; after
    *last* if that is too late for this load."""
    since = max((step.at_s for step in caused.done), default=caused.at_s)
    while not (deployment.is_ready() and _is_known(deployment, caused)):
        loads.sleep_until(time.monotonic() + _LOOK_AGAIN_S)
        if time.monotonic() > last + _LATE_S:
            return math.inf
    now = time.monotonic()
    caused.ready_ms = 1000 * (now - since)
    return max(due, now)


def _is_known(deployment: Deployment, caused: _Caused) -> bool:
    """Note which CS is active; whether that is known, if it was before the failure."""
    caused.active_after = deployment.active()
    return caused.active_after is not None or caused.active_before is None


def _do(step: TimedStep) -> Done:
    at = time.monotonic()
    try:
        step.do()
    except CommandError as error:
        raise CommandError(f"{step.says}: {error}") from error
    return Done(at_s=at, says=step.says, took_s=time.monotonic() - at)


def _evaluated(caused: Sequence[_Caused], recording: Recording) -> tuple[Failure, ...]:
    lengths = gaps_ms(recording, [one.at_s for one in caused])
    return tuple(
        Failure(
            at_s=one.at_s,
            gap_ms=gap_ms,
            ready_ms=one.ready_ms,
            active_before=one.active_before,
            active_after=one.active_after,
        )
        for one, gap_ms in zip(caused, lengths, strict=True)
    )


def wrong(expected: str, failures: Sequence[Failure], wanted: int) -> Iterator[str]:
    """What is wrong with the failures themselves."""
    for number, failure in enumerate(failures, 1):
        of = f"failure {number}: " if len(failures) > 1 else ""
        for problem in _misplaced(expected, failure.active_before, failure.active_after):
            yield of + problem
    if len(failures) < wanted:
        yield (
            f"only {len(failures)} of {wanted} failures in a row: it took longer than --after until"
            " another CS could take over again"
        )


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
