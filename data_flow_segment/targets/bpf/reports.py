# SPDX-License-Identifier: Apache-2.0
"""Finished messages that the program wrote for CSs: taken out of their ring in blocks, because
there is one for every flow."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from data_flow_segment.targets.bpf.layout import REPORT, ReportKind
from data_flow_segment.targets.bpf.program import REPORTS_SIZE
from data_flow_segment.targets.bpf.ring import RECORD_HEADER, Ring
from data_flow_segment.targets.contract import FinishedMessages
from data_flow_segment.targets.grants import GrantsTaken
from ssmb.codec import TAKEN_FLOW_SIZE, size_of
from ssmb.constants import MessageType

AT_ONCE: Final = 1024  # messages per turn of the loop: under a millisecond

_HEAD: Final = struct.Struct("=HB5x")
_KIND_AT: Final = 2
_TYPES: Final = {ReportKind.DELETE: MessageType.DELETE, ReportKind.REPLY: MessageType.REPLY}
_SIZES: Final = {
    **{kind: size_of(message_type, 2) for kind, message_type in _TYPES.items()},
    ReportKind.TAKEN: TAKEN_FLOW_SIZE,
    ReportKind.NOTHING: 0,
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
    places: dict[bytes, list[int]] = {}
    first = RECORD_HEADER + _HEAD.size
    for place in range(first, len(octets), step):
        head = octets[place - _HEAD.size : place]
        if head in places:
            places[head].append(place)
        else:
            places[head] = [place]
    for head in sorted(places, key=_is_end):
        group_id, number = _HEAD.unpack(head)
        kind = ReportKind(number)
        size = _SIZES[kind]
        joined = b"".join([octets[place : place + size] for place in places[head]])
        if kind is ReportKind.TAKEN:
            yield GrantsTaken(group_id, joined)
        elif kind is not ReportKind.NOTHING:
            yield FinishedMessages(group_id, int(_TYPES[kind]), joined)


def _is_end(head: bytes) -> bool:
    return head[_KIND_AT] == ReportKind.DELETE
