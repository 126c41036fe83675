# SPDX-License-Identifier: Apache-2.0
"""Copies a map into one of another type, and merges in afterwards what its program did meanwhile.

A few thousand entries at a time, in numpy; what is merged goes through the program's own functions
(bpf/upgrade.h), because only they change an entry that packets change at the same time.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from typing import Any, Final

import numpy

from data_flow_segment.targets.bpf.btf import Shape
from data_flow_segment.targets.bpf.carry import CannotCarryError, Facts, Plan
from data_flow_segment.targets.bpf.layout import FLOW_KEY, MERGE_COUNTER, MERGE_FLOW
from data_flow_segment.targets.bpf.libbpf import (
    BPF_ANY,
    BatchOptions,
    MapOptions,
    TestRunOptions,
    library,
    reason,
    run_program,
)
from data_flow_segment.targets.bpf.maps import Batch, Map
from data_flow_segment.targets.contract import TargetError

AT_ONCE: Final = 16_384  # entries: some 8 MB here
_HEADER: Final = bytes(16)  # MERGE_HEADER
_RECORDS: Final = 32  # MERGE_FLOWS
_COPIED_SHIFT, _COPIED = 16, 1 << 30  # CLOSE_COPIED_SHIFT, CLOSE_COPIED
_ARRAY_OF_MAPS: Final = 12
_MERGED: Final = {
    "last_seen": "u8", "packets": "u8", "bytes": "u8", "opened_ms": "u8", "next_seq": "u4",
    "ack": "u4", "fin_end": "u4", "close": "u4", "window": "u2", "scale": "u1", "tcp_flags": "u1",
}  # fmt: skip
_RECORD: Final = numpy.dtype(
    [("key", f"V{FLOW_KEY.size}"), *_MERGED.items(), ("pad", "u4")]  # struct merge_flow
)
assert _RECORD.itemsize == MERGE_FLOW.size

Octets = numpy.ndarray[Any, Any]


class Converter:
    """Reads an old map as the new one would have it."""

    def __init__(self, name: str, fd: int, old: Facts, plan: Plan) -> None:
        self._name, self._plan, self._old = name, plan, old
        key, value = (numpy.dtype(f"V{size}") for size in (old.key_size, old.value_size))
        self._batch = Batch(Map(name, fd, old.key_size, old.value_size), key, value)
        self._token: int | None = None

    def next(self) -> tuple[Octets, Octets, bool]:
        """Keys and values as rows of octets, and whether there are more; raises
        CannotCarryError."""
        keys, values, self._token = self._batch.read(self._token, AT_ONCE)
        rows = values.view("u1").reshape(len(values), self._old.value_size)
        for name, offset, size in self._plan.dropped:
            if rows[:, offset : offset + size].any():
                raise CannotCarryError(
                    f"map {self._name}: member {name} is in use, and this version has none"
                )
        made = numpy.zeros((len(rows), self._plan.size), "u1")
        for to, at, size in self._plan.pieces:
            made[:, to : to + size] = rows[:, at : at + size]
        return keys, made, self._token is not None


def copy(source: Converter, name: str, into: int, flow: Shape | None) -> None:
    """Enter all of it.  Flows (`flow` is their shape) are marked: their counters begin at zero, and
    their close bits are kept beside, for `merge_flows`."""
    options = BatchOptions(ctypes.sizeof(BatchOptions), BPF_ANY, 0)
    more = True
    while more:
        keys, values, more = source.next()
        if not len(keys):
            continue
        if flow is not None:
            _column(values, flow, "packets")[:] = 0
            _column(values, flow, "bytes")[:] = 0
            close = _column(values, flow, "close")
            close |= close << _COPIED_SHIFT | numpy.uint32(_COPIED)
        done = ctypes.c_uint32(len(keys))
        failed = library().bpf_map_update_batch(
            into, keys.ctypes.data, values.ctypes.data,
            ctypes.addressof(done), ctypes.addressof(options),
        )  # fmt: skip
        if failed:
            raise TargetError(f"map {name}: cannot be copied: {reason(failed)}")


def merge_flows(source: Converter, flow: Shape, program: int) -> None:
    """Add to the copies what the old program did until it ended.  Repeated, it changes nothing."""
    more = True
    while more:
        keys, values, more = source.next()
        if not len(keys):
            continue
        records = numpy.zeros(len(keys), _RECORD)
        records["key"] = keys
        for name in _MERGED:
            records[name] = _column(values, flow, name)
        raw = records.tobytes()
        for start in range(0, len(raw), _RECORDS * _RECORD.itemsize):
            _run(program, raw[start : start + _RECORDS * _RECORD.itemsize])


def merge_counters(source: Map, old: tuple[str, ...], new: tuple[str, ...], program: int) -> None:
    """Add the old program's counters to those of the same name, and leave zeros behind."""
    for number, name in enumerate(old):
        key = number.to_bytes(4, sys.byteorder)
        raw = source.lookup(key)
        if raw is None or name not in new:
            continue
        total = sum(struct.unpack(f"={len(raw) // 8}Q", raw))
        _run(program, MERGE_COUNTER.pack(new.index(name), total))
        source.update(key, bytes(len(raw)))


def wait_for_programs(fd: int) -> None:
    """Return when every run of a program that was under way has ended: so does the kernel before it
    returns from a change of a map of maps."""
    options = MapOptions(sz=ctypes.sizeof(MapOptions), inner_map_fd=fd)
    outer = library().bpf_map_create(_ARRAY_OF_MAPS, b"wait", 4, 4, 1, ctypes.byref(options))
    if outer < 0:
        raise TargetError(f"cannot wait for the old program: {reason(outer)}")
    try:
        failed = library().bpf_map_update_elem(
            outer, bytes(4), fd.to_bytes(4, sys.byteorder), BPF_ANY
        )
    finally:
        os.close(outer)
    if failed:
        raise TargetError(f"cannot wait for the old program: {reason(failed)}")


def _column(values: Octets, shape: Shape, name: str) -> Octets:
    """One member of every row."""
    kind = numpy.dtype(_MERGED[name])
    at = shape.at(name)
    return numpy.ndarray((len(values),), kind, values, at.start, (shape.size,))


def _run(program: int, records: bytes) -> None:
    options = TestRunOptions.of(_HEADER + records)
    run_program(program, options, "the old program's counts cannot be merged")
