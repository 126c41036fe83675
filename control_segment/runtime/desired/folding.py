# SPDX-License-Identifier: Apache-2.0
"""Puts the changes that a CS has set aside into its whole configuration, in a process of its own:
`python -m ... PATH FOLDED`.  A large one takes a second that the CS does not have."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from admin.disk import remove
from admin.state import StateError
from control_segment.runtime import pieces
from control_segment.runtime.desired.copy import fold_into


def main() -> None:
    """Exit with 1 and a sentence if that is impossible, or nobody waits for it any more."""
    parent = os.getppid()
    pieces.step_aside()
    path, folded = map(Path, sys.argv[1:])
    try:
        fold_into(path, folded)
        if os.getppid() != parent:
            remove(folded)
            sys.exit(f"{path}: its CS has ended")
    except (OSError, StateError) as error:
        sys.exit(f"{path}: {error}")


if __name__ == "__main__":
    main()
