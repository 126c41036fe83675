# SPDX-License-Identifier: Apache-2.0
"""The virtual servers that the CSs announced: what is legal (8.2), which CS owns which, what
changes.

A change returns the commands that bring the target to the same state.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from csmb.constants import ErrorCode, Flag
from csmb.messages import VsEntry
from data_flow_segment.targets.contract import (
    AddVirtualServer,
    Command,
    RemoveVirtualServer,
    VirtualServerEntry,
    VirtualServerKey,
)
from ssmb.addresses import IPV4_NOWHERE, UNSPECIFIED, is_martian, is_next_hop
from ssmb.constants import PROTOCOL_NAMES, TCP, ForwardMode
from ssmb.messages import FlowSignature

# plain numbers: an enumeration's operators take microseconds, and lists are long
_PROXIES: Final = int(Flag.SSL_PROXY | Flag.COOKIE_PROXY | Flag.HTTP_PROXY | Flag.RAW_PROXY)
_COOKIE_PROXY: Final = int(Flag.COOKIE_PROXY)
_CS_ASSIST: Final = int(Flag.CS_ASSIST)
_HYBRID: Final = int(Flag.HYBRID)
_NOARP_MODE: Final = int(Flag.NOARP_MODE)
_WILDCARD_ADDR: Final = int(Flag.WILDCARD_ADDR)
_WILDCARD_PORT: Final = int(Flag.WILDCARD_PORT)
_FORWARD_MODES: Final = frozenset(  # HOP is not built yet (6.2)
    (int(ForwardMode.NAT), int(ForwardMode.L2), int(ForwardMode.TUNNEL))
)
VIRTUAL_SERVERS_MAX: Final = 65536


@dataclass(frozen=True, slots=True)
class VirtualServer:
    """One announced virtual server."""

    key: VirtualServerKey
    group_id: int
    flags: int
    next_hop_ipaddr: bytes
    idle_timeout_s: int  # 0: CONFIG's
    forward_mode: int

    @property
    def bridged(self) -> bool:
        return bool(self.flags & _CS_ASSIST)

    @property
    def entry(self) -> VirtualServerEntry:
        """What the target needs of it."""
        silent = self.flags & _NOARP_MODE or self.key.virt_ipaddr is None
        return VirtualServerEntry(self.key, self.group_id, not silent, self.bridged)


def key_of(flags: int, virt_ipaddr: bytes, virt_port: int, protocol: int) -> VirtualServerKey:
    """The wildcards are flags on the wire and None here."""
    return VirtualServerKey(
        None if flags & _WILDCARD_ADDR else virt_ipaddr,
        None if flags & _WILDCARD_PORT else virt_port,
        protocol,
    )


def judge(entry: VsEntry) -> ErrorCode:
    """Whether an entry is legal (8.2), and whether this DFS supports it."""
    flags = entry.flags
    proxies = flags & _PROXIES
    if proxies & (proxies - 1) or (proxies and flags & _CS_ASSIST):
        return ErrorCode.BADFLAGS
    if flags & _HYBRID and not flags & _CS_ASSIST:
        return ErrorCode.BADFLAGS
    if entry.protocol not in PROTOCOL_NAMES or (
        entry.protocol != TCP and (proxies or flags & _HYBRID)
    ):
        return ErrorCode.BADFLAGS
    if flags & _COOKIE_PROXY and not entry.app_data:
        return ErrorCode.BADFLAGS
    if not _has_addresses(entry):
        return ErrorCode.BADFLAGS
    if proxies or flags & _HYBRID:
        return ErrorCode.UNSUPPORTED  # neither capability is in this DFS's HELLO
    return ErrorCode.OK if entry.vs_mode in _FORWARD_MODES else ErrorCode.UNSUPPORTED


def _has_addresses(entry: VsEntry) -> bool:
    if not entry.flags & _WILDCARD_PORT and not entry.virt_port:
        return False
    if entry.next_hop_ipaddr != UNSPECIFIED and not is_next_hop(entry.next_hop_ipaddr):
        return False
    if entry.flags & _WILDCARD_ADDR:
        return entry.virt_ipaddr != IPV4_NOWHERE
    return not is_martian(entry.virt_ipaddr)


class VirtualServers:
    """All virtual servers of all groups, by key."""

    def __init__(self, adopted: Iterable[VirtualServerEntry] = ()) -> None:
        """`adopted`: what a target was left with; its groups' next VS_LIST replaces it."""
        self.by_key: dict[VirtualServerKey, VirtualServer] = {}
        for entry in adopted:
            flags = (0 if entry.answer_arp else _NOARP_MODE) | (_CS_ASSIST if entry.bridged else 0)
            self.by_key[entry.key] = VirtualServer(
                entry.key, entry.group_id, flags, UNSPECIFIED, 0, 0
            )

    def add(self, entry: VsEntry, group_id: int) -> tuple[ErrorCode, list[Command]]:
        """Add, or replace the one with the same key; another group's stays."""
        verdict = judge(entry)
        if verdict != ErrorCode.OK:
            return verdict, []
        key = key_of(entry.flags, entry.virt_ipaddr, entry.virt_port, entry.protocol)
        known = self.by_key.get(key)
        if known is not None and known.group_id != group_id:
            return ErrorCode.BADFLAGS, []  # 8.3
        if known is None and len(self.by_key) >= VIRTUAL_SERVERS_MAX:
            return ErrorCode.NORESOURCE, []
        server = VirtualServer(
            key, group_id, entry.flags, entry.next_hop_ipaddr, entry.idle_timeout, entry.vs_mode
        )
        self.by_key[key] = server
        if known is not None and known.entry == server.entry:
            return ErrorCode.OK, []  # nothing that the target would see
        return ErrorCode.OK, [AddVirtualServer(server.entry)]

    def remove(self, key: VirtualServerKey, group_id: int) -> tuple[ErrorCode, list[Command]]:
        """No new flows for it from now on."""
        known = self.by_key.get(key)
        if known is None or known.group_id != group_id:
            return ErrorCode.NOVS, []
        del self.by_key[key]
        return ErrorCode.OK, [RemoveVirtualServer(key)]

    def replace(
        self, entries: Iterable[VsEntry], group_id: int
    ) -> Iterator[tuple[ErrorCode, list[Command]]]:
        """A complete VS_LIST replaces the group's set (7.7, rule 8).

        One virtual server at a time: whether it was refused, and the commands.  Additions come
        first, so that no virtual server is away for a moment.
        """
        kept = set[VirtualServerKey]()
        for entry in entries:
            verdict, commands = self.add(entry, group_id)
            if verdict == ErrorCode.OK:
                kept.add(key_of(entry.flags, entry.virt_ipaddr, entry.virt_port, entry.protocol))
            yield verdict, commands
        absent = [
            server.key
            for server in self.by_key.values()
            if server.group_id == group_id and server.key not in kept
        ]
        for key in absent:
            yield ErrorCode.OK, self.remove(key, group_id)[1]

    def match(self, signature: FlowSignature) -> VirtualServer | None:
        """The virtual server of a flow that the CS originated (the target matches the others)."""
        address, port, protocol = signature.dst_ipaddr, signature.dst_port, signature.protocol
        by_key = self.by_key
        return (
            by_key.get(VirtualServerKey(address, port, protocol))
            or by_key.get(VirtualServerKey(address, None, protocol))
            or by_key.get(VirtualServerKey(None, port, protocol))
            or by_key.get(VirtualServerKey(None, None, protocol))
        )

    def of_group(self, group_id: int) -> list[VirtualServer]:
        return [server for server in self.by_key.values() if server.group_id == group_id]
