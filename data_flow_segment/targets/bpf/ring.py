# SPDX-License-Identifier: Apache-2.0
"""The kernel's ring of events, read where it lies (Documentation/bpf/ringbuf.rst)."""

from __future__ import annotations

import mmap
import struct
from typing import Final, NamedTuple

import numpy

from data_flow_segment.targets.bpf.layout import EVENT_PACKET

_POSITION: Final = struct.Struct("=Q")
_HEADER: Final = struct.Struct("=I")
_HEADER_SIZE: Final = 8
RECORD_HEADER: Final = _HEADER_SIZE
"""In front of each record of `read_whole`."""
_BUSY, _DISCARD = 0x80000000, 0x40000000


class RingPlaces(NamedTuple):
    """Where a ring lies in this process's memory."""

    consumer: int  # address of the position up to which all was read
    producer: int  # likewise, up to which all was written, or is being written
    data: int
    mask: int  # of a position


class Ring:
    """Consumer of a BPF_MAP_TYPE_RINGBUF of `size` octets (a power of two)."""

    def __init__(self, fd: int, size: int) -> None:
        page = mmap.PAGESIZE
        self._mask = size - 1
        self._data = page
        self._consumer = mmap.mmap(fd, page)
        # the data pages are mapped twice, so that no record is ever split
        self._producer = mmap.mmap(
            fd, page + 2 * size, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ, offset=page
        )

    def places(self) -> RingPlaces:
        """Where native code finds it, until `close`."""
        producer = _address_of(self._producer)
        return RingPlaces(_address_of(self._consumer), producer, producer + self._data, self._mask)

    def read(self, limit: int) -> list[bytes]:
        """Up to `limit` records; they are the reader's own copies."""
        producer = self._producer
        place = _POSITION.unpack_from(self._consumer, 0)[0]
        end = _POSITION.unpack_from(producer, 0)[0]
        records: list[bytes] = []
        while place < end and len(records) < limit:
            start = self._data + (place & self._mask)
            (length,) = _HEADER.unpack_from(producer, start)
            if length & _BUSY:
                break  # a processor is still writing it
            size = length & ~_DISCARD
            start += _HEADER_SIZE
            if not length & _DISCARD:
                records.append(producer[start : start + size])
            place += (_HEADER_SIZE + size + 7) & ~7
        _POSITION.pack_into(self._consumer, 0, place)
        return records

    def read_whole(self, size: int, limit: int) -> tuple[bytes, int]:
        """Up to `limit` records of `size` octets each, as they lie in the ring with their headers
        (RECORD_HEADER), and from where to where each next one begins: for records that are too
        many to be looked at one by one.  Stops at the first of another size, or given up."""
        step = (_HEADER_SIZE + size + 7) & ~7
        end = _POSITION.unpack_from(self._producer, 0)[0]
        place = self._behind_discarded(_POSITION.unpack_from(self._consumer, 0)[0], end)
        start = self._data + (place & self._mask)
        count = min((end - place) // step, limit)
        octets = self._producer[start : start + count * step]
        headers = numpy.frombuffer(octets, "=u4").reshape(count, step // 4)[:, 0]
        others = headers != size  # busy, or given up
        if others.any():
            count = int(others.argmax())
        _POSITION.pack_into(self._consumer, 0, place + count * step)
        return octets[: count * step], step

    def _behind_discarded(self, place: int, end: int) -> int:
        """Where the first record begins that was not given up."""
        while place < end:
            (length,) = _HEADER.unpack_from(self._producer, self._data + (place & self._mask))
            if length & _BUSY or not length & _DISCARD:
                break
            place += (_HEADER_SIZE + (length & ~_DISCARD) + 7) & ~7
        return place

    def skip(self) -> int:
        """Throw away what waits (an earlier agent's); how many octets that was."""
        place = _POSITION.unpack_from(self._consumer, 0)[0]
        end = _POSITION.unpack_from(self._producer, 0)[0]
        _POSITION.pack_into(self._consumer, 0, end)
        return int(end - place)

    def close(self) -> None:
        self._consumer.close()
        self._producer.close()


def _address_of(pages: mmap.mmap) -> int:
    return int(numpy.frombuffer(pages, "u1").ctypes.data)


def arrival(record: bytes) -> tuple[int, bytes]:
    """The interface and the frame of an event, with the tag that the kernel took off."""
    _, _, _, _, ifindex, tci, tag, length, _, _, _ = EVENT_PACKET.unpack_from(record)
    frame = record[EVENT_PACKET.size : EVENT_PACKET.size + length]
    if tag:
        frame = frame[:12] + struct.pack("=H", tag) + struct.pack(">H", tci) + frame[12:]
    return ifindex, frame
