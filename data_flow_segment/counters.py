# SPDX-License-Identifier: Apache-2.0
"""Every counter of the agent: whether it may rise without worry, and what it means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from data_flow_segment.targets.contract import Counter

MEANINGS: Final[Mapping[str, tuple[bool, str]]] = {
    # --- packets that came up
    "new_flows": (True, "Packets that began a pending flow: a QUERY each."),
    "held_packets": (True, "Further packets of pending flows, kept until the REPLY."),
    "bridged_packets": (True, "Packets of CS_ASSIST virtual servers, sent to the CS."),
    "outbound_flows": (True, "Flows of the internal side that the CS was asked about."),
    "drop_flow_buffer_full": (
        False,
        "Dropped: a pending flow's buffer is full (flow_buffer_max of the CS's CONFIG).",
    ),
    "drop_buffers_full": (False, "Dropped: the buffers of all pending flows together are full."),
    "drop_pending_full": (
        False,
        "Dropped: too many flows wait for the CS; it is too slow, away, or this is a flood.",
    ),
    "drop_no_virtual_server": (
        True,
        "Dropped: came up for a virtual server that was removed in the meantime.",
    ),
    "put_back_late": (
        True,
        "Put back: came up before their flow was installed and were read after it.",
    ),
    "drop_negative": (True, "Dropped: the CS refused this flow less than a second ago."),
    "drop_no_outbound_group": (
        True,
        "Dropped: from the internal side, and no CS wants to be asked about it any more.",
    ),
    "drop_no_cs_to_bridge": (False, "Dropped: a CS_ASSIST packet, and its CS is away."),
    "drop_not_bridged": (False, "Dropped: a packet that is too long to be bridged, or malformed."),
    # --- what became of QUERYs
    "query_retries": (False, "QUERYs repeated because no REPLY came in time: loss, or a slow CS."),
    "query_timeouts": (
        False,
        "Pending flows given up after the last repeat; the client's own repeat asks again.",
    ),
    "held_packets_given_up": (False, "Packets dropped with pending flows that were given up."),
    "held_packets_refused": (True, "Packets dropped because the CS refused their flow."),
    "refused_unknown": (True, "Flows that the CS does not know how to handle."),
    "refused_notavail": (True, "Flows refused: virtual server in maintenance, or no node."),
    "refused_connlimit": (True, "Flows refused: the virtual server's connection limit."),
    "reset_sent": (True, "RST segments sent to clients whose flow was refused."),
    "unreachable_sent": (True, "ICMP port unreachable sent to clients whose flow was refused."),
    # --- installing and ending
    "flows_installed": (True, "Flows entered into the target by a REPLY or NEWFLOW."),
    "flows_updated": (True, "REPLY and NEWFLOW that repeated or changed an installed flow."),
    "replies_stale": (
        True,
        "REPLYs with another serial than the flow has now, or of a flow just deleted: ignored.",
    ),
    "replies_invalid": (
        False,
        "REPLYs to a question that was not this CS's, or with flags that cannot be: ignored.",
    ),
    "newflows_refused": (False, "NEWFLOWs that this DFS cannot carry out; the CS is told."),
    "install_failures": (False, "Flows that the target could not enter; the CS is told."),
    "evictions": (False, "Flows deleted to make room: the flow table is too small."),
    "flows_closed": (True, "Flows that ended with FIN or RST."),
    "flows_idle": (True, "Flows that ended because their idle time ran out."),
    "flows_reaped": (True, "Flows that ended because the CS asked and they were not active."),
    "flows_reset": (True, "Flows deleted by a RESET of the CS."),
    "flows_kept": (True, "REAP and TIMEOUT refused: the flow is active."),
    "flows_not_found": (True, "REAP and TIMEOUT for a flow or serial that is not there."),
    "deletes_unsent": (
        False,
        "DELETEs that no CS could take: none is connected; SYNC or its own timeout tells it.",
    ),
    "stats_unsent": (True, "STATS that no CS could take; they are cumulative."),
    # --- datagrams
    "datagrams_received": (True, "SSMB datagrams received."),
    "datagrams_unsent": (False, "SSMB datagrams that the socket did not take: no room, no route."),
    "datagrams_sent": (True, "SSMB datagrams sent."),
    "drop_unknown_source": (
        False,
        "Datagrams dropped: not from the SSMB address of a connected and authenticated CS.",
    ),
    "drop_bad_tag": (False, "Datagrams dropped: wrong seal; forged, damaged, or another key."),
    "drop_replayed": (False, "Datagrams dropped: seen before; a copy by the network or a replay."),
    "drop_too_old": (False, "Datagrams dropped: so late that nobody can say whether seen."),
    "drop_too_short": (False, "Datagrams dropped: too short for a seal and a message."),
    "invalid_msg": (False, "Messages dropped: malformed, or a type that only a DFS sends."),
    "ignored_msg": (True, "Messages of an experimental type, ignored as the protocol says."),
    "drop_not_active": (
        False,
        "Messages dropped: from a CS that is not the active one of its group.",
    ),
    "drop_other_group": (
        False,
        "Messages dropped: about a flow or virtual server of another CS's group.",
    ),
    "drop_unexpected_ack": (True, "RESET acknowledgements that nobody waits for: copies."),
    "encode_failures": (
        False,
        "Messages not sent: an IPv6 flow, and the CS speaks SSMB version 1.",
    ),
    "bridge_incomplete": (False, "Bridged packets whose pieces did not all come within a second."),
    "bridge_overflow": (False, "Bridged packets dropped: too many wait for pieces."),
    # --- CSMB
    "csmb_connections": (True, "CSMB connections accepted."),
    "csmb_closed": (True, "CSMB connections that ended; the CS connects again."),
    "csmb_auth_failures": (False, "CSMB connections that ended without authentication."),
    "cs_not_active": (False, "HELLOs answered NOTACTIVE: another CS is active in the group."),
    "cs_duplicate_id": (False, "HELLOs answered DUPID: two CSs with one segment id."),
    "vs_refused": (False, "Virtual servers refused: flags that cannot be, or a kind not built."),
    "reset_unacknowledged": (False, "RESETs of ours that no CS acknowledged."),
    "sync_waits_over": (
        False,
        "A new CS did not ask for SYNC in time; waiting mid-session QUERYs went to it anyway.",
    ),
}


class Counters(dict[str, int]):
    """Name -> value; only names with a meaning, so a misspelt one raises at once."""

    def __init__(self) -> None:
        super().__init__(dict.fromkeys(MEANINGS, 0))

    def as_mapping(self) -> dict[str, Counter]:
        """Every counter with its meaning."""
        return {name: Counter(self[name], *MEANINGS[name]) for name in MEANINGS}
