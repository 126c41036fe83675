# SPDX-License-Identifier: Apache-2.0
"""The persistence tables of a CS, by names that outlive its process."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

from admin.state import Kind, Section
from control_segment.config import VirtualServerConfig
from control_segment.nodes import Place
from control_segment.persistence import SourceAddressPersistence
from control_segment.virtual_servers import VirtualServer

# A client's address; its node's address and port; when it was seen (unix time, s)
_RECORD: Final = struct.Struct(">16s16sHI")
_RECORDS_AT_ONCE: Final = 1000  # about 1 ms
_KEPT_MAX: Final = 1 << 20  # clients in a file, of all tables: 40 MB


class PersistenceTables:
    """All tables by name: a group's, or that of a virtual server alone."""

    def __init__(self) -> None:
        self.by_name: dict[str, SourceAddressPersistence] = {}

    def assign(self, servers: Iterable[VirtualServer]) -> None:
        """Give virtual servers the tables that they are configured to have; forget the others."""
        before, self.by_name = self.by_name, {}
        for server in servers:
            config = server.config.persistence
            if config is None:
                server.persistence = None
                continue
            name = table_name(server.config)
            table = before.get(name)
            if table is None:
                is_shared = config.group is not None
                table = before[name] = SourceAddressPersistence(
                    config.timeout_s, is_shared=is_shared
                )
            table.timeout_s = config.timeout_s
            server.persistence = self.by_name[name] = table

    @property
    def changes(self) -> int:
        """Another number whenever there is something new to keep."""
        return sum(table.changes for table in self.by_name.values())

    def sections(self, now: float, wall_now: float) -> Iterator[Section]:
        """Yield what is to be kept over a restart, some clients at a time (`wall_now`: unix time).

        Each table gives its latest clients if all together are too many.
        """
        most = _KEPT_MAX // max(1, len(self.by_name))
        for name, table in list(self.by_name.items()):
            entries = table.entries(most, now)
            while records := b"".join(
                _RECORD.pack(client, *place, max(0, int(wall_now - now + seen)))
                for client, place, seen in islice(entries, _RECORDS_AT_ONCE)
            ):
                yield Section(Kind.PERSISTENCE, name, _RECORD.size, records)

    def restore(self, sections: Iterable[Section], now: float, wall_now: float) -> int:
        """Take what an earlier process kept; return how many clients are known again.

        Tables that are not configured any more are passed over.  What was seen in the future, by
        this machine's clock, was seen now.
        """
        count = 0
        places: dict[Place, Place] = {}  # one copy of each
        for kind, name, record_size, records in sections:
            table = self.by_name.get(name)
            if kind != Kind.PERSISTENCE or record_size != _RECORD.size or table is None:
                continue
            for client, address, port, seen in _RECORD.iter_unpack(records):
                age_s = max(0.0, wall_now - seen)
                if age_s < table.timeout_s:
                    place = places.setdefault((address, port), (address, port))
                    table.remember(client, place, now - age_s)
                    count += 1
        return count


def table_name(config: VirtualServerConfig) -> str:
    """Return what the table of a virtual server is known by, also after a restart."""
    group = config.persistence.group if config.persistence else None
    return f"group {group}" if group else "virtual server {} {} {}".format(*config.key)
