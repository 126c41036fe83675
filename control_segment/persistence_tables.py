# SPDX-License-Identifier: Apache-2.0
"""The persistence tables of a CS, by names that outlive its process."""

from __future__ import annotations

from collections.abc import Iterable

from control_segment.config import VirtualServerConfig
from control_segment.persistence import SourceAddressPersistence
from control_segment.virtual_servers import VirtualServer


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


def table_name(config: VirtualServerConfig) -> str:
    """Return what the table of a virtual server is known by, also after a restart."""
    group = config.persistence.group if config.persistence else None
    return f"group {group}" if group else "virtual server {} {} {}".format(*config.key)
