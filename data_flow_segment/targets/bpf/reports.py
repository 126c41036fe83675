# SPDX-License-Identifier: Apache-2.0
"""Finished messages that the program wrote for CSs: taken out of their ring in blocks, because
there are two for every flow: no line of Python is run for a single one."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Final

import numpy

from admin import native
from data_flow_segment.targets.bpf.layout import REPORT, ReportKind
from data_flow_segment.targets.bpf.native_reports import AT_ONCE, NativeReports
from data_flow_segment.targets.bpf.program import REPORTS_SIZE
from data_flow_segment.targets.bpf.ring import RECORD_HEADER, Ring
from data_flow_segment.targets.contract import FinishedMessages
from data_flow_segment.targets.grants import GrantsTaken
from ssmb.codec import TAKEN_FLOW_SIZE, size_of
from ssmb.constants import MessageType

_LOG: Final = logging.getLogger("splitplane.dfs")
_RECORD: Final = numpy.dtype(
    {  # as REPORT, behind a record's header
        "names": ["group_id", "kind", "octets"],
        "formats": ["=u2", "u1", ("u1", 120)],
        "offsets": [RECORD_HEADER, RECORD_HEADER + 2, RECORD_HEADER + 8],
        "itemsize": RECORD_HEADER + REPORT.size,
    }
)
_KINDS: Final = 256  # of a group: an octet says which
_TAKEN: Final = int(ReportKind.TAKEN)
_TYPES: Final = {
    int(ReportKind.DELETE): int(MessageType.DELETE),
    int(ReportKind.REPLY): int(MessageType.REPLY),
}
_SIZES: Final = {
    **{kind: size_of(MessageType(message_type), 2) for kind, message_type in _TYPES.items()},
    _TAKEN: TAKEN_FLOW_SIZE,
}


class Reports:
    """Consumer of the map `reports`."""

    def __init__(self, fd: int, *, is_native: bool = False) -> None:
        """`is_native`: let native code take them out; OSError if it cannot be loaded."""
        self._ring = Ring(fd, REPORTS_SIZE)
        self._native: NativeReports | None = None
        if is_native:
            try:
                self._native = NativeReports(self._ring.places(), _SIZES, ReportKind.DELETE)
            except OSError:
                self._ring.close()
                raise

    def read(self) -> list[FinishedMessages | GrantsTaken]:
        """What waits, up to AT_ONCE messages: by group and kind.

        The end of a flow that took a grant stands behind its beginning; otherwise the order says
        nothing.
        """
        if self._native is not None:
            return [_message(*part) for part in self._native.take()]
        octets, step = self._ring.read_whole(REPORT.size, AT_ONCE)
        return list(_messages(octets, step)) if octets else []

    def skip(self) -> None:
        """What an earlier agent left: its CSs ask for all flows (11.4)."""
        self._ring.skip()

    def close(self) -> None:
        self._native = None
        self._ring.close()


def open_reports(fd: int) -> Reports:
    """Return the consumer, by native code where that is there and wanted; the log says so."""
    why = f"{native.SWITCH}=0"
    if native.is_wanted():
        try:
            reports = Reports(fd, is_native=True)
        except OSError as error:
            why = str(error)
        else:
            _LOG.info("reports are taken by native code")
            return reports
    _LOG.info("reports are taken by Python alone: %s", why)
    return Reports(fd)


def _messages(octets: bytes, step: int) -> Iterator[FinishedMessages | GrantsTaken]:
    assert step == _RECORD.itemsize
    records = numpy.frombuffer(octets, _RECORD)
    heads = records["group_id"].astype("u4") * _KINDS + records["kind"]
    for head in sorted(set(heads.tolist()), key=_is_end):
        group_id, kind = divmod(head, _KINDS)
        if kind in _SIZES:
            joined = records["octets"][heads == head, : _SIZES[kind]].tobytes()
            yield _message(group_id, kind, joined)


def _message(group_id: int, kind: int, octets: bytes) -> FinishedMessages | GrantsTaken:
    if kind == _TAKEN:
        return GrantsTaken(group_id, octets)
    return FinishedMessages(group_id, _TYPES[kind], octets)


def _is_end(head: int) -> bool:
    return head % _KINDS == ReportKind.DELETE
