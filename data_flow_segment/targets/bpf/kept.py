# SPDX-License-Identifier: Apache-2.0
"""Loaded programs that the next agent uses again: to check them costs the kernel most of a start.

They are pinned beside the maps, by names that say of which object they are and which maps they use.
An agent of another version, or one whose maps are others, looks for other names.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from data_flow_segment.targets.bpf.libbpf import library, reason
from data_flow_segment.targets.bpf.pinned import map_id
from data_flow_segment.targets.contract import TargetError

PROGRAM_PIN: Final = "program-"
_KEY_DIGITS: Final = 32  # of a SHA-256; a name in a BPF file system has room for 255


class KeptPrograms:
    """Those of one compiled object, in one folder."""

    def __init__(self, folder: Path, artifact: Path) -> None:
        self._folder = folder
        self._digest = hashlib.sha256(artifact.read_bytes()).digest()
        self._fds: dict[str, int] = {}

    def open(self, names: Iterable[str], maps: Iterable[Path]) -> bool:
        """Whether all programs of these names were kept, with these maps; then each has an `fd`."""
        maps = list(maps)
        if not all(pin.exists() for pin in maps):
            return False
        key = self._key(maps)
        for name in names:
            fd = library().bpf_obj_get(str(self._pin(key, name)).encode())
            if fd < 0:
                self.close()
                return False
            self._fds[name] = fd
        return True

    def fd(self, name: str) -> int | None:
        """A program's descriptor, if it was kept."""
        return self._fds.get(name)

    def keep(self, fds: Mapping[str, int], maps: Iterable[Path]) -> None:
        """Programs for the next agent, their descriptors by their names, and no others: those of
        another version or with other maps run nowhere any more."""
        key = self._key(maps)
        pins = {self._pin(key, name): fd for name, fd in fds.items()}
        for pin in self._folder.glob(f"{PROGRAM_PIN}*"):
            if pin not in pins or not self._fds:
                pin.unlink()
        for pin, fd in ({} if self._fds else pins).items():
            failed = library().bpf_obj_pin(fd, str(pin).encode())
            if failed:
                raise TargetError(f"{pin}: cannot pin the program: {reason(failed)}")

    def close(self) -> None:
        while self._fds:
            os.close(self._fds.popitem()[1])

    def _key(self, maps: Iterable[Path]) -> str:
        """The kernel gives no map the number that another one had."""
        numbers = ",".join(
            f"{pin.name}={map_id(pin)}" for pin in sorted(maps, key=lambda pin: pin.name)
        )
        return hashlib.sha256(self._digest + numbers.encode()).hexdigest()[:_KEY_DIGITS]

    def _pin(self, key: str, name: str) -> Path:
        return self._folder / f"{PROGRAM_PIN}{key}-{name}"
