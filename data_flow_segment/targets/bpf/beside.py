# SPDX-License-Identifier: Apache-2.0
"""The programs that are attached beside the data path, where it asks by itself: what receives
REPLYs (dfs_back), and what asks behind XDP (dfs_behind_xdp)."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from data_flow_segment.targets.bpf import links
from data_flow_segment.targets.bpf.program import Program
from data_flow_segment.targets.contract import TargetError

_PLACES: Final = {"dfs_back": links.SSMB, "dfs_behind_xdp": links.BEHIND_XDP}


class Beside:
    """Attached by tc, one of each per interface."""

    def __init__(self, program: Program, pin_path: Path) -> None:
        self._program = program
        self._pin_path = pin_path
        self._attached: dict[tuple[str, str], links.Attachment] = {}

    def attach(self, name: str, interface: str, ifindex: int) -> str:
        """Attach the program of this name, unless it is; why it cannot be."""
        known = self._attached.get((name, interface))
        if known is not None and known.ifindex == ifindex:
            return ""
        place = _PLACES[name]
        program, pin = self._program.program_fd(name), self._pin_of(name, interface)
        try:
            made = links.attach_tc(interface, ifindex, program, pin, place)
        except TargetError as error:
            return str(error)
        if known is not None:
            links.release(known)
        self._attached[name, interface] = made
        return ""

    def forget_all(self) -> None:
        """What an earlier program left attached."""
        for place in _PLACES.values():
            for pin in self._pin_path.glob(f"{place.pins}*"):
                pin.unlink()

    def close(self, *, detach: bool) -> None:
        for (name, interface), attachment in self._attached.items():
            if detach:
                links.detach(attachment, self._pin_of(name, interface), _PLACES[name])
            else:
                links.release(attachment)
        self._attached.clear()

    def _pin_of(self, name: str, interface: str) -> Path:
        return links.pin_of(self._pin_path, interface, _PLACES[name])
