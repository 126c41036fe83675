# SPDX-License-Identifier: Apache-2.0
"""What a CS configures over CSMB: CONFIG, ADD_VS, DEL_VS, VS_LIST, NODES; each answered with an
ACK."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from typing import Final, NamedTuple

from csmb.constants import ErrorCode, Flag
from csmb.events import MessageReceived
from csmb.messages import AddVs, Config, DelVs, Message, Nodes, VsEntry, VsList
from data_flow_segment.outbox import Outbox
from data_flow_segment.peers.groups import Peer, Peers
from data_flow_segment.peers.nodes import NodePlaces
from data_flow_segment.peers.virtual_servers import (
    VIRTUAL_SERVERS_MAX,
    Abilities,
    VirtualServers,
    key_of,
)
from data_flow_segment.targets.contract import SetLocalAddresses, SetOutboundQuery
from ssmb.addresses import UNSPECIFIED, is_next_hop, names_a_host

STEPS_AT_ONCE: Final = 256
"""Virtual servers added or removed in one wake-up, during which packets wait: some 5 ms."""

_PROXY_VERSION: Final = 2  # of SSMB


class Obeyed(NamedTuple):
    """A message that was obeyed, and the error code of its ACK."""

    connection_id: int
    event: MessageReceived
    code: ErrorCode
    error: Exception | None = None  # a mistake of this program: the message was not obeyed


class _Waiting(NamedTuple):
    connection_id: int
    event: MessageReceived | None  # None: the connection ended
    steps: Generator[None, None, ErrorCode | None]


def _has_addresses(config: Config) -> bool:
    own = (
        config.ext_admin_ipaddr,
        config.int_admin_ipaddr,
        config.ext_shared_ipaddr,
        config.int_shared_ipaddr,
    )
    router = config.default_gw_ipaddr
    return all(each == UNSPECIFIED or names_a_host(each) for each in own) and (
        router == UNSPECIFIED or is_next_hop(router)
    )


class Configuration:
    """Obeys one message after the other, some virtual servers at a time; a VS_LIST in several
    messages is obeyed with the last one."""

    def __init__(
        self,
        outbox: Outbox,
        peers: Peers,
        servers: VirtualServers,
        nodes: NodePlaces,
        own_address: bytes,
        *,
        can_proxy: bool,
    ) -> None:
        """`can_proxy`: what this DFS's HELLO says with APP_PROXY and HYBRID."""
        self._can_proxy = can_proxy
        self._outbox = outbox
        self._peers = peers
        self._servers = servers
        self._nodes = nodes
        self._own_address = own_address
        self._waiting: deque[_Waiting] = deque()
        self._lists: dict[int, list[VsEntry]] = {}  # by connection, while MORE comes
        self._local_addresses: frozenset[bytes] = frozenset()
        self._outbound_query: bool | None = None  # of a target that was left, nobody knows

    @property
    def is_busy(self) -> bool:
        """Whether `work` has more to do."""
        return bool(self._waiting)

    def take(self, connection_id: int, peer: Peer, event: MessageReceived) -> None:
        """Obey this message when those before it are obeyed."""
        steps = self._obey(connection_id, peer, event.message)
        self._waiting.append(_Waiting(connection_id, event, steps))

    def forget(self, connection_id: int) -> None:
        """The connection ended; a list that was not complete is none."""
        self._waiting.append(_Waiting(connection_id, None, self._forget(connection_id)))

    def work(self) -> list[Obeyed]:
        """Do a part of what waits; return what is to be acknowledged."""
        obeyed = []
        for _ in range(STEPS_AT_ONCE):
            if not self._waiting:
                break
            connection_id, event, steps = self._waiting[0]
            try:
                next(steps)
            except StopIteration as end:
                self._waiting.popleft()
                if event is not None and end.value is not None:
                    obeyed.append(Obeyed(connection_id, event, end.value))
            except Exception as error:
                self._waiting.popleft()
                if event is not None:
                    obeyed.append(Obeyed(connection_id, event, ErrorCode.NORESOURCE, error))
        return obeyed

    def _obey(
        self, connection_id: int, peer: Peer, message: Message
    ) -> Generator[None, None, ErrorCode | None]:
        """The error code of the ACK; None if the message asks for none."""
        if not isinstance(message, Config | VsList | AddVs | DelVs | Nodes):
            return None
        if not self._peers.is_active(peer):  # 7.7, rule 11; judged now: it may have changed
            self._lists.pop(connection_id, None)
            self._nodes.forget(connection_id)
            self._outbox.counters["configuration_not_active"] += 1
            return ErrorCode.NOTACTIVE
        if isinstance(message, Config):
            if not _has_addresses(message):
                return ErrorCode.BADMSG
            peer.config = message
            self.settle()
            return ErrorCode.OK
        if isinstance(message, VsList):
            return (yield from self._vs_list(connection_id, peer, message))
        if isinstance(message, Nodes):
            code = self._nodes.came(connection_id, peer.group_id, message)
            self.settle()
            return code
        if isinstance(message, AddVs):
            code, commands = self._servers.add(message.entry, peer.group_id, self._abilities(peer))
        else:
            key = key_of(message.flags, message.virt_ipaddr, message.virt_port, message.protocol)
            code, commands = self._servers.remove(key, peer.group_id)
        self._outbox.commands += commands
        if code not in (ErrorCode.OK, ErrorCode.NOVS):
            self._outbox.counters["vs_refused"] += 1
        return code

    def _abilities(self, peer: Peer) -> Abilities:
        """What the CS may announce: proxies need APP_PROXY of both sides, and version 2 (15.1)."""
        decides = bool(peer.hello.flags & Flag.APP_PROXY) and peer.ssmb_version[0] >= _PROXY_VERSION
        return Abilities(self._can_proxy and decides, self._can_proxy)

    def _forget(self, connection_id: int) -> Generator[None, None, None]:
        self._lists.pop(connection_id, None)
        self._nodes.forget(connection_id)
        yield from ()

    def settle(self) -> None:
        """Bring what the active CSs together want to the target: addresses, OUTBOUND_QUERY."""
        addresses = {self._own_address}
        outbound_query = False
        for peer in self._peers:
            addresses.add(peer.hello.ssmb_address(peer.ssmb_version[0]))
            if not self._peers.is_active(peer):
                continue
            config = peer.config
            addresses |= {
                config.ext_admin_ipaddr,
                config.int_admin_ipaddr,
                config.ext_shared_ipaddr,
                config.int_shared_ipaddr,
            }
            outbound_query |= bool(config.flags & Flag.OUTBOUND_QUERY)
            if not peer.hello.flags & Flag.NODES:  # it will not say
                self._nodes.awaited_until = None
        outbound_query |= self._nodes.awaited_until is not None
        wanted = frozenset(addresses - {UNSPECIFIED})
        if wanted != self._local_addresses:
            self._local_addresses = wanted
            self._outbox.commands.append(SetLocalAddresses(wanted))
        if outbound_query != self._outbound_query:
            self._outbound_query = outbound_query
            self._outbox.commands.append(SetOutboundQuery(outbound_query))

    def _vs_list(
        self, connection_id: int, peer: Peer, message: VsList
    ) -> Generator[None, None, ErrorCode]:
        collected = self._lists.setdefault(connection_id, [])
        collected += message.entries
        if len(collected) > VIRTUAL_SERVERS_MAX:
            del self._lists[connection_id]
            return ErrorCode.NORESOURCE
        if message.flags & Flag.MORE:
            return ErrorCode.OK
        del self._lists[connection_id]
        if len(collected) != message.vs_total:
            return ErrorCode.BADMSG  # nothing of it is obeyed
        worst = ErrorCode.OK
        abilities = self._abilities(peer)
        for code, commands in self._servers.replace(collected, peer.group_id, abilities):
            self._outbox.commands += commands
            self._outbox.counters["vs_refused"] += code != ErrorCode.OK
            worst = worst or code
            yield
        return worst
