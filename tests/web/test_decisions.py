# SPDX-License-Identifier: Apache-2.0
"""What the page decides without asking anybody: `decisions.test.js`, in Node."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from support.require import require


def test_what_the_page_decides_is_right() -> None:
    node = shutil.which("node")
    require("node", None if node else "not installed: node")
    assert node is not None
    done = subprocess.run(
        [node, "--test", str(Path(__file__).with_name("decisions.test.js"))],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
