# SPDX-License-Identifier: Apache-2.0
"""What holds for all tests: no segment may meet a mistake of its own (`admin.faults`), the BPF file
system is mounted, what leaks fails itself (`support.leaks`), what shares something costly runs in
one process (`support.parallel`), and the tests that were skipped are summed up by their reasons."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
from collections import Counter
from collections.abc import Generator, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

import support.compiled  # before anything that may be compiled
import support.postgres
from admin.errors import MachineError
from admin.faults import Faults
from splitplane import logs, machine
from support.costs import Costs
from support.leaks import LeakDetector
from support.parallel import GroupScheduling, long_ones_first


def pytest_addoption(parser: pytest.Parser) -> None:
    """Called by pytest once, in every process."""
    parser.addoption("--costs", action="store_true", help="report the processor seconds of tests")


def pytest_configure(config: pytest.Config) -> None:
    """Called by pytest once, in every process."""
    # a shell without job control starts what is in the background with SIGINT ignored, and so would
    # every process be that a test starts and interrupts
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # of segments that tests start, whose words they read
    os.environ[logs.VARIABLE] = "text"
    config.pluginmanager.register(LeakDetector())
    if config.getoption("--costs"):
        config.pluginmanager.register(Costs())
    config.pluginmanager.register(support.postgres)
    # how long something takes is no verdict
    settings.register_profile(
        "splitplane", deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile("splitplane")


def pytest_sessionstart() -> None:
    """Root gets the BPF file system mounted on machines that come without, as containers do."""
    if os.geteuid() == 0:
        with contextlib.suppress(MachineError):  # whoever needs it says what is missing
            machine.require_bpf()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Called by pytest once, in every process.  Of what twenty thousand tests are made from, nearly
    nothing is garbage: looking for it takes a quarter of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.hookimpl(tryfirst=True)  # pytest brings together what shares a fixture's parameter later
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Called by pytest once, in every process, when randomly has shuffled."""
    long_ones_first(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> GroupScheduling:
    """Called by xdist once."""
    return GroupScheduling(config, log)


@pytest.fixture(autouse=True)
def _no_faults(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A segment outlives its own mistakes, a test that provokes one by accident must not."""
    met: list[tuple[str, Exception]] = []
    note = Faults.note

    def noting(faults: Faults, doing: str, error: Exception) -> None:
        met.append((doing, error))
        note(faults, doing, error)

    monkeypatch.setattr(Faults, "note", noting)
    yield
    if met and request.node.get_closest_marker("faults") is None:
        doing, error = met[0]
        raise AssertionError(f"{len(met)} internal errors, the first while {doing}") from error


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A line per reason: pytest's own has one per place, which are hundreds without BMv2."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(report.longrepr[2] for report in skipped)
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"{reason.removeprefix('Skipped: ')}: {count} tests skipped")
