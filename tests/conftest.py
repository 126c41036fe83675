# SPDX-License-Identifier: Apache-2.0
"""Root gets the BPF file system mounted on machines that come without, as containers do."""

from __future__ import annotations

import contextlib
import os

from admin.errors import MachineError
from splitplane import machine


def pytest_sessionstart() -> None:
    """Called by pytest once, before it collects."""
    if os.geteuid() == 0:
        with contextlib.suppress(MachineError):  # whoever needs it says what is missing
            machine.require_bpf()
