# SPDX-License-Identifier: Apache-2.0
"""What holds for all tests: the BPF file system is mounted, what leaks fails itself
(`support.leaks`), what shares something costly runs in one process, and the tests that were skipped
are summed up by their reasons."""

from __future__ import annotations

import contextlib
import os
from collections import Counter

import pytest

from admin.errors import MachineError
from splitplane import machine
from support.leaks import LeakDetector


def pytest_configure(config: pytest.Config) -> None:
    """Called by pytest once, in every process."""
    config.pluginmanager.register(LeakDetector())


def pytest_sessionstart() -> None:
    """Root gets the BPF file system mounted on machines that come without, as containers do."""
    if os.geteuid() == 0:
        with contextlib.suppress(MachineError):  # whoever needs it says what is missing
            machine.require_bpf()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One module, one process: fixtures of a module are costly.  Other groups name themselves."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A line per reason: pytest's own has one per place, which are hundreds without BMv2."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(report.longrepr[2] for report in skipped)
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"{reason.removeprefix('Skipped: ')}: {count} tests skipped")
