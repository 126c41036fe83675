# SPDX-License-Identifier: Apache-2.0
"""What this machine must have; one line per missing thing.  The first module that a topology
imports.

Mininet is a package of the distribution's own Python, /usr/bin/python3.  If `python3` is another
one, the topology restarts with that.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv" / "bin" / "python"  # the project's, which runs the segments
SWITCH = "simple_switch_grpc"
_SYSTEM_PYTHON = "/usr/bin/python3"
_CANNOT = 4  # docs/operations.md: this machine cannot do it
_PROGRAMS = {
    "curl": "curl",
    "ethtool": "ethtool",
    "ifconfig": "net-tools",
    "ip": "iproute2",
    "mnexec": "mininet",
    "nsenter": "util-linux",
    "ping": "iputils-ping",
    "setpriv": "util-linux",
}


def fail(sentence: str) -> NoReturn:
    """End because of this machine."""
    print(f"error: {sentence}", file=sys.stderr)
    sys.exit(_CANNOT)


def find_mininet() -> None:
    """Make sure that Mininet can be imported: by the system's Python, if not by this one."""
    try:
        import mininet.net  # noqa: F401
    except ImportError as error:
        if Path(sys.executable).resolve() == Path(_SYSTEM_PYTHON).resolve() or not os.access(
            _SYSTEM_PYTHON, os.X_OK
        ):
            fail(f"Mininet cannot be imported ({error}); scripts/setup mininet installs it")
        sys.stdout.flush()
        os.execv(_SYSTEM_PYTHON, [_SYSTEM_PYTHON, *sys.argv])


def require(target: str) -> None:
    """End with a line if something is missing for *target*."""
    if os.geteuid() != 0:
        fail("Mininet creates network namespaces, which needs root: run this with sudo")
    missing = sorted({_PROGRAMS[name] for name in _PROGRAMS if shutil.which(name) is None})
    if missing:
        fail(f"not installed: {' '.join(missing)}; scripts/setup mininet installs it")
    if not PYTHON.exists():
        fail(f"{PYTHON} does not exist; scripts/setup creates the project's environment")
    if target == "p4runtime" and shutil.which(SWITCH) is None:
        fail(
            f"{SWITCH} (BMv2) is not on root's PATH; install p4lang's package p4lang-bmv2, or use"
            " the kernel's data path: --target bpf"
        )


find_mininet()
