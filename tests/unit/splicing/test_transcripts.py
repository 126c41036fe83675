# SPDX-License-Identifier: Apache-2.0
"""Connections in virtual time, segment by segment: tests/transcripts/splicing/*.txt.

A changed transcript is read before it is kept.  To write what is awaited anew:

    SPLITPLANE_WRITE_TRANSCRIPTS=1 .venv/bin/python -m pytest tests/unit/splicing -k anew
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Final

import pytest

from support.splicing.machine_bench import MachineBench
from support.splicing.transcript import Sequence, play, read

FOLDER: Final = Path(__file__).parents[2] / "transcripts" / "splicing"
FILES: Final = sorted(FOLDER.glob("*.txt"))
ALL: Final = [
    pytest.param(sequence, id=f"{path.stem}: {sequence.name}")
    for path in FILES
    for sequence in read(path)
]


@pytest.mark.parametrize("sequence", ALL)
def test_what_comes_is_what_the_transcript_says(sequence: Sequence) -> None:
    if os.environ.get("SPLITPLANE_WRITE_TRANSCRIPTS"):
        pytest.skip("they are written anew")
    kept, now = list(sequence.lines), play(sequence, MachineBench)
    changes = difflib.unified_diff(kept, now, "kept", "now", n=3, lineterm="")
    assert kept == now, "\n".join(changes)


def test_names_are_found_once() -> None:
    names = [sequence.name for path in FILES for sequence in read(path)]
    assert len(names) == len(set(names))
    assert len(names) >= 150


def test_write_them_anew() -> None:
    if not os.environ.get("SPLITPLANE_WRITE_TRANSCRIPTS"):
        pytest.skip("only with SPLITPLANE_WRITE_TRANSCRIPTS")
    for path in FILES:
        head = path.read_text().split("== ")[0]
        blocks = [
            "\n".join([f"== {sequence.name}", *play(sequence, MachineBench), ""])
            for sequence in read(path)
        ]
        path.write_text(head + "".join(blocks))
