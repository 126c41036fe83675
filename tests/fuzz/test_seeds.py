# SPDX-License-Identifier: Apache-2.0
"""Each seed passes its target's checks without a fuzzer; inputs that once failed stay here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from support.octets.extraction_checks import check_http, check_tls
from support.octets.wire_checks import check_csmb, check_ssmb

CORPUS = Path(__file__).parent / "corpus"
CHECKS: dict[str, Callable[[bytes], None]] = {
    "ssmb": check_ssmb,
    "csmb": check_csmb,
    "http": check_http,
    "tls": check_tls,
}
SEEDS = sorted(path for target in CHECKS for path in (CORPUS / target).iterdir())


@pytest.mark.parametrize("seed", SEEDS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_a_seed_passes(seed: Path) -> None:
    CHECKS[seed.parent.name](seed.read_bytes())


@pytest.mark.parametrize("target", CHECKS)
def test_short_inputs_pass(target: str) -> None:
    for length in range(8):
        CHECKS[target](bytes(length))
        CHECKS[target](b"\xff" * length)


def test_all_targets_have_seeds_of_every_kind() -> None:
    names = {seed.name for seed in SEEDS}
    assert {"query-v1-1", "reply-v2-2", "batch-v1", "parked-v2", "vs_list-v2"} <= names
    assert {"path", "http2", "client-chromium", "client-ssl2", "server-openssl-tls-1.2"} <= names
    assert {"stream-to-dfs-v1-key", "stream-to-cs-v2-laboratory"} <= names
