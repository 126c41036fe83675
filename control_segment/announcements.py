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


# Packets of an assisted one's node are known for what they are by a held entry, as a proxied one's
_PROXIES: Final = int(
    Flag.SSL_PROXY | Flag.COOKIE_PROXY | Flag.HTTP_PROXY | Flag.RAW_PROXY
    | Flag.CS_ASSIST | Flag.HYBRID
)  # fmt: skip


class Versions(NamedTuple):
    """The major versions of both buses that a CS has agreed on with a DFS, and what that can."""

    csmb: int
    ssmb: int
    proxies: bool = False  # it makes clients' connections itself (15.1)

    def carry(self, server: AddVs) -> bool:
        """Whether it can be announced and served."""
        return not (self.lacks_addresses(server) or self.lacks_proxy(server))

    def lacks_addresses(self, server: AddVs) -> bool:
        """Version 1 of either bus has no IPv6."""
        if self.csmb >= 2 and self.ssmb >= 2:
            return False
        addresses = server.virt_ipaddr, server.next_hop_ipaddr
        return not all(address == UNSPECIFIED or is_ipv4(address) for address in addresses)

    def lacks_proxy(self, server: AddVs) -> bool:
        """A DFS must be able to, and version 1 of SSMB has no room for it (15.1)."""
        return bool(server.flags & _PROXIES) and not (self.proxies and self.ssmb >= 2)


def virtual_server_list(servers: list[AddVs], versions: Versions) -> Iterator[VsList]:
    """Yield the VS_LISTs that say all that these versions carry, as long as CSMB writes them."""
    return parts_of_list([each.entry for each in servers if versions.carry(each)], versions.csmb)


def withheld(servers: list[AddVs], versions: Versions) -> list[AddVs]:
    """Return the virtual servers that these versions do not carry."""
    return [server for server in servers if not versions.carry(server)]


def more_withheld(changes: Changes, versions: Versions) -> int:
    """Return how many more virtual servers these versions do not carry, behind changes."""
    after = [*changes.added, *(after for _, after in changes.changed)]
    before = [*changes.gone, *(before for before, _ in changes.changed)]
    return len(withheld(after, versions)) - len(withheld(before, versions))


def complaint(lost: list[AddVs], versions: Versions) -> str:
    """Say that a DFS will not serve these virtual servers, and why."""
    said = []
    without = [server for server in lost if versions.lacks_addresses(server)]
    if without:
        said.append(
            f"{len(without)} IPv6 virtual servers are not announced, because CSMB {versions.csmb}"
            f" with SSMB {versions.ssmb} cannot carry them ({_named(without)});"
            " upgrade that DFS to version 2 of both"
        )
    without = [server for server in lost if versions.lacks_proxy(server)]
    if without:
        said.append(
            f"{len(without)} virtual servers that are not plain are not announced,"
            f" because that DFS cannot read what clients say ({_named(without)}); give it a target"
            " that can, and this release"
        )
    return "; ".join(said)


def in_words(changes: Changes, number: int) -> str:
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
