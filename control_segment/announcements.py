# SPDX-License-Identifier: Apache-2.0
"""What a CS announces over CSMB: CONFIG, the list of virtual servers, and changes to it (7.7)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from control_segment.config import SettingsConfig
from csmb.constants import CSMB_MSG_MAX, Flag
from csmb.messages import AddVs, Config, DelVs, VsEntry, VsList
from ssmb.addresses import UNSPECIFIED, is_ipv4

_LIST_HEADER: Final = 16  # of VS_LIST
_ENTRY_SIZE: Final = {1: 28, 2: 52}  # of an entry without app_data (7.4)


def config_message(settings: SettingsConfig) -> Config:
    """Return the CONFIG for these settings."""
    return Config(
        tcp_idle_timeout=settings.tcp_idle_timeout_s,
        udp_idle_timeout=settings.udp_idle_timeout_s,
        query_timeout=settings.query_timeout_ms,
        stats_interval=settings.stats_interval_s,
        flow_buffer_max=settings.flow_buffer_max,
    )


def virtual_server_list(servers: list[AddVs], version: int) -> Iterator[VsList]:
    """Yield the VS_LISTs that say them all; MORE on all but the last."""
    entries = [server.entry for server in servers if fits(server, version)]
    at_once = (CSMB_MSG_MAX - _LIST_HEADER) // _ENTRY_SIZE[version]
    pieces: list[list[VsEntry]] = [
        entries[start : start + at_once] for start in range(0, len(entries), at_once)
    ] or [[]]
    for number, piece in enumerate(pieces, 1):
        more = Flag.MORE if number < len(pieces) else 0
        yield VsList(int(more), len(entries), tuple(piece))


def changes(before: list[AddVs], after: list[AddVs], version: int) -> Iterator[AddVs | DelVs]:
    """Yield what turns one set into the other: first what is gone, then what is new or other."""
    old = {key_of(server): server for server in before if fits(server, version)}
    new = {key_of(server): server for server in after if fits(server, version)}
    for key, server in old.items():
        if key not in new:
            yield withdrawal(server)
    for key, server in new.items():
        if old.get(key) != server:
            yield server


def fits(server: AddVs, version: int) -> bool:
    """Whether it can be announced in this CSMB version: version 1 has no IPv6."""
    addresses = server.virt_ipaddr, server.next_hop_ipaddr
    return version >= 2 or all(address == UNSPECIFIED or is_ipv4(address) for address in addresses)


def key_of(server: AddVs) -> tuple[int, bytes, int, int]:
    """What makes two announcements mean the same virtual server (8.3)."""
    gone = withdrawal(server)
    return gone.flags, gone.virt_ipaddr, gone.virt_port, gone.protocol


def withdrawal(server: AddVs) -> DelVs:
    """Return what takes an announcement back."""
    wildcards = server.flags & (Flag.WILDCARD_ADDR | Flag.WILDCARD_PORT)
    return DelVs(int(wildcards), server.virt_ipaddr, server.virt_port, server.protocol)
