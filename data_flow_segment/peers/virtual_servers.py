# SPDX-License-Identifier: Apache-2.0
"""The virtual servers that the CSs announced: what is legal (8.2), which CS owns which, what
changes.

A change returns the commands that bring the target to the same state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

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
from ssmb.constants import PARKED_FRAME_MAX, PROTOCOL_NAMES, TCP, AppType, ForwardMode
from ssmb.messages import FlowSignature

# plain numbers: an enumeration's operators take microseconds, and lists are long
_PROXIES: Final = int(Flag.SSL_PROXY | Flag.COOKIE_PROXY | Flag.HTTP_PROXY | Flag.RAW_PROXY)
_COOKIE_PROXY: Final = int(Flag.COOKIE_PROXY)
_RAW_PROXY: Final = int(Flag.RAW_PROXY)
_CS_ASSIST: Final = int(Flag.CS_ASSIST)
_HYBRID: Final = int(Flag.HYBRID)
_NOARP_MODE: Final = int(Flag.NOARP_MODE)
_WILDCARD_ADDR: Final = int(Flag.WILDCARD_ADDR)
_WILDCARD_PORT: Final = int(Flag.WILDCARD_PORT)
_FORWARD_MODES: Final = frozenset(  # HOP is not built yet (6.2)
    (int(ForwardMode.NAT), int(ForwardMode.L2), int(ForwardMode.TUNNEL))
)
_NAT: Final = int(ForwardMode.NAT)
_APP_TYPES: Final = {
    int(Flag.SSL_PROXY): AppType.SSL_SESSION_ID,
    _COOKIE_PROXY: AppType.COOKIE,
    int(Flag.HTTP_PROXY): AppType.HTTP_REQUEST,
}
VIRTUAL_SERVERS_MAX: Final = 65536


class Abilities(NamedTuple):
    """What a virtual server may be, for this DFS's target and for the CS that announces it."""

    proxies: bool = False  # the four proxies (15.1)
    takes_over: bool = False  # HYBRID


NO_ABILITIES: Final = Abilities()


@dataclass(frozen=True, slots=True)
class VirtualServer:
    """One announced virtual server."""

    key: VirtualServerKey
    group_id: int
    flags: int
    next_hop_ipaddr: bytes
    idle_timeout_s: int  # 0: CONFIG's
    forward_mode: int
    app_limit: int = 0  # octets of what is read of a client; 0: as 15.1 has it
    app_data: bytes = b""
    adopted_type: int = 0  # what the target asks about, where the kind is not known
    # whether clients' handshakes are completed before a node is chosen
    proxied: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "proxied", bool(self.flags & _PROXIES))

    @property
    def bridged(self) -> bool:
        return bool(self.flags & _CS_ASSIST)

    @property
    def is_raw(self) -> bool:
        """Whether a CS reads copies of the client's packets."""
        return self.flags & _PROXIES == _RAW_PROXY

    @property
    def app_type(self) -> AppType | None:
        """What an APP_QUERY about its flows has; None: there is none, or its kind is not known, for
        an earlier agent left it."""
        return _APP_TYPES.get(self.flags & _PROXIES)

    @property
    def entry(self) -> VirtualServerEntry:
        """What the target needs of it."""
        silent = self.flags & _NOARP_MODE or self.key.virt_ipaddr is None
        return VirtualServerEntry(
            self.key, self.group_id, not silent, self.bridged, self.proxied, self._short_type
        )

    @property
    def _short_type(self) -> int:
        """What the target may ask about by itself.  Of a TLS connection the agent reads what the
        node answers (15.6)."""
        app_type = self.app_type
        if app_type is None:
            return self.adopted_type
        if app_type is AppType.SSL_SESSION_ID:
            return 0
        return int(app_type) if not 0 < self.app_limit < PARKED_FRAME_MAX else 0


def key_of(flags: int, virt_ipaddr: bytes, virt_port: int, protocol: int) -> VirtualServerKey:
    """The wildcards are flags on the wire and None here."""
    return VirtualServerKey(
        None if flags & _WILDCARD_ADDR else virt_ipaddr,
        None if flags & _WILDCARD_PORT else virt_port,
        protocol,
    )


def judge(entry: VsEntry, abilities: Abilities = NO_ABILITIES) -> ErrorCode:
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
        can = abilities.proxies if proxies else abilities.takes_over
        # What the agent sends itself goes by the routes
        is_routed = entry.vs_mode == _NAT and entry.next_hop_ipaddr == UNSPECIFIED
        return ErrorCode.OK if can and is_routed else ErrorCode.UNSUPPORTED
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
        self.proxying: Counter[int] = Counter()  # group -> how many proxied ones it has
        for entry in adopted:
            flags = (0 if entry.answer_arp else _NOARP_MODE) | (_CS_ASSIST if entry.bridged else 0)
            flags |= _PROXIES if entry.proxied else 0  # one of them: the list will say which
            kept = entry.app_type
            self._put(
                VirtualServer(
                    entry.key, entry.group_id, flags, UNSPECIFIED, 0, 0, adopted_type=kept
                )
            )

    def add(
        self, entry: VsEntry, group_id: int, abilities: Abilities = NO_ABILITIES
    ) -> tuple[ErrorCode, list[Command]]:
        """Add, or replace the one with the same key; another group's stays."""
        verdict = judge(entry, abilities)
        if verdict != ErrorCode.OK:
            return verdict, []
        key = key_of(entry.flags, entry.virt_ipaddr, entry.virt_port, entry.protocol)
        known = self.by_key.get(key)
        if known is not None and known.group_id != group_id:
            return ErrorCode.BADFLAGS, []  # 8.3
        if known is None and len(self.by_key) >= VIRTUAL_SERVERS_MAX:
            return ErrorCode.NORESOURCE, []
        server = VirtualServer(
            key,
            group_id,
            entry.flags,
            entry.next_hop_ipaddr,
            entry.idle_timeout,
            entry.vs_mode,
            entry.app_limit,
            entry.app_data,
        )
        self._put(server)
        if known is not None and known.entry == server.entry:
            return ErrorCode.OK, []  # nothing that the target would see
        return ErrorCode.OK, [AddVirtualServer(server.entry)]

    def remove(self, key: VirtualServerKey, group_id: int) -> tuple[ErrorCode, list[Command]]:
        """No new flows for it from now on."""
        known = self.by_key.get(key)
        if known is None or known.group_id != group_id:
            return ErrorCode.NOVS, []
        self._count(self.by_key.pop(key), -1)
        return ErrorCode.OK, [RemoveVirtualServer(key)]

    def replace(
        self, entries: Iterable[VsEntry], group_id: int, abilities: Abilities = NO_ABILITIES
    ) -> Iterator[tuple[ErrorCode, list[Command]]]:
        """A complete VS_LIST replaces the group's set (7.7, rule 8).

        One virtual server at a time: whether it was refused, and the commands.  Additions come
        first, so that no virtual server is away for a moment.
        """
        kept = set[VirtualServerKey]()
        for entry in entries:
            verdict, commands = self.add(entry, group_id, abilities)
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

    def _put(self, server: VirtualServer) -> None:
        self._count(self.by_key.get(server.key), -1)
        self.by_key[server.key] = server
        self._count(server, 1)

    def _count(self, server: VirtualServer | None, change: int) -> None:
        if server is None or not server.proxied:
            return
        self.proxying[server.group_id] += change
        if not self.proxying[server.group_id]:
            del self.proxying[server.group_id]

    def of_group(self, group_id: int) -> list[VirtualServer]:
        return [server for server in self.by_key.values() if server.group_id == group_id]
