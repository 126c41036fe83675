# SPDX-License-Identifier: Apache-2.0
"""The entries of a connection to a content-aware virtual server: held, and spliced (9.6)."""

from __future__ import annotations

from typing import Final

from csmb.constants import Flag as CsmbFlag
from data_flow_segment.flows import messages
from data_flow_segment.flows.endings import Endings
from data_flow_segment.flows.handshake import Handshake
from data_flow_segment.flows.learning import Learning
from data_flow_segment.outbox import Outbox
from data_flow_segment.peers.groups import Peers
from data_flow_segment.targets.contract import (
    FlowCounters,
    FlowEntry,
    FlowState,
    InstallFlow,
)
from packets.parse import ACK, SYN
from packets.tcp import HEADERS_V4, HEADERS_V6
from splicing.instructions import Offsets
from ssmb.addresses import UNSPECIFIED, is_ipv4
from ssmb.constants import AppType, Flag
from ssmb.messages import Session

ETHERNET_MTU: Final = 1500
_PROXY_SERVER: Final = int(Flag.PROXY_SERVER)
_PARKED: Final = int(Flag.PARKED)
_ADD_TCP_OFFSETS: Final = int(Flag.ADD_TCP_OFFSETS)


class Splices:
    """Lets the target carry connections."""

    def __init__(self, outbox: Outbox, peers: Peers, endings: Endings) -> None:
        self.learning = Learning(outbox, peers, self.splice_learnt)
        self._outbox = outbox
        self._peers = peers
        self._endings = endings

    def joined(self, handshake: Handshake, entry: FlowEntry, now: float) -> None:
        """Both handshakes are complete, and the node has what the client was told it has."""
        if self._learns(handshake):
            flags = entry.flags | _PROXY_SERVER
            self._outbox.commands.append(InstallFlow(entry._replace(flags=flags, held=True)))
            self.learning.begin(handshake, entry, now)
        else:
            self._carry(entry, now)

    def splice_learnt(self, entry: FlowEntry, now: float) -> None:
        """What the agent has passed on so far is the target's now, if it is still there."""
        state = self._endings.table.lookup(entry.signature)
        if state is not None and state.entry.serial == entry.serial and state.entry.held:
            self._carry(entry, now)

    def _learns(self, handshake: Handshake) -> bool:
        peer = self._peers.active_of(handshake.group_id)
        if handshake.server.app_type is not AppType.SSL_SESSION_ID or peer is None:
            return False
        return bool(peer.hello.flags & CsmbFlag.APP_NOTIFY_CAP)

    def _carry(self, entry: FlowEntry, now: float) -> None:
        session = entry.signature.session
        self._outbox.commands.append(InstallFlow(entry))
        self._endings.table.recent.add(session, entry.serial, now)
        self._outbox.counters["flows_spliced"] += 1
        state = FlowState(entry, FlowCounters(), 0, SYN | ACK, False)
        self._endings.report(messages.flow_state(state), entry.group_id, now)
        self._outbox.trace.append((now, "spliced", session, entry.serial, 0))


def mss_of(session: Session) -> int:
    """What a SYN-ACK announces to this client."""
    return ETHERNET_MTU - (HEADERS_V4 if is_ipv4(session.src_ipaddr) else HEADERS_V6)


def spliced(handshake: Handshake, offsets: Offsets) -> FlowEntry:
    """The entry by which the target carries the connection (9.6)."""
    entry = handshake.entry
    assert entry is not None, "a node was chosen"
    flags = entry.flags & ~_PROXY_SERVER | _ADD_TCP_OFFSETS
    return entry._replace(flags=flags, held=False, **offsets._asdict())


def is_by_target(entry: FlowEntry) -> bool:
    """Whether the target carries it, or is about to: no agent has to do anything for it."""
    return not entry.held or bool(entry.flags & _PARKED)


def placeholder(handshake: Handshake) -> FlowEntry:
    """Before a node is chosen: the client's packets come up, and nothing goes anywhere."""
    return FlowEntry(
        handshake.signature,
        handshake.serial,
        handshake.group_id,
        _PROXY_SERVER,
        UNSPECIFIED,
        UNSPECIFIED,
        0,
        0,
        UNSPECIFIED,
        0,
        0,
        0,
        0,
        0,
        0,
        handshake.opened_ms,
        held=True,
    )
