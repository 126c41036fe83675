# SPDX-License-Identifier: Apache-2.0
"""What was counted: messages by type, and everything that was dropped, with what that means."""

from __future__ import annotations

from collections import Counter
from typing import Final, NamedTuple

from admin import answers, faults
from control_segment.nodes import Node
from ssmb.constants import MessageType

RATE_INTERVAL_S: Final = 1.0
_RATE_SHARE: Final = 0.3  # of the newest interval in a node's rate


class Drop(NamedTuple):
    """Why something was not processed."""

    is_normal: bool  # some of them do not mean that anything is wrong
    meaning: str


DROPS: Final[dict[str, Drop]] = {
    "unknown_source": Drop(False, "datagrams from an address that is not one of this CS's DFSs"),
    "bad_seal": Drop(False, "datagrams that were forged, damaged or sealed with another key"),
    "replayed": Drop(True, "datagrams that arrived twice; normal in small numbers"),
    "too_old": Drop(True, "datagrams more than 1024 behind the newest; normal if rare"),
    "too_short": Drop(False, "datagrams too short for a seal"),
    "invalid_msg": Drop(False, "messages that are malformed, or of a type that a DFS never sends"),
    "invalid_serial": Drop(
        False, "messages about a flow with serial 0, or QUERYs with a serial that only a CS gives"
    ),
    "not_authenticated": Drop(True, "messages from a DFS that had not yet answered the challenge"),
    "wrong_proof": Drop(False, "answers to the challenge that were wrong or too late"),
    "not_active": Drop(True, "QUERYs to this CS while another CS of its group is active"),
    "outbound_unanswered": Drop(
        True,
        "QUERYs about packets of nodes while a DFS of the team may have more flows than this CS has"
        " heard of, or whose client cannot be found (wildcard address, translated source)",
    ),
    "waits_for_sync": Drop(
        True, "QUERYs of running sessions before the DFS had reported all of its flows"
    ),
    "waits_for_taken": Drop(
        True, "QUERYs of running sessions that may have taken a grant at another DFS just now"
    ),
    "no_grants": Drop(
        False,
        "LEASEs from a DFS with which no grants were agreed, or at which another CS is active",
    ),
    "stale_heartbeat": Drop(
        True, "heartbeats of other control segments that answered none of ours; normal at the start"
    ),
    "stale_health": Drop(True, "another CS's HEALTH was late, recorded, or came twice"),
    "stale_recall": Drop(True, "another CS's RECALL or RECORDS was late, recorded, or came twice"),
    "multicast_own": Drop(True, "datagrams of this CS to the multicast group that came back to it"),
    "multicast_not_followed": Drop(
        True,
        "datagrams to the multicast group that no DFS's active CS is known to have sent; normal"
        " while roles change, and if other groups use the address",
    ),
    "multicast_bad_seal": Drop(
        False, "datagrams to the multicast group that were forged, damaged or of another key"
    ),
    "multicast_repeated": Drop(
        True, "datagrams to the multicast group that came twice; normal if there are two ways"
    ),
    "multicast_too_old": Drop(
        True, "datagrams to the multicast group from before this CS listened, or far too late"
    ),
    "stale_lease": Drop(True, "messages about grants of a lease that is over"),
    "taken_late": Drop(
        True, "flows in TAKEN that a DELETE or a SYNC had reported before, or of an earlier lease"
    ),
    "stale_serial": Drop(True, "messages about an earlier flow with the same signature"),
    "stale_query": Drop(True, "late copies of the QUERY of a session that is over"),
    "assisted_evicted": Drop(
        False,
        "connections that this CS reads or carries, whose client had not said enough, and that made"
        " room for another one: some clients say next to nothing",
    ),
    "assisted_full": Drop(
        False, "connections that this CS reads or carries refused: there are as many as it takes"
    ),
    "stale_bridge": Drop(True, "bridged packets of connections that are over"),
    "bridged_malformed": Drop(False, "bridged packets that are no TCP segments"),
    "bridged_unserved": Drop(
        True, "bridged packets for which there is no raw, assisted or hybrid virtual server"
    ),
    "bridge_incomplete": Drop(True, "bridged packets of which pieces were lost"),
    "bridge_overflow": Drop(False, "pieces of bridged packets dropped: too many are incomplete"),
    "stale_notify": Drop(
        True, "TLS sessions of flows that are over, or whose virtual server does not want them"
    ),
    "table_full": Drop(
        False, "sessions refused because all records are in use: raise flow_capacity"
    ),
    "no_source_port": Drop(
        False, "sessions refused because every source port to the node is in use"
    ),
    "stream_unproved": Drop(
        False, "CSMB connections that ended before authentication; the log says why"
    ),
    "dfs_refused": Drop(
        False, "DFSs refused: a living one has their segment_id or SSMB address; the log says which"
    ),
    faults.COUNTER: Drop(False, faults.MEANING),
    "encode_failed": Drop(
        False, "answers that cannot be encoded in the SSMB version agreed with the DFS"
    ),
}


class Statistics:
    """All counters of a CS."""

    __slots__ = ("_rated_at", "drops", "received", "refused", "sent")

    def __init__(self, now: float) -> None:
        self.received = [0] * 256  # SSMB messages, by type
        self.sent = [0] * 256
        self.drops: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()  # REPLYs with an error, by its name
        self._rated_at = now

    def rate_interval_s(self, now: float) -> float:
        """Return how long ago this was asked last: what the next rates are of."""
        elapsed_s, self._rated_at = now - self._rated_at, now
        return elapsed_s

    @staticmethod
    def update_rates(nodes: list[Node], elapsed_s: float) -> None:
        """Take one more interval into the rates of nodes."""
        if elapsed_s < RATE_INTERVAL_S / 2:
            return
        for node in nodes:
            latest = max(0, node.total - node.rated_total) / elapsed_s  # a grant may come back
            node.rated_total = node.total
            node.rate += (latest - node.rate) * _RATE_SHARE

    def describe(self) -> answers.Messages:
        """Return everything, by name."""
        return answers.Messages(
            sent=_by_name(self.sent),
            received=_by_name(self.received),
            dropped={
                name: answers.Counter(
                    value=self.drops[name], normal=drop.is_normal, meaning=drop.meaning
                )
                for name, drop in DROPS.items()
            },
            refused=dict(self.refused),
        )


def _by_name(counts: list[int]) -> dict[str, int]:
    return {kind.name: counts[kind] for kind in MessageType if counts[kind]}
