# SPDX-License-Identifier: Apache-2.0
"""The kernel's ring as it lies in memory: records that are busy, discarded or of another size, and
the end of the data pages (Documentation/bpf/ringbuf.rst).  A file in memory plays the map."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from admin import native
from data_flow_segment.targets.bpf import native_reports
from data_flow_segment.targets.bpf.layout import REPORT, ReportKind
from data_flow_segment.targets.bpf.native_reports import ARTIFACT, AT_ONCE
from data_flow_segment.targets.bpf.program import REPORTS_SIZE
from data_flow_segment.targets.bpf.reports import Reports, open_reports
from data_flow_segment.targets.bpf.ring import RECORD_HEADER, Ring
from data_flow_segment.targets.contract import FinishedMessages
from data_flow_segment.targets.grants import GrantsTaken
from ssmb.codec import encode
from ssmb.constants import ErrorCode, MessageType
from ssmb.grants import pack_returned
from ssmb.messages import Delete, Reply
from support.require import require

PAGE = mmap.PAGESIZE
SIZE = PAGE
BUSY, DISCARD = 0x80000000, 0x40000000


class Memory:
    """What the program writes; the data pages lie there twice, as the kernel maps them."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.fd = os.memfd_create("ring")
        os.truncate(self.fd, 2 * PAGE + 2 * size)

    def write(self, record: bytes, flags: int = 0, length: int | None = None) -> int:
        """Append a record; its position."""
        place = self.produced
        size = len(record) if length is None else length
        octets = struct.pack("=II", size | flags, 0) + record
        octets += bytes(-len(octets) % 8)
        for at, octet in enumerate(octets):
            where = (place + at) % self.size
            for copy in (0, self.size):
                os.pwrite(self.fd, bytes((octet,)), 2 * PAGE + copy + where)
        os.pwrite(self.fd, struct.pack("=Q", place + len(octets)), PAGE)
        return place

    def fill(self, record: bytes, count: int) -> None:
        """Write so many of them, with their header, from the ring's beginning."""
        octets = record * count
        assert self.produced == 0
        assert len(record) % 8 == 0
        assert len(octets) <= self.size
        for copy in (0, self.size):
            os.pwrite(self.fd, octets, 2 * PAGE + copy)
        os.pwrite(self.fd, struct.pack("=Q", len(octets)), PAGE)

    def finish(self, place: int, size: int) -> None:
        """A record is busy no more."""
        for copy in (0, self.size):
            where = 2 * PAGE + copy + place % self.size
            os.pwrite(self.fd, struct.pack("=I", size), where)

    @property
    def produced(self) -> int:
        return int(struct.unpack("=Q", os.pread(self.fd, 8, PAGE))[0])

    @property
    def consumed(self) -> int:
        return int(struct.unpack("=Q", os.pread(self.fd, 8, 0))[0])


@pytest.fixture
def memory() -> Iterator[Memory]:
    made = Memory(SIZE)
    yield made
    os.close(made.fd)


@pytest.fixture
def ring(memory: Memory) -> Iterator[Ring]:
    made = Ring(memory.fd, SIZE)
    yield made
    made.close()


def whole(ring: Ring, size: int = 16, limit: int = 100) -> list[bytes]:
    """The records that were read at once."""
    octets, step = ring.read_whole(size, limit)
    assert len(octets) % step == 0
    places = range(RECORD_HEADER, len(octets), step)
    return [octets[place : place + size] for place in places]


def record(number: int, size: int = 16) -> bytes:
    return bytes((number,)) * size


def test_an_empty_ring_has_nothing(ring: Ring, memory: Memory) -> None:
    assert whole(ring) == []
    assert memory.consumed == 0


def test_all_that_waits_is_read_once(ring: Ring, memory: Memory) -> None:
    for number in range(5):
        memory.write(record(number))
    assert whole(ring) == [record(number) for number in range(5)]
    assert memory.consumed == memory.produced
    assert whole(ring) == []


def test_a_limit_leaves_the_rest(ring: Ring, memory: Memory) -> None:
    for number in range(5):
        memory.write(record(number))
    assert whole(ring, limit=3) == [record(0), record(1), record(2)]
    assert whole(ring, limit=3) == [record(3), record(4)]


def test_a_record_that_is_still_written_is_waited_for(ring: Ring, memory: Memory) -> None:
    memory.write(record(1))
    busy = memory.write(record(2), BUSY)
    memory.write(record(3))
    assert whole(ring) == [record(1)]
    assert whole(ring) == []
    memory.finish(busy, 16)
    assert whole(ring) == [record(2), record(3)]


