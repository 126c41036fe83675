# SPDX-License-Identifier: Apache-2.0
"""Reads a CS's configuration in a process of its own: `python -m splitplane.reader NAME`.

A large file takes seconds to parse and to check, in C code that holds the interpreter's lock: in a
thread it would keep QUERYs waiting.  The text comes from the standard input, behind what the CS
remembers of it, and the rest goes to the standard output (`control_segment.runtime.pieces`).
"""

from __future__ import annotations

import sys

from admin.errors import ConfigError
from control_segment.config import ControlSegmentConfig
from control_segment.runtime import pieces
from splitplane.config import parse


def main() -> None:
    """Write what the file says, or what is wrong with it."""
    pieces.step_aside()
    known = pieces.read_known(sys.stdin.buffer)
    try:
        config = parse(sys.stdin.buffer.read().decode(), sys.argv[1], ControlSegmentConfig)
    except ConfigError as error:
        pieces.write_problems(error.problems, sys.stdout.buffer)
        return
    pieces.write_config(config, sys.stdout.buffer, known)


if __name__ == "__main__":
    main()
