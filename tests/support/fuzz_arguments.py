# SPDX-License-Identifier: Apache-2.0
"""libFuzzer's arguments, so that the seeds in the repository stay as they are.

libFuzzer writes what it finds into the first folder that it is given, and crashes into the current
folder.  Both go to build/fuzz/, which git ignores; folders that are given are read.
"""

from __future__ import annotations

from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
# nothing that a datagram or a few CSMB messages could need is longer
MAX_LEN = 4096


def arguments(argv: list[str], name: str) -> list[str]:
    """Return *argv* with a folder for what is found, unless single inputs are to be run again."""
    options = [argument for argument in argv[1:] if argument.startswith("-")]
    inputs = [argument for argument in argv[1:] if not argument.startswith("-")]
    found = REPOSITORY / "build" / "fuzz" / name
    found.mkdir(parents=True, exist_ok=True)
    prefix = f"-artifact_prefix={found}/"
    if any(Path(one).is_file() for one in inputs):
        return [argv[0], prefix, *options, *inputs]
    corpus = found / "corpus"
    corpus.mkdir(exist_ok=True)
    return [argv[0], prefix, f"-max_len={MAX_LEN}", *options, str(corpus), *inputs]
