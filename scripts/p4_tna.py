# SPDX-License-Identifier: Apache-2.0
"""Compile the Tofino program as far as the P4 compiler on the PATH goes.

p4c-barefoot (or bf-p4c, the same under its older name) places it in a Tofino's stages; p4test
only checks its types, with the architecture's files from the folder TNA_INCLUDE.  Where there is
neither, the exit code is 77 and one line says so.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

PROGRAM: Final = Path(__file__).parents[1] / "p4/tna/dfs.p4"
PLACING: Final = ("p4c-barefoot", "bf-p4c")
ARCHITECTURES: Final = {"tofino": "tna", "tofino2": "t2na"}
MISSING: Final = 77
NOTHING: Final = (
    "no compiler for Tofino found: install p4c-barefoot (p4c built with ENABLE_TOFINO) or bf-p4c on"
    " the PATH, or p4test with TNA_INCLUDE=<the folder of tna.p4> to check types"
)


def commands(output: Path, defines: list[str]) -> Iterator[list[str]]:
    """What to run, once for each device; nothing if there is no compiler."""
    folder = os.environ.get("TNA_INCLUDE")
    include = ["-I", folder] if folder else []
    placing = next((found for name in PLACING if (found := shutil.which(name))), None)
    checking = shutil.which("p4test")
    for device, architecture in ARCHITECTURES.items():
        target = f"-D__TARGET_TOFINO__={2 if device == 'tofino2' else 1}"
        common = ["--std", "p4-16", "--Wdisable", target, *defines, *include]
        if placing is not None:
            (output / device).mkdir(parents=True, exist_ok=True)
            info = ["--p4runtime-files", str(output / device / "dfs.p4info.txtpb")]
            where = ["-o", str(output / device), "--create-graphs"]
            chosen = ["--target", device, "--arch", architecture]
            yield [placing, *chosen, *common, *info, *where, str(PROGRAM)]
        elif checking is not None and folder:
            yield [checking, *common, str(PROGRAM)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="the folder for the output")
    parser.add_argument("-D", dest="defines", action="append", default=[], help="as FLOW_BITS=15")
    arguments = parser.parse_args()
    found = list(commands(arguments.output, [f"-D{define}" for define in arguments.defines]))
    if not found:
        print(NOTHING)
        return MISSING
    for command in found:
        print(" ".join(command), flush=True)
        if code := subprocess.run(command, check=False).returncode:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
