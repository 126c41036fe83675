# SPDX-License-Identifier: Apache-2.0
"""What monitors have found, kept over a restart of the CS.

A CS that starts would send new sessions to every node until its monitors have found the dead ones
again, which takes `fall` probes.  What is kept is what was known when it ended: a node that came
back meanwhile is found up by `rise` probes, as always.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

from admin.state import Kind, Section
from control_segment.group.health_message import HIGHEST, Entry
from control_segment.group.health_sharing import entry_of, said_by
from control_segment.health.machine import Order, Said
from control_segment.monitoring import Monitoring

AGE_MAX_S: Final = 600.0
"""Older news says little, and a pool whose nodes are all down by old news has none for a while."""

_RECORD: Final = struct.Struct(">QBBH")  # as in HEALTH (wire protocol 11.9)
_RECORDS_AT_ONCE: Final = 1000  # about 2 ms
_ALL: Final = 100  # percent of a node's weight
_REASON: Final = "it was down before this control segment restarted"


def _matters(said: Said) -> bool:
    """Whether a node with it gets other sessions than one of which nothing is known."""
    return said.health == "down" or said.order is not Order.NONE or said.percent != _ALL


class SavedHealth:
    """Gives and takes the sections of a state file."""

    def __init__(self, monitoring: Monitoring) -> None:
        self._monitoring = monitoring

    @property
    def changes(self) -> int:
        """Another number whenever there is something new to keep."""
        return self._monitoring.changes

    def matters(self) -> bool:
        """Whether anything is to be kept."""
        return any(_matters(said) for _, said in self._monitoring.known())

    def sections(self) -> Iterator[Section]:
        """Yield what is to be kept, some targets at a time: those that are not simply up."""
        known = iter(self._monitoring.known())
        while piece := list(islice(known, _RECORDS_AT_ONCE)):
            records = b"".join(
                _RECORD.pack(*entry_of(target, said)) for target, said in piece if _matters(said)
            )
            if records:
                yield Section(Kind.HEALTH, "", _RECORD.size, records)

    def restore(self, sections: Iterable[Section], age_s: float, now: float) -> int:
        """Take what an earlier process kept, before there are sessions; return of how many targets
        something is known again.  `age_s`: since it was written."""
        found: dict[int, Said] = {}
        for kind, _, record_size, records in sections:
            if kind != Kind.HEALTH or record_size != _RECORD.size or age_s > AGE_MAX_S:
                continue
            for fields in _RECORD.iter_unpack(records):
                entry = Entry(*fields)
                if entry.health <= HIGHEST and entry.order <= HIGHEST:
                    found[entry.target] = said_by(entry, _REASON)
        return self._monitoring.restore(found, now) if found else 0
