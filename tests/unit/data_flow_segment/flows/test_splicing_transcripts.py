# SPDX-License-Identifier: Apache-2.0
"""What tests/transcripts/splicing says of the machine holds for an agent and a target, too."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Final

import pytest

from support.soak import part
from support.splicing.agent_bench import AgentBench, by_receiver, can_play
from support.splicing.transcript import Sequence, play, read

FOLDER: Final = Path(__file__).parents[3] / "transcripts" / "splicing"
FOUND: Final = [
    pytest.param(sequence, id=f"{path.stem}: {sequence.name}")
    for path in sorted(FOLDER.glob("*.txt"))
    for sequence in read(path)
    if can_play(sequence)
]


@pytest.mark.parametrize("sequence", FOUND[:: 1 if part(20) == 20 else 3])
def test_an_agent_does_what_the_machine_does(sequence: Sequence) -> None:
    kept, now = by_receiver(list(sequence.lines)), by_receiver(play(sequence, AgentBench))
    changes = difflib.unified_diff(kept, now, "kept", "now", n=3, lineterm="")
    assert kept == now, "\n".join(changes)


def test_most_of_them_are_for_agents() -> None:
    assert len(FOUND) >= 168
