# SPDX-License-Identifier: Apache-2.0
"""What a CS announces over CSMB: CONFIG, the list of virtual servers, and changes to it (7.7)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from control_segment.config import SettingsConfig
from csmb.codec import parts_of_list
from csmb.constants import Flag, MessageType
from csmb.judgements import error_name
from csmb.messages import Ack, AddVs, Config, DelVs, VsList
from ssmb.addresses import UNSPECIFIED, endpoint_text, is_ipv4

_NAMED_MAX: Final = 3  # virtual servers in a log line


def config_message(settings: SettingsConfig) -> Config:
    """Return the CONFIG for these settings."""
    return Config(
        tcp_idle_timeout=settings.tcp_idle_timeout_s,
        udp_idle_timeout=settings.udp_idle_timeout_s,
        query_timeout=settings.query_timeout_ms,
        stats_interval=settings.stats_interval_s,
        flow_buffer_max=settings.flow_buffer_max,
    )


class Changes(NamedTuple):
    """What a reload changed of what DFSs know of virtual servers."""

    gone: list[AddVs]
    added: list[AddVs]
    changed: list[tuple[AddVs, AddVs]]  # before, after


class Versions(NamedTuple):
    """The major versions of both buses that a CS has agreed on with a DFS."""

    csmb: int
    ssmb: int

    def carry(self, server: AddVs) -> bool:
        """Whether it can be announced and served: version 1 of either bus has no IPv6."""
        addresses = server.virt_ipaddr, server.next_hop_ipaddr
        return min(self) >= 2 or all(
            address == UNSPECIFIED or is_ipv4(address) for address in addresses
        )


def virtual_server_list(servers: list[AddVs], versions: Versions) -> Iterator[VsList]:
    """Yield the VS_LISTs that say all that these versions carry, as long as CSMB writes them."""
    return parts_of_list([each.entry for each in servers if versions.carry(each)], versions.csmb)


def withheld(servers: list[AddVs], versions: Versions) -> list[AddVs]:
    """Return the virtual servers that these versions do not carry."""
    return [server for server in servers if not versions.carry(server)]


def complaint(lost: list[AddVs], versions: Versions) -> str:
    """Say that a DFS will not serve these virtual servers, and why."""
    return (
        f"{len(lost)} IPv6 virtual servers are not announced, because CSMB {versions.csmb} with"
        f" SSMB {versions.ssmb} cannot carry them ({_named(lost)});"
        " upgrade that DFS to version 2 of both"
    )


def difference(changes: Changes, number: int) -> str:
    """Say what a reload added and removed, so that nobody has to find out by a clients' call."""
    what = {"removed": changes.gone, "added": changes.added}
    said = [f"{len(all_)} {how} ({_named(all_)})" for how, all_ in what.items() if all_]
    return f"virtual servers: {', '.join(said)}; now {number}"


def _named(servers: list[AddVs]) -> str:
    named = [endpoint_text(each.virt_ipaddr, each.virt_port) for each in servers[:_NAMED_MAX]]
    return ", ".join(named) + (", ..." if len(servers) > _NAMED_MAX else "")


def refusal(ack: Ack) -> str:
    """Say what a DFS did not obey, and why."""
    kinds, kind = MessageType._value2member_map_, ack.ack_msg_type
    what = MessageType(kind).name if kind in kinds else str(kind)
    return f"refused {what}: {error_name(ack.error_code)}"


def messages(changes: Changes, versions: Versions) -> Iterator[AddVs | DelVs]:
    """Yield what a reload changed: first what is gone, then what is new or other."""
    carry = versions.carry
    yield from (withdrawal(server) for server in changes.gone if carry(server))
    for before, after in changes.changed:
        if carry(after):
            yield after
        elif carry(before):
            yield withdrawal(before)
    yield from (server for server in changes.added if carry(server))


def withdrawal(server: AddVs) -> DelVs:
    """Return what takes an announcement back."""
    wildcards = server.flags & (Flag.WILDCARD_ADDR | Flag.WILDCARD_PORT)
    return DelVs(int(wildcards), server.virt_ipaddr, server.virt_port, server.protocol)


def silenced(server: AddVs) -> AddVs:
    """Return the announcement for a DFS that leaves the address to another one of its pair."""
    if server.flags & Flag.WILDCARD_ADDR:
        return server
    return server._replace(flags=server.flags | int(Flag.NOARP_MODE))


def changes_seen(changes: Changes) -> Changes:
    """Return what such a DFS is told of a reload."""
    changed = [(silenced(before), silenced(after)) for before, after in changes.changed]
    return Changes(changes.gone, [silenced(each) for each in changes.added], changed)
