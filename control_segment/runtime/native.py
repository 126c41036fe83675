# SPDX-License-Identifier: Apache-2.0
"""The native part: `native/datagrams.c`, compiled by `make native`; without it all is Python.

It receives, opens, seals and sends by the batch, and decides nothing.  The structures here are
those of the C file.  An `Opener` or `Sealer` of this module does what those of `ssmb.seal` do, and
keeps its windows and counter where the native code has them.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from admin import native
from ssmb.constants import SEAL_SIZE
from ssmb.errors import BadTag, Replayed, SealError, TooOld, TooShort
from ssmb.seal import WINDOW

ARTIFACT: Final = Path(__file__).resolve().parents[1] / "artifacts" / "datagrams.so"
BATCH: Final = 64
OCTETS: Final = 2048
SOURCE: Final = 28
OPENED: Final = 0
ERRORS: Final[tuple[type[SealError], ...]] = (SealError, TooShort, BadTag, TooOld, Replayed)
_LAYOUT: Final = 2
_SCRATCH: Final = 1 << 16


class _Lane(ctypes.Structure):
    _fields_ = (
        ("highest", ctypes.c_uint64),
        ("is_known", ctypes.c_uint64),
        ("seen", ctypes.c_uint64 * 32),
    )


class _Opener(ctypes.Structure):
    _fields_ = (("key", ctypes.c_char * 16), ("lanes", _Lane * 256))


class _Sealer(ctypes.Structure):
    _fields_ = (("key", ctypes.c_char * 16), ("counter", ctypes.c_uint64))


class _Batch(ctypes.Structure):
    octets: ctypes.Array[ctypes.c_uint8]
    lengths: ctypes.Array[ctypes.c_uint32]
    openers: ctypes.Array[ctypes.c_void_p]
    _fields_ = (
        ("octets", ctypes.c_uint8 * (BATCH * OCTETS)),
        ("sources", ctypes.c_uint8 * (BATCH * SOURCE)),
        ("source_lengths", ctypes.c_uint32 * BATCH),
        ("lengths", ctypes.c_uint32 * BATCH),
        ("openers", ctypes.c_void_p * BATCH),
        ("verdicts", ctypes.c_uint8 * BATCH),
    )


class Batch:
    """What `Library.receive` fills; `octets`, `sources` and `verdicts` are read by slices."""

    __slots__ = ("_state", "address", "lengths", "octets", "openers", "sources", "verdicts")

    def __init__(self) -> None:
        self._state = state = _Batch()
        self.address = ctypes.addressof(state)
        self.lengths = state.lengths
        self.openers = state.openers
        self.octets: bytes = native.characters(state, _Batch.octets)
        self.sources: bytes = native.characters(state, _Batch.sources)
        self.verdicts: bytes = native.characters(state, _Batch.verdicts)


class Library:
    """The functions of the C file; OSError: it cannot be loaded, or is of another release."""

    def __init__(self) -> None:
        size = sum(ctypes.sizeof(each) for each in (_Opener, _Sealer, _Batch))
        library = native.library(ARTIFACT, layout=_LAYOUT, size=size)
        pointer, number = ctypes.c_void_p, ctypes.c_uint32
        self.receive = library.receive
        self.receive.argtypes, self.receive.restype = (ctypes.c_int32, pointer), ctypes.c_int32
        self.open_all = library.open_all
        self.open_all.argtypes, self.open_all.restype = (pointer, number), None
        self.answer = library.answer
        self.answer.argtypes = (
            ctypes.c_int32, pointer, number, ctypes.c_char_p, ctypes.c_char_p, pointer,
        )  # fmt: skip
        self.answer.restype = number
        self.open_one = library.open_one
        self.open_one.argtypes = (pointer, ctypes.c_char_p, number)
        self.open_one.restype = ctypes.c_uint8
        self.seal_one = library.seal_one
        self.seal_one.argtypes, self.seal_one.restype = (pointer, pointer, number), None
        self.highest = library.highest
        self.highest.argtypes, self.highest.restype = (pointer,), ctypes.c_uint64
        self.scratch = ctypes.create_string_buffer(_SCRATCH)

    def opener(self, key: bytes) -> Opener:
        """Return what opens seals of a key."""
        return Opener(self, key)

    def sealer(self, key: bytes) -> Sealer:
        """Return what seals with a key, in lane 0."""
        return Sealer(self, key)


class Opener:
    """As `ssmb.seal.Opener`."""

    __slots__ = ("_library", "_state", "address", "key")

    def __init__(self, library: Library, key: bytes) -> None:
        self.key = key
        self._library = library
        self._state = _Opener()
        self.address = ctypes.addressof(self._state)
        ctypes.memmove(self.address, _checked(key), len(key))

    def open(self, datagram: bytes) -> bytes:
        """Return what was sealed, or raise TooShort, BadTag, TooOld or Replayed."""
        verdict = self._library.open_one(self.address, datagram, len(datagram))
        if verdict != OPENED:
            raise ERRORS[verdict](f"{len(datagram)} octets")
        return datagram[:-SEAL_SIZE]

    def highest(self) -> int:
        """Return a number that changes with every datagram that moves a window."""
        return int(self._library.highest(self.address))

    def latest(self) -> int:
        """Return the highest counter of lane 0, 0 before the first."""
        return int(self._state.lanes[0].highest)

    def missing(self, first: int, last: int) -> int:
        """Return how many counters of lane 0 from *first* to *last* did not come, as far as the
        window remembers; *last* is at most `latest()`."""
        lane = self._state.lanes[0]
        if not lane.is_known:
            return 0
        seen = lane.seen
        first = max(first, lane.highest - WINDOW + 1, 1)
        return sum(
            not seen[counter >> 6 & len(seen) - 1] >> (counter & 63) & 1
            for counter in range(first, last + 1)
        )


class Sealer:
    """As `ssmb.seal.Sealer`."""

    __slots__ = ("_library", "_state", "address", "key")

    def __init__(self, library: Library, key: bytes) -> None:
        self.key = key
        self._library = library
        self._state = _Sealer()
        self.address = ctypes.addressof(self._state)
        ctypes.memmove(self.address, _checked(key), len(key))

    def seal(self, datagram: bytes) -> bytes:
        """Return the datagram with its seal; each call uses up one counter."""
        length, scratch = len(datagram), self._library.scratch
        if length + SEAL_SIZE > _SCRATCH:
            raise ValueError(f"{length} octets are no datagram")
        ctypes.memmove(scratch, datagram, length)
        self._library.seal_one(self.address, ctypes.addressof(scratch), length)
        return ctypes.string_at(scratch, length + SEAL_SIZE)


def _checked(key: bytes) -> bytes:
    if len(key) != 16:
        raise ValueError(f"a key has 16 octets, not {len(key)}")
    return key


def load(environment: Mapping[str, str] = os.environ) -> tuple[Library | None, str]:
    """Return the library, if it is there and wanted; and what to log."""
    if not native.is_wanted(environment):
        return None, f"SSMB: datagrams are handled by Python alone: {native.SWITCH}=0"
    try:
        return Library(), "SSMB: datagrams are received, opened, sealed and sent by native code"
    except OSError as error:
        return None, f"SSMB: datagrams are handled by Python alone: {error}"
