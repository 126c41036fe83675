# SPDX-License-Identifier: Apache-2.0
"""The native part of `reports`: `native/reports.c`, compiled by `make native`; without it all is
Python.  The structures here are those of the C file.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from admin import native
from data_flow_segment.targets.bpf.ring import RingPlaces

ARTIFACT: Final = Path(__file__).resolve().parents[2] / "artifacts" / "reports.so"
AT_ONCE: Final = 4096
"""Records per call."""

_LAYOUT: Final = 1
_PARTS: Final = 64
_OCTETS: Final = 120


class _Part(ctypes.Structure):
    _fields_ = (
        ("group_id", ctypes.c_uint16),
        ("kind", ctypes.c_uint8),
        ("size", ctypes.c_uint8),
        ("count", ctypes.c_uint32),
        ("start", ctypes.c_uint32),
        ("length", ctypes.c_uint32),
    )


class _Taken(ctypes.Structure):
    parts: ctypes.Array[_Part]
    octets: Any
    _fields_ = (
        ("sizes", ctypes.c_uint8 * 256),
        ("parts", _Part * _PARTS),
        ("part_of", ctypes.c_uint8 * AT_ONCE),
        ("octets", ctypes.c_uint8 * (AT_ONCE * _OCTETS)),
    )


class NativeReports:
    """Takes records out of a ring; OSError: the library cannot be loaded, or is of another
    release."""

    def __init__(self, places: RingPlaces, sizes: Mapping[int, int], last: int) -> None:
        """`sizes`: of what is wanted of a record, in octets, by its kind; `last`: the kind that
        stands behind all others."""
        take = native.library(ARTIFACT, layout=_LAYOUT, size=ctypes.sizeof(_Taken)).take
        pointer = ctypes.c_void_p
        take.argtypes = (pointer, pointer, pointer, ctypes.c_uint64, pointer)
        take.restype = ctypes.c_uint32
        self._state = state = _Taken()
        for kind, size in sizes.items():
            assert size <= _OCTETS
            state.sizes[kind] = size
        self._last = last
        self._octets: bytes = native.characters(state, _Taken.octets)
        self._parts = state.parts
        self._take = take
        self._arguments = (*places, ctypes.addressof(state))

    def take(self) -> list[tuple[int, int, bytes]]:
        """Return what waits, up to AT_ONCE records, in order: by group and kind."""
        octets, parts, last = self._octets, self._parts, self._last
        found: list[tuple[int, int, bytes]] = []
        behind: list[tuple[int, int, bytes]] = []
        for at in range(self._take(*self._arguments)):
            part = parts[at]
            kind, start, length = part.kind, part.start, part.length
            if length:
                taken = part.group_id, kind, octets[start : start + length]
                (behind if kind == last else found).append(taken)
        return found + behind
