# SPDX-License-Identifier: Apache-2.0
"""What `splitplane init` writes for one machine, with ports and folders that nobody else has."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from click.testing import CliRunner

from splitplane.cli import cli
from support.ports import free_port

_PORTS = re.compile(r"\b(61019|61020|8404|9160|9161|9162)\b")


def initialised(folder: Path) -> tuple[Path, str]:
    """The folder of the configurations, and the token of role admin."""
    etc, var = folder / "etc", folder / "var"
    command = ["init", "--folder", str(etc), "--state", str(var), "--target", "memory"]
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == 0, done.output
    ports = defaultdict[str, str](lambda: str(free_port()))
    for path in etc.glob("*.yaml"):
        text = _PORTS.sub(lambda found: ports[found[1]], path.read_text())
        text = text.replace("/run/splitplane", str(folder / "run"))
        if path.stem != "api":
            text += f"state_file: {var / path.stem}.state\n"
        path.write_text(text)
    return etc, done.stdout.strip()
