# SPDX-License-Identifier: Apache-2.0
"""The persistence tables of a CS, by names that outlive its process."""

from __future__ import annotations

import math
import struct
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Final

from admin.state import Kind, Section
from control_segment.config import VirtualServerConfig
from control_segment.nodes import Place
from control_segment.persistence import NEVER, SourceAddressPersistence, Span
from control_segment.virtual_servers import VirtualServer

# A client's address; its node's address and port; when it was seen (unix time, s)
_RECORD: Final = struct.Struct(">16s16sHI")
_RECORDS_AT_ONCE: Final = 1000  # about 1 ms
_GONE_MAX: Final = 10_000  # names of tables that were there
_KEPT_MAX: Final = 1 << 20  # clients in a file, of all tables: 40 MB


class PersistenceTables:
    """All tables by name: a group's, or that of a virtual server alone."""

    def __init__(self) -> None:
        self.by_name: dict[str, SourceAddressPersistence] = {}
        self._users: dict[str, set[VirtualServer]] = {}
        self._name_of: dict[VirtualServer, str] = {}
        self._emptied: set[str] = set()  # tables that a configuration took from their last user
        self._left: set[str] = set()  # whose last user was forgotten, and may come back at once
        self.made = 0  # tables, and of those the ones that had been there before
        self.made_again = 0
        self._gone: OrderedDict[str, None] = OrderedDict()

    def assign(self, server: VirtualServer) -> None:
        """Give a virtual server that is new or other the table that it is configured to have."""
        before = self._name_of.pop(server, None)
        if before is not None:
            self._users[before].discard(server)
            self._emptied.add(before)
        config = server.config.persistence
        if config is None or not config.remembers:
            server.persistence = None
            return
        name = table_name(server.config)
        table = self.by_name.get(name)
        if table is None:
            self.made += 1
            if name in self._gone:
                self.made_again += 1
                del self._gone[name]
            is_shared = config.group is not None
            table = self.by_name[name] = SourceAddressPersistence(
                config.timeout_s, is_shared=is_shared
            )
        table.timeout_s = config.timeout_s
        server.persistence = table
        self._name_of[server] = name
        self._users.setdefault(name, set()).add(server)

    def release(self, server: VirtualServer) -> None:
        """A virtual server is forgotten; what its table knows is kept until the next `settle`."""
        name = self._name_of.pop(server, None)
        if name is not None:
            self._users[name].discard(server)
            self._left.add(name)

    def settle(self) -> None:
        """A configuration is in force: forget tables that nobody has."""
        for name in self._emptied | self._left:
            if not self._users.get(name):
                self._users.pop(name, None)
                self.by_name.pop(name, None)
                self._gone[name] = None
                if len(self._gone) > _GONE_MAX:
                    self._gone.popitem(last=False)
        self._emptied.clear()
        self._left.clear()

    @property
    def changes(self) -> int:
        """Another number whenever there is something new to keep."""
        return sum(table.changes for table in self.by_name.values())

    def sections(
        self, now: float, wall_now: float, age_max_s: float = math.inf
    ) -> Iterator[Section]:
        """Yield what is known, some clients at a time, or none: `wall_now` is the time in which
        records say when a client was seen (s); one that was seen longer ago than `age_max_s` is
        left out.

        Each table gives its latest clients if all together are too many.
        """
        most = _KEPT_MAX // max(1, len(self.by_name))
        for name, table in list(self.by_name.items()):
            waiting: list[tuple[bytes, Place, float]] = []
            for part in table.entries(most, now, age_max_s):
                waiting += part
                while len(waiting) >= _RECORDS_AT_ONCE:
                    yield _section(name, waiting[:_RECORDS_AT_ONCE], wall_now - now)
                    del waiting[:_RECORDS_AT_ONCE]
                yield _section(name, [], 0.0)
            yield _section(name, waiting, wall_now - now)

    def restore(
        self,
        sections: Iterable[Section],
        now: float,
        wall_now: float,
        doubted: Span = NEVER,
    ) -> int:
        """Take what an earlier process kept, or another CS knows; return how many clients are known
        by that.  `doubted`: see `SourceAddressPersistence.learn`.

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
                    count += table.learn(client, place, now - age_s, doubted)
        return count


def _section(name: str, clients: list[tuple[bytes, Place, float]], ahead_s: float) -> Section:
    """`ahead_s`: of the time in records to that of *clients*."""
    records = b"".join(
        _RECORD.pack(client, *place, max(0, int(ahead_s + seen))) for client, place, seen in clients
    )
    return Section(Kind.PERSISTENCE, name, _RECORD.size, records)


def table_name(config: VirtualServerConfig) -> str:
    """Return what the table of a virtual server is known by, also after a restart."""
    group = config.persistence.group if config.persistence else None
    return f"group {group}" if group else "virtual server {} {} {}".format(*config.key)
