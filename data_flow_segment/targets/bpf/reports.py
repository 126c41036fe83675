# SPDX-License-Identifier: Apache-2.0
"""Finished messages that the program wrote for CSs: taken out of their ring in blocks, because
there are two for every flow: no line of Python is run for a single one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy

from data_flow_segment.targets.bpf.layout import REPORT, ReportKind
from data_flow_segment.targets.bpf.program import REPORTS_SIZE
from data_flow_segment.targets.bpf.ring import RECORD_HEADER, Ring
from data_flow_segment.targets.contract import FinishedMessages
from data_flow_segment.targets.grants import GrantsTaken
from ssmb.codec import TAKEN_FLOW_SIZE, size_of
from ssmb.constants import MessageType

AT_ONCE: Final = 4096  # messages per turn of the loop: some milliseconds, to send nearly all of it

_RECORD: Final = numpy.dtype(
    {  # as REPORT, behind a record's header
        "names": ["group_id", "kind", "octets"],
        "formats": ["=u2", "u1", ("u1", 120)],
        "offsets": [RECORD_HEADER, RECORD_HEADER + 2, RECORD_HEADER + 8],
        "itemsize": RECORD_HEADER + REPORT.size,
    }
)
_KINDS: Final = 256  # of a group: an octet says which
_TYPES: Final = {ReportKind.DELETE: MessageType.DELETE, ReportKind.REPLY: MessageType.REPLY}
_SIZES: Final = {
    **{kind: size_of(message_type, 2) for kind, message_type in _TYPES.items()},
    ReportKind.TAKEN: TAKEN_FLOW_SIZE,
}


class Reports:
    """Consumer of the map `reports`."""

    def __init__(self, fd: int) -> None:
        self._ring = Ring(fd, REPORTS_SIZE)

    def read(self) -> list[FinishedMessages | GrantsTaken]:
        """What waits, up to AT_ONCE messages, in order."""
        octets, step = self._ring.read_whole(REPORT.size, AT_ONCE)
        return list(_messages(octets, step)) if octets else []

    def skip(self) -> None:
        """What an earlier agent left: its CSs ask for all flows (11.4)."""
        self._ring.skip()

    def close(self) -> None:
        self._ring.close()


def _messages(octets: bytes, step: int) -> Iterator[FinishedMessages | GrantsTaken]:
    """What came together, by group and kind.  The end of a flow that took a grant stands behind its
    beginning; otherwise the order says nothing."""
    assert step == _RECORD.itemsize
    records = numpy.frombuffer(octets, _RECORD)
    heads = records["group_id"].astype("u4") * _KINDS + records["kind"]
    for head in sorted(set(heads.tolist()), key=_is_end):
        group_id, kind = head // _KINDS, ReportKind(head % _KINDS)
        if kind is ReportKind.NOTHING:
            continue
        joined = records["octets"][heads == head, : _SIZES[kind]].tobytes()
        if kind is ReportKind.TAKEN:
            yield GrantsTaken(group_id, joined)
        else:
            yield FinishedMessages(group_id, int(_TYPES[kind]), joined)


def _is_end(head: int) -> bool:
    return head % _KINDS == ReportKind.DELETE
