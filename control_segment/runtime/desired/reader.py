# SPDX-License-Identifier: Apache-2.0
"""Reads a whole configuration in a process of its own: `python -m ... NAME GROUP_ID`, as
`splitplane.reader` does a file."""

from __future__ import annotations

import sys

from admin.errors import ConfigError
from control_segment.runtime import pieces
from control_segment.runtime.desired.frames import configuration_of, group_of, head_of


def main() -> None:
    """Write what it says, or what is wrong with it."""
    pieces.step_aside()
    try:
        head, line = head_of(sys.stdin.buffer.read())
        group = group_of(head, configuration_of(line), int(sys.argv[2]))
    except ConfigError as error:
        pieces.write_problems(error.problems, sys.stdout.buffer)
        return
    pieces.write_config(group, sys.stdout.buffer)


if __name__ == "__main__":
    main()
