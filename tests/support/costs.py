# SPDX-License-Identifier: Apache-2.0
"""What tests cost, with `--costs`: processor seconds by folder and by file, and the dearest tests.

Unlike pytest's `--durations`, this does not count waiting, which other processes use, and does
count what the machinery takes between tests.  What a fixture of a wider scope takes counts for the
test that began or ended it.  A process that a test started counts when somebody has waited for it.
"""

from __future__ import annotations

import resource
import time
from collections import Counter, defaultdict
from collections.abc import Generator
from typing import Any, Final

import pytest

FILES: Final = 60
TESTS: Final = 60

Sums = defaultdict[str, float]


class Costs:
    """A plugin, in every process; the one that reports sums up."""

    def __init__(self) -> None:
        self._known = 0.0
        self._by_folder: Sums = defaultdict(float)
        self._by_file: Sums = defaultdict(float)
        self._by_test: Sums = defaultdict(float)
        self._tests: Counter[str] = Counter()

    def pytest_runtestloop(self) -> None:
        """Called in every process, when the tests have been collected."""
        self._known = processor_s()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, Any, Any]:
        """Called in the process that runs the test, after each of its phases."""
        report = yield
        now = processor_s()
        report.processor_s, self._known = now - self._known, now
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Called in every process; xdist sends what it finds in a report."""
        test = report.nodeid
        file = test.partition("::")[0]
        folder = file.rpartition("/")[0]
        cost = getattr(report, "processor_s", 0.0)
        for sums, name in (
            (self._by_folder, folder),
            (self._by_file, file),
            (self._by_test, test),
        ):
            sums[name] += cost
        if report.when == "setup":
            self._tests.update((folder, file))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Called in the process that reports."""
        write = terminalreporter.write_line
        for sums, shown in ((self._by_folder, None), (self._by_file, FILES)):
            write(f"{'s':>8}  {'tests':>5}")
            for name, cost in dearest(sums, shown):
                write(f"{cost:8.1f}  {self._tests[name]:5}  {name}")
        for name, cost in dearest(self._by_test, TESTS):
            write(f"{cost:8.2f}  {name}")
        write(
            f"{sum(self._by_folder.values()):.0f} processor seconds, without collecting the tests"
        )


def dearest(sums: Sums, count: int | None) -> list[tuple[str, float]]:
    """Names and seconds, the most first; all if no count is given."""
    return sorted(sums.items(), key=lambda item: -item[1])[:count]


def processor_s() -> float:
    """What this process has used, and those that it has waited for."""
    others = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + others.ru_utime + others.ru_stime
