# SPDX-License-Identifier: Apache-2.0
"""The benchmark of the program includes it as it is, and nothing else compiles that."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.require import require
from support.targets.veth_rig import missing_for_bpf

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.dataplane


def test_the_benchmark_of_the_program_runs(tmp_path: Path) -> None:
    require("dataplane", missing_for_bpf())
    result = tmp_path / "result.json"
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench/program.py"), "--flows", "1024",
         "--json", str(result)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert result.exists()
