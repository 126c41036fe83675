# SPDX-License-Identifier: Apache-2.0
"""The options of a bpf target."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data_flow_segment.targets.contract import HALF_OPEN_TIMEOUT_S

ARTIFACT = Path(__file__).resolve().parents[2] / "artifacts" / "dfs.bpf.o"
"""What `make bpf` compiled."""


@dataclass(frozen=True, slots=True)
class BpfOptions:
    """Interfaces by name (one may face both sides), and where maps and links are pinned."""

    external: tuple[str, ...]
    internal: tuple[str, ...]
    pin_path: Path
    attach: str = "auto"  # auto, tc, xdp
    flow_capacity: int = 65536
    half_open_timeout_s: int = HALF_OPEN_TIMEOUT_S
    redirect_peer: bool = True  # straight into another namespace's end of a veth
    # With a table that begins empty, SetOutboundQuery is on from the first packet
    holds_inside: bool = False
    artifact: Path = ARTIFACT
