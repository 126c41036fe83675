# SPDX-License-Identifier: Apache-2.0
"""A map by its descriptor: elements as octets."""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Iterator
from typing import Any

import numpy

from data_flow_segment.targets.bpf.libbpf import BPF_ANY, BatchOptions, library, reason
from data_flow_segment.targets.contract import TargetError


class Map:
    """One map.  Sizes are octets; of a per-CPU map `value_size` counts all processors."""

    def __init__(self, name: str, fd: int, key_size: int, value_size: int) -> None:
        self.name = name
        self.fd = fd
        self.key_size = key_size
        self.value_size = value_size
        self._value = ctypes.create_string_buffer(value_size)
        self._value_address = ctypes.addressof(self._value)
        self._update = library().bpf_map_update_elem
        self._lookup = library().bpf_map_lookup_elem
        self._delete = library().bpf_map_delete_elem

    def lookup(self, key: bytes) -> bytes | None:
        """The value, or None."""
        if self._lookup(self.fd, key, self._value_address) < 0:
            return None
        return self._value.raw

    def try_update(self, key: bytes, value: bytes, flags: int = BPF_ANY) -> int:
        """0, or an errno (EEXIST, E2BIG, ENOENT ...)."""
        return -int(self._update(self.fd, key, value, flags))

    def update(self, key: bytes, value: bytes) -> None:
        """Enter or replace, or raise TargetError."""
        failed = self.try_update(key, value)
        if failed:
            raise TargetError(f"map {self.name}: cannot enter an element: {reason(-failed)}")

    def update_many(self, keys: bytes, values: bytes) -> None:
        """Enter or replace many, as they stand one behind the other, or raise TargetError."""
        count = ctypes.c_uint32(len(keys) // self.key_size)
        options = BatchOptions(ctypes.sizeof(BatchOptions), BPF_ANY, 0)
        failed = library().bpf_map_update_batch(
            self.fd, ctypes.cast(ctypes.c_char_p(keys), ctypes.c_void_p),
            ctypes.cast(ctypes.c_char_p(values), ctypes.c_void_p),
            ctypes.addressof(count), ctypes.addressof(options),
        )  # fmt: skip
        if failed:
            raise TargetError(f"map {self.name}: cannot enter elements: {reason(failed)}")

    def delete(self, key: bytes) -> bool:
        """Whether it was there."""
        return int(self._delete(self.fd, key)) == 0

    def keys(self) -> Iterator[bytes]:
        """All keys of a small map that nobody changes meanwhile."""
        following = ctypes.create_string_buffer(self.key_size)
        current: bytes | None = None
        while library().bpf_map_get_next_key(self.fd, current, ctypes.addressof(following)) == 0:
            current = following.raw
            yield current


class Mirror:
    """A map of which no one else changes anything: only differences are written.

    What finds no room stays out, to be tried again the next time.
    """

    def __init__(self, table: Map) -> None:
        self.table = table
        self._held: dict[bytes, bytes | None] | None = None

    def replace_all(self, wanted: dict[bytes, bytes]) -> int:
        """Make the map hold exactly `wanted`; how many of these it has no room for, the last."""
        table = self.table
        if self._held is None:
            self._held = dict.fromkeys(table.keys())
        held = self._held
        for key in [key for key in held if key not in wanted]:
            table.delete(key)
            del held[key]
        without_room = 0
        for key, value in wanted.items():
            if held.get(key) == value:
                continue
            failed = table.try_update(key, value)
            if failed == errno.E2BIG:
                without_room += 1
            elif failed:
                raise TargetError(f"map {table.name}: cannot enter an element: {reason(-failed)}")
            else:
                held[key] = value
        return without_room


class Batch:
    """Reads a hash map bucket by bucket: what is there throughout is read exactly once."""

    def __init__(self, table: Map, key: numpy.dtype[Any], value: numpy.dtype[Any]) -> None:
        self._table = table
        self._key, self._value = key, value
        self._options = BatchOptions(ctypes.sizeof(BatchOptions), 0, 0)
        self._size = 0

    def read(
        self, token: int | None, count: int
    ) -> tuple[numpy.ndarray[Any, Any], numpy.ndarray[Any, Any], int | None]:
        """About `count` keys and values after `token` (None: from the start), the next token
        (None: that was all).  Valid until the next call."""
        if count > self._size:
            self._size = count
            self._keys = numpy.zeros(count, self._key)
            self._values = numpy.zeros(count, self._value)
        into = ctypes.c_uint32(token or 0)
        out = ctypes.c_uint32(0)
        got = ctypes.c_uint32(count)
        result = library().bpf_map_lookup_batch(
            self._table.fd,
            None if token is None else ctypes.addressof(into),
            ctypes.addressof(out),
            self._keys.ctypes.data,
            self._values.ctypes.data,
            ctypes.addressof(got),
            ctypes.addressof(self._options),
        )
        if result == -errno.ENOSPC:  # one bucket has more than that
            return self.read(token, count * 2)
        if result < 0 and result != -errno.ENOENT:
            raise TargetError(f"map {self._table.name}: cannot be read: {reason(result)}")
        read = got.value
        following = None if result == -errno.ENOENT else out.value
        return self._keys[:read], self._values[:read], following
