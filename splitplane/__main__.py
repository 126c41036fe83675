# SPDX-License-Identifier: Apache-2.0
"""`splitplane`, and `python -m splitplane`."""

import sys


def main() -> None:
    """Run the command; Ctrl-C while Python still reads the code ends it without a traceback."""
    try:
        from splitplane.cli import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
