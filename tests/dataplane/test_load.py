# SPDX-License-Identifier: Apache-2.0
"""How long the kernel takes to check the program, which is most of an agent's first start."""

from __future__ import annotations

from typing import Any, Final

import pytest

from data_flow_segment.targets.bpf.libbpf import descriptor_info

pytestmark = pytest.mark.dataplane

CHECKED_MAX: Final = 250_000
"""Instructions that the kernel follows, a loop's anew in each round; it refuses a million.  Linux
6.18 follows 192,000 of `dfs_back`, the most."""


def test_the_kernel_checks_every_program_in_a_quarter_of_what_it_allows(ground: Any) -> None:
    program = ground.open(attach="tc")._program
    checked = {
        name: int(descriptor_info(program.program_fd(name)).get("verified_insns", 0))
        for name in ("dfs_tc", "dfs_back")
    }
    assert max(checked.values()) <= CHECKED_MAX, checked
