# SPDX-License-Identifier: Apache-2.0
"""What CSs say about connections to content-aware virtual servers (wire protocol 15.3, 15.4), and
what else ends them."""

from __future__ import annotations

from typing import Final

from data_flow_segment.flows import messages, refusal
from data_flow_segment.flows.assisted import is_assisted
from data_flow_segment.flows.endings import Endings
from data_flow_segment.flows.handshake import Handshake
from data_flow_segment.flows.handshakes import Handshakes
from data_flow_segment.flows.negative import NegativeEntries
from data_flow_segment.flows.proxied import Proxied
from data_flow_segment.outbox import Outbox
from data_flow_segment.peers.groups import Peer
from data_flow_segment.targets.contract import FlowState, PacketIn, PacketReason
from packets.parse import ACK
from splicing.table import State
from ssmb.constants import CloseReason, ErrorCode, Flag
from ssmb.messages import NewFlow, Reap, Reply, Session, Timeout

_PROXY_SERVER: Final = int(Flag.PROXY_SERVER)
_ADD_TCP_OFFSETS: Final = int(Flag.ADD_TCP_OFFSETS)
_PROXIED: Final = int(PacketReason.PROXIED)
_UNDECIDED: Final = (State.COLLECT, State.ASKED)


class Content:
    """Carries out what is decided."""

    def __init__(
        self,
        outbox: Outbox,
        endings: Endings,
        handshakes: Handshakes,
        proxied: Proxied,
        negative: NegativeEntries,
    ) -> None:
        self._outbox = outbox
        self._counters = outbox.counters
        self._endings = endings
        self._handshakes = handshakes
        self._proxied = proxied
        self._negative = negative
        self.by_session = handshakes.by_session

    # --- answers -----------------------------------------------------------------------------

    def reply_came(self, handshake: Handshake, peer: Peer, reply: Reply, now: float) -> bool:
        """An answer to APP_QUERY.  False: it means nothing, so it is no standby's business."""
        if handshake.group_id != peer.hello.group_id:
            self._counters["replies_invalid"] += 1
            return False
        if handshake.connection.state not in _UNDECIDED:
            self._counters["replies_stale"] += 1  # a repeat
            return False
        return self._decided(handshake, peer, reply, now)

    def parked_reply_came(self, peer: Peer, reply: Reply, packet: PacketIn, now: float) -> bool:
        """An answer to what the target has asked, that it leaves to the agent."""
        packet = packet._replace(reason=_PROXIED, tcp_flags=ACK)
        handshake = self._proxied.answered_before(packet, reply.serial, now)
        if handshake is None:
            self._counters["replies_stale"] += 1
            return False
        return self.reply_came(handshake, peer, reply, now)

    def newflow_came(self, handshake: Handshake, peer: Peer, message: NewFlow, now: float) -> bool:
        """An answer to the copies of a raw virtual server's flow."""
        is_raw = handshake.reader is None
        is_its = handshake.group_id == peer.hello.group_id
        is_answer = message.error_code or message.flags & _PROXY_SERVER
        if not is_answer or not is_raw or not is_its:
            self._counters["replies_invalid"] += 1
            return False
        if handshake.connection.state not in _UNDECIDED:
            self._counters["replies_stale"] += 1  # a repeat
            return False
        return self._decided(handshake, peer, message, now)

    def _decided(
        self, handshake: Handshake, peer: Peer, message: Reply | NewFlow, now: float
    ) -> bool:
        code = message.error_code
        if code == ErrorCode.WAIT:
            if not handshake.waits:
                handshake.waits = True
                self._counters["flows_waited"] += 1
            self._handshakes.questions.wait(handshake, now)
            self._handshakes.table.schedule(handshake)
        elif code == ErrorCode.MORE:
            self._handshakes.questions.answered(handshake, now)
            instructions = handshake.connection.more(now)
            self._handshakes.carry_out(handshake, instructions, now)
            return False
        elif code:
            self._refused(handshake, code, now)
        elif isinstance(message, Reply) and _is_late(handshake, message):
            self._counters["replies_stale"] += 1
            return False
        elif message.flags & _PROXY_SERVER:
            entry = peer.entry(message, handshake.server, handshake.opened_ms)
            self._handshakes.decide(handshake, entry, now)
        else:
            self._counters["replies_invalid"] += 1
            return False
        return True

    def _refused(self, handshake: Handshake, code: int, now: float) -> None:
        self._negative.add(handshake.session, code, now)
        self._counters[refusal.COUNTERS.get(code, "refused_unknown")] += 1
        self._outbox.trace.append((now, "refused", handshake.session, handshake.serial, code))
        self._handshakes.refuse(handshake, now)

    # --- ends --------------------------------------------------------------------------------

    def reap_came(self, peer: Peer, asked: Reap | Timeout, now: float) -> bool:
        """Whether it is about one of these: it is active, unless its CS wants it to end at once."""
        handshake = self.by_session.get(asked.session)
        if handshake is None or handshake.serial != asked.serial:
            return False
        if handshake.group_id != peer.group_id:
            self._counters["drop_other_group"] += 1
        elif asked.detail and isinstance(asked, Reap):
            self._counters["flows_given_up"] += 1
            self._handshakes.drop(handshake, asked.detail, now)
        else:
            self._counters["flows_kept"] += 1
            peer.link.queue(messages.alive(asked), now)
        return True

    def is_kept(self, state: FlowState, now: float) -> bool:
        """Whether a held flow that a target takes for idle has another reason to stay; if not, and
        it is nobody's, it is taken out here."""
        entry = state.entry
        session = entry.signature.session
        if session in self.by_session or session in self._handshakes.splices.learning.by_session:
            return True
        if entry.flags & _PROXY_SERVER and entry.flags & _ADD_TCP_OFFSETS:
            return False  # an agent before was about to splice it
        if not is_assisted(entry):
            self._proxied.end_orphan(state, now)
            return True
        return not entry.idle_timeout_s or state.idle_ms < entry.idle_timeout_s * 1000

    def gave_way(self, state: FlowState, now: float) -> bool:
        """Whether a held flow that is evicted is one of these, and over."""
        handshake = self.by_session.get(state.entry.signature.session)
        if handshake is None:
            return False
        self._counters["evictions_half_open"] += 1
        self._handshakes.drop(handshake, CloseReason.OVERFLOW, now)
        return True

    def drop_all(self, group_id: int | None, now: float) -> None:
        """RESET: no CS has any of them."""
        self._handshakes.drop_all(group_id, now)

    def not_installed(self, session: Session, now: float) -> None:
        """Its entry has no place in the target; the CS was told so."""
        handshake = self.by_session.get(session)
        if handshake is not None:
            handshake.is_known = handshake.installed = False
            self._handshakes.drop(handshake, CloseReason.UNSPECIFIED, now)


def _is_late(handshake: Handshake, reply: Reply) -> bool:
    """Whether it answers a question about a node that has failed since: the CS sets that aside."""
    return (reply.node_ipaddr, reply.node_port) in handshake.failed
