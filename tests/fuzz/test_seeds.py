# SPDX-License-Identifier: Apache-2.0
"""Each seed passes its target's checks without a fuzzer; inputs that once failed stay here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from support.octets.wire_checks import check_csmb, check_ssmb

CORPUS = Path(__file__).parent / "corpus"
CHECKS: dict[str, Callable[[bytes], None]] = {"ssmb": check_ssmb, "csmb": check_csmb}
SEEDS = sorted(path for bus in CHECKS for path in (CORPUS / bus).iterdir())


@pytest.mark.parametrize("seed", SEEDS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_a_seed_passes(seed: Path) -> None:
    CHECKS[seed.parent.name](seed.read_bytes())


@pytest.mark.parametrize("bus", CHECKS)
def test_short_inputs_pass(bus: str) -> None:
    for length in range(8):
        CHECKS[bus](bytes(length))
        CHECKS[bus](b"\xff" * length)


def test_both_buses_have_seeds_of_every_kind() -> None:
    names = {seed.name for seed in SEEDS}
    assert {"query-v1-1", "reply-v2-2", "batch-v1", "parked-v2", "vs_list-v2"} <= names
    assert {"stream-to-dfs-v1-key", "stream-to-cs-v2-laboratory"} <= names
