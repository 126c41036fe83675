# SPDX-License-Identifier: Apache-2.0
"""What a test costs counts for it, in whatever process it was spent, and waiting costs nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

SUPPORT: Final = Path(__file__).resolve().parents[1]

CONFTEST: Final = """
from support.costs import Costs

def pytest_configure(config):
    config.pluginmanager.register(Costs())
"""

TESTS: Final = """
import subprocess, sys, time
import pytest

def use(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass

@pytest.fixture
def dear():
    use(0.4)

def test_its_fixture(dear):
    pass

def test_its_process():
    work = "import time\\nwhile time.process_time() < 0.4: pass"
    subprocess.run([sys.executable, "-c", work], check=True)

def test_it_waits():
    time.sleep(0.5)

def test_nothing():
    pass
"""


def test_processor_seconds_are_of_the_test_that_used_them(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_sample.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-p", "no:randomly", "-p", "no:cacheprovider"]
    environment = {name: value for name, value in os.environ.items() if "PYTEST" not in name}
    done = subprocess.run(
        [*command, "-n", "2", str(tmp_path)], cwd=tmp_path, check=False,
        env=environment | {"PYTHONPATH": str(SUPPORT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, float] = {}
    for cost, name in re.findall(r"^ *([\d.]+) +(?:\d+ +)?(test_\S+)$", done.stdout, re.M):
        found[name.removeprefix("test_sample.py::")] = float(cost)
    # the kernel's clocks for a process and for its children round in different ways
    assert found["test_its_fixture"] >= 0.39
    assert found["test_its_process"] >= 0.39
    assert found["test_sample.py"] >= 0.78
    assert found["test_it_waits"] < 0.4