@pytest.mark.parametrize("size", [13, 16], ids=["padded", "even"])
def test_it_goes_round(ring: Ring, memory: Memory, size: int) -> None:
    for turn in range(3 * SIZE // 24):
        memory.write(record(turn & 0xFF, size))
        memory.write(record(turn + 1 & 0xFF, size))
        assert whole(ring, size) == [record(turn & 0xFF, size), record(turn + 1 & 0xFF, size)]
    assert memory.consumed == memory.produced > 2 * SIZE


def test_one_of_another_size_is_passed_by_the_other_reader(ring: Ring, memory: Memory) -> None:
    memory.write(record(1))
    memory.write(record(9, 40))
    memory.write(record(2))
    assert whole(ring) == [record(1)]
    assert whole(ring) == []
    assert ring.read(10) == [record(9, 40), record(2)]


def test_what_was_given_up_is_in_nobodys_way(ring: Ring, memory: Memory) -> None:
    memory.write(record(1))
    memory.write(record(2), DISCARD)
    memory.write(record(3))
    assert whole(ring) + whole(ring) == [record(1), record(3)]
    assert memory.consumed == memory.produced


# --- reports --------------------------------------------------------------------------------------


@pytest.fixture(params=["native", "python"])
def reports(request: pytest.FixtureRequest) -> Iterator[tuple[Reports, Memory]]:
    memory = Memory(REPORTS_SIZE)
    is_native = request.param == "native"
    if is_native:
        require("dataplane", None if ARTIFACT.exists() else "run make bpf")
    made = Reports(memory.fd, is_native=is_native)
    yield made, memory
    made.close()
    os.close(memory.fd)


def write(memory: Memory, group_id: int, kind: ReportKind, octets: bytes) -> None:
    memory.write(REPORT.pack(group_id, kind, bytes(5), octets))


def delete(serial: int) -> bytes:
    return encode(Delete(serial=serial), 2)


def test_reports_come_by_group_and_kind_and_in_order(reports: tuple[Reports, Memory]) -> None:
    made, memory = reports
    reply = encode(Reply(serial=7), 2)
    for group_id, kind, octets in (
        (1, ReportKind.DELETE, delete(1)),
        (2, ReportKind.DELETE, delete(2)),
        (1, ReportKind.REPLY, reply),
        (1, ReportKind.DELETE, delete(3)),
        (1, ReportKind.DELETE, delete(4)),
    ):
        write(memory, group_id, kind, octets)
    found = made.read()
    assert all(isinstance(each, FinishedMessages) for each in found)
    assert sorted(found) == [
        FinishedMessages(1, int(MessageType.REPLY), reply),
        FinishedMessages(1, int(MessageType.DELETE), delete(1) + delete(3) + delete(4)),
        FinishedMessages(2, int(MessageType.DELETE), delete(2)),
    ]
    assert made.read() == []


def test_what_an_earlier_agent_left_is_skipped(reports: tuple[Reports, Memory]) -> None:
    made, memory = reports
    write(memory, 1, ReportKind.DELETE, delete(1))
    made.skip()
    assert made.read() == []
    write(memory, 1, ReportKind.DELETE, delete(2))
    assert made.read() == [FinishedMessages(1, int(MessageType.DELETE), delete(2))]


@pytest.mark.parametrize("flags", [0, DISCARD], ids=["kept", "given up"])
def test_reports_wait_for_one_that_is_still_written(
    reports: tuple[Reports, Memory], flags: int
) -> None:
    made, memory = reports
    write(memory, 1, ReportKind.DELETE, delete(1))
    busy = memory.produced
    memory.write(REPORT.pack(1, ReportKind.DELETE, bytes(5), delete(2)), BUSY)
    write(memory, 1, ReportKind.DELETE, delete(3))
    assert made.read() == [FinishedMessages(1, int(MessageType.DELETE), delete(1))]
    assert made.read() == []
    memory.finish(busy, REPORT.size | flags)
    rest = delete(3) if flags else delete(2) + delete(3)
    assert made.read() == [FinishedMessages(1, int(MessageType.DELETE), rest)]
    assert memory.consumed == memory.produced


def test_a_flow_that_took_a_grant_begins_before_it_ends(reports: tuple[Reports, Memory]) -> None:
    made, memory = reports
    taken = pack_returned(ErrorCode.NOFLOW, 5, 1)
    for kind, octets in (
        (ReportKind.DELETE, delete(1)),
        (ReportKind.TAKEN, taken),
        (ReportKind.NOTHING, b""),
        (ReportKind.DELETE, delete(2)),
        (ReportKind.TAKEN, taken),
    ):
        write(memory, 3, kind, octets)
    assert made.read() == [
        GrantsTaken(3, 2 * taken),
        FinishedMessages(3, int(MessageType.DELETE), delete(1) + delete(2)),
    ]


def test_of_more_groups_than_have_room_the_rest_comes_next(
    reports: tuple[Reports, Memory],
) -> None:
    made, memory = reports
    for group_id in range(70):
        write(memory, group_id, ReportKind.DELETE, delete(group_id))
    found = made.read() + made.read()
    assert sorted(each.group_id for each in found) == [*range(70)]
    assert memory.consumed == memory.produced


def test_one_call_takes_a_bounded_number(reports: tuple[Reports, Memory]) -> None:
    made, memory = reports
    octets = REPORT.pack(1, ReportKind.DELETE, bytes(5), delete(1))
    one = struct.pack("=II", len(octets), 0) + octets
    memory.fill(one, AT_ONCE + 3)
    size = len(delete(1))
    (first,) = made.read()
    (second,) = made.read()
    assert isinstance(first, FinishedMessages)
    assert isinstance(second, FinishedMessages)
    assert (len(first.octets), len(second.octets)) == (AT_ONCE * size, 3 * size)


def test_native_code_of_another_release_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    memory = Memory(REPORTS_SIZE)
    write(memory, 1, ReportKind.DELETE, delete(1))
    found = []

    def said() -> str:
        made = open_reports(memory.fd)
        found.extend(made.read())
        made.close()
        return caplog.messages[-1]

    monkeypatch.setattr(native_reports, "ARTIFACT", tmp_path / "reports.so")
    assert said().startswith("reports are taken by Python alone: ")
    assert "reports.so" in caplog.messages[-1]
    monkeypatch.undo()
    if ARTIFACT.exists():
        assert said() == "reports are taken by native code"
        monkeypatch.setattr(native_reports, "_LAYOUT", 99)
        assert said().endswith("it is of another release")
    monkeypatch.setenv(native.SWITCH, "0")
    assert said() == "reports are taken by Python alone: SPLITPLANE_NATIVE=0"
    assert found == [FinishedMessages(1, int(MessageType.DELETE), delete(1))]
    os.close(memory.fd)
