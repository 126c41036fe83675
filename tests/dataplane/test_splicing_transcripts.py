# SPDX-License-Identifier: Apache-2.0
"""What tests/transcripts/splicing says of the machine holds for an agent and the kernel's program.

The agent lives in virtual time and the program by its own clock, which nothing here waits for: what
depends on it (the rate at which strangers' segments come up, half-open flows that get too old) is
the contract suite's.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, cast

import pytest

from support.segments.agent_rig import EXTERNAL, INTERNAL
from support.soak import SOAKING
from support.splicing.agent_bench import AgentBench, by_receiver, can_play
from support.splicing.transcript import Sequence, Setup, play, read
from support.targets.rig import IPV4, Side
from support.targets.veth_rig import VethRig, opened, run
from support.targets.wired_target import WiredTarget

pytestmark = [pytest.mark.dataplane, pytest.mark.soak]

FOLDER: Final = Path(__file__).parents[1] / "transcripts" / "splicing"
FOUND: Final = [
    pytest.param(sequence, id=f"{path.stem}: {sequence.name}")
    for path in sorted(FOLDER.glob("*.txt"))
    for sequence in read(path)
    if can_play(sequence)
]


@pytest.fixture(scope="module")
def running() -> Iterator[VethRig]:
    """One program for all; the nodes of `AgentBench` are behind one of its neighbours."""
    with opened("tc") as rig:
        way = ("10.1.1.0/24", "via", IPV4.node)
        run("ip", "-n", rig.namespace, "route", "add", *way)
        yield rig


# in a short form others than the memory target plays
@pytest.mark.parametrize("sequence", FOUND if SOAKING else FOUND[1::6])
def test_the_program_and_an_agent_do_what_the_machine_does(
    sequence: Sequence, rig: VethRig
) -> None:
    target = WiredTarget(rig, {EXTERNAL: Side.EXTERNAL, INTERNAL: Side.INTERNAL})

    def bench(setup: Setup) -> AgentBench:
        return AgentBench(setup, cast("Any", target))

    kept, now = by_receiver(list(sequence.lines)), by_receiver(play(sequence, bench))
    changes = difflib.unified_diff(kept, now, "kept", "now", n=3, lineterm="")
    assert kept == now, "\n".join(changes)
