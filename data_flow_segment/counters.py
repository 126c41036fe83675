# SPDX-License-Identifier: Apache-2.0
"""Every counter of the agent: whether it may rise without worry, and what it means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from admin import faults
from data_flow_segment.targets.contract import Counter

MEANINGS: Final[Mapping[str, tuple[bool, str]]] = {
    # --- packets that came up
    "new_flows": (True, "Packets that started a pending flow; the agent sends one QUERY for each."),
    "held_packets": (True, "Further packets of pending flows, held until the REPLY arrives."),
    "bridged_packets": (True, "Packets to CS_ASSIST virtual servers, sent to the CS."),
    "outbound_flows": (
        True,
        "Flows started by the internal side for which the agent sent a QUERY.",
    ),
    "drop_flow_buffer_full": (
        False,
        "Dropped: the pending flow's buffer is full (flow_buffer_max in the CS's configuration).",
    ),
    "drop_buffers_full": (
        False,
        "Dropped: the limit for the buffers of all pending flows is reached.",
    ),
    "drop_pending_full": (
        False,
        "Dropped: too many flows are pending; the CS is slow or unreachable, or it is a SYN flood.",
    ),
    "drop_no_virtual_server": (
        True,
        "Dropped: the virtual server was removed while the packet was on its way to the agent.",
    ),
    "put_back_late": (
        True,
        "Reached the agent's queue before the flow was installed and were read after it;"
        " re-injected.",
    ),
    "early_fragments": (
        True,
        "Later fragments that arrived before their first one; held for 20 ms and put back.",
    ),
    "drop_early_fragment": (
        False,
        "Dropped: a later fragment that arrived before its first one, and too many are held.",
    ),
    "drop_negative": (True, "Dropped: the CS refused this flow less than a second ago."),
    "drop_no_outbound_group": (
        True,
        "Dropped: from the internal side, and no CS decides outbound flows any more.",
    ),
    "drop_no_cs_to_bridge": (
        False,
        "Dropped: to a CS_ASSIST virtual server whose CS is not connected.",
    ),
    "drop_not_bridged": (False, "Dropped: too long to be bridged to the CS, or malformed."),
    "drop_no_grants": (
        False,
        "Messages about grants from a CS with which none were agreed.",
    ),
    "grants_received": (True, "GRANTs of the CS that were carried out: decisions made ahead."),
    "grants_stale": (
        True,
        "Messages about grants of a lease that is over, or from a CS that has none; ignored.",
    ),
    "taken_unsent": (
        True,
        "Reports of flows that took grants of a CS that is not active any more; the group's CSs got"
        " FLOW_STATE instead.",
    ),
    "flows_told_late": (
        True,
        "Flows that the CS before the active one decided; the CSs of the group got FLOW_STATE.",
    ),
    "queries_overtaken": (
        True,
        "Flows that took a grant while their QUERY was not answered yet; the QUERY was given up.",
    ),
    # --- content-aware virtual servers
    "proxied_connections": (
        True,
        "Connections of content-aware virtual servers whose first data the agent took.",
    ),
    "short_taken_over": (
        True,
        "Of these, connections for which the data path was completing the handshake with the node.",
    ),
    "short_ahead": (
        True,
        "Connections that the agent was about to go on with, which the data path had by then: their"
        " clients had said more.",
    ),
    "short_early": (
        True,
        "Segments that clients sent right behind their first one, while the data path asked about"
        " that; held until there is a flow.",
    ),
    "flows_spliced": (True, "Of these, connections joined to one with a node (offsets)."),
    "session_ids_learnt": (
        True,
        "TLS session ids that nodes gave out, told to the CS (APP_NOTIFY).",
    ),
    "raw_copies": (True, "Packets of clients of RAW_PROXY virtual servers, copied to the CS."),
    "nodes_refused": (
        False,
        "Handshakes that a node refused or did not answer; the CS was asked again.",
    ),
    "handshakes_failed": (
        False,
        "Connections reset because no node answered: the nodes of their pool are down.",
    ),
    "collecting_evicted": (
        False,
        "Connections to content-aware virtual servers whose client had not said enough, and that"
        " made room for another one; the client got a RST. Some clients say next to nothing.",
    ),
    "collecting_full": (
        False,
        "Refused with a reset: too many connections wait for a node, or too many octets of theirs.",
    ),
    "collecting_timeouts": (
        False,
        "Reset: no node within 10 s. The client did not say all, or the CS is slow or unreachable.",
    ),
    "content_refused": (
        True,
        "Reset: the client did not say what this virtual server expects (HTTP, TLS).",
    ),
    "held_orphans": (
        True,
        "Flows that an agent before had not spliced yet, and that could not go on.",
    ),
    "drop_held": (
        True,
        "Dropped: of a connection that is not spliced and that nobody knows, or a late copy.",
    ),
    "drop_held_flood": (
        False,
        "Dropped unread: of a connection that is not spliced, more than 512 packets and then more"
        " than 200 per second. No client needs as many; somebody repeats them.",
    ),
    "drop_held_ttl": (
        True,
        "Dropped: time to live expired, of a connection whose packets the agent passes on.",
    ),
    "drop_unacceptable": (
        True,
        "Dropped: a segment that TCP does not accept in a connection that is not spliced: late, of"
        " an older connection, or forged.",
    ),
    "drop_early_segment": (
        True,
        "Dropped: a client's second or later segment before its first one; the client repeats it.",
    ),
    "early_segments": (
        True,
        "Segments of connections that no CS knows, held for up to 3 s: the client's first one may"
        " be lost or late.",
    ),
    "drop_kind_unknown": (
        True,
        "Dropped: a client's first data while no CS had said what its virtual server is; it is"
        " repeated. Normal for a moment after the agent started.",
    ),
    # --- what became of QUERYs
    "query_retries": (
        False,
        "QUERYs repeated because no REPLY arrived in time: loss, or a slow CS.",
    ),
    "query_timeouts": (
        False,
        "Pending flows given up after the last repeat; a retry of the client starts again.",
    ),
    "held_packets_given_up": (
        False,
        "Held packets dropped because their pending flow was given up.",
    ),
    "held_packets_refused": (True, "Held packets dropped because the CS refused their flow."),
    "refused_unknown": (True, "Flows refused: the CS does not know how to handle them."),
    "refused_notavail": (
        True,
        "Flows refused: the virtual server is in maintenance, or has no node available.",
    ),
    "refused_connlimit": (True, "Flows refused: the virtual server's connection limit is reached."),
    "flows_waited": (
        True,
        "Flows that waited for a place because a limit was reached (at_limit: wait).",
    ),
    "wait_timeouts": (
        True,
        "Flows refused because they waited in vain for a place (limit_wait_s).",
    ),
    "reset_sent": (
        True,
        "TCP resets sent to clients: their flow was refused, or nothing serves the port.",
    ),
    "unreachable_sent": (
        True,
        "ICMP port unreachable messages sent: a flow was refused, or nothing serves the port.",
    ),
    # --- installing and ending
    "direct_collisions": (
        False,
        "Connections to a node itself that were reset because their client uses the same port for a"
        " virtual server on that node.",
    ),
    "flows_woken": (
        True,
        "Connections whose flow was gone after a long silence and whose node spoke first; the agent"
        " asked the CS for their node again.",
    ),
    "halves_found": (
        False,
        "Flows of which an agent that was killed left only the node's direction; the CS completes"
        " those of TCP.",
    ),
    "drop_nodes_awaited": (
        True,
        "Dropped: from the internal side, of TCP in mid-session, while the data path was new and no"
        " CS had said where nodes are; 60 s at most.",
    ),
    "passed_by_agent": (True, "Other packets of the internal side that the agent routed then."),
    "nodes_asked": (
        True,
        "Packets of nodes in mid-session that no flow knew: the CS was asked whose they are. Many:"
        " NEWFLOWs get lost, or clients talk to nodes directly on a way that passes the DFS in one"
        " direction only (reached_directly).",
    ),
    "flows_installed": (True, "Flows installed in the target because of a REPLY or NEWFLOW."),
    "lingering_replaced": (
        True,
        "Flows that lingered after their end and gave way to a new one with their source port.",
    ),
    "flows_updated": (True, "REPLYs and NEWFLOWs that repeated or changed an installed flow."),
    "replies_stale": (
        True,
        "REPLYs ignored: the flow has another serial by now, or was just deleted.",
    ),
    "replies_invalid": (
        False,
        "REPLYs ignored: the QUERY went to another CS, or the flags contradict each other.",
    ),
    "newflows_refused": (False, "NEWFLOWs that this DFS cannot carry out; the CS is notified."),
    "install_failures": (False, "Flows that the target could not install; the CS is notified."),
    "evictions": (False, "Flows evicted to make room: the flow table is too small."),
    "evictions_half_open": (
        False,
        "Half-open flows evicted to make room: somebody sends SYNs and does not go on, or the flow"
        " table is too small.",
    ),
    "flows_half_open": (
        True,
        "Half-open flows that ended: no packet of the client for half_open_timeout_s.",
    ),
    "flows_reopened": (
        True,
        "Flows that went on after their end was seen; the CS gets them back (FLOW_STATE).",
    ),
    "flows_closed": (True, "Flows that ended with FIN or RST."),
    "flows_idle": (True, "Flows that ended by the idle timeout."),
    "flows_reaped": (
        True,
        "Flows that were inactive and ended at the CS's request (REAP or TIMEOUT).",
    ),
    "flows_asked_again": (
        True,
        "SYNs on installed flows whose node did not answer the client's last packet; the agent"
        " asked the CS again.",
    ),
    "flows_moved": (True, "Flows that the CS, asked again, sent to another node."),
    "flows_given_up": (
        True,
        "Flows that the CS ended, active or not: their node is down or gone, or refused when asked"
        " again. Their TCP connections are reset.",
    ),
    "flows_looping": (
        False,
        "Flows that ended because their client, node or next hop became a virtual address or an"
        " address of this DFS: packets would go round.",
    ),
    "flows_reset": (True, "Flows deleted by a RESET from the CS."),
    "flows_kept": (True, "REAPs and TIMEOUTs refused: the flow is active."),
    "flows_not_found": (True, "REAPs and TIMEOUTs for a flow or serial that does not exist."),
    "deletes_unsent": (
        False,
        "DELETEs not sent: no CS is connected; it learns of the end by SYNC or its own timeout.",
    ),
    "stats_unsent": (True, "STATS not sent: no CS is connected; the next ones include them."),
    # --- datagrams
    "datagrams_received": (True, "SSMB datagrams received."),
    "datagrams_unsent": (
        False,
        "SSMB datagrams that the socket did not accept: buffer full, or no route.",
    ),
    "datagrams_sent": (True, "SSMB datagrams sent."),
    "drop_unknown_source": (
        False,
        "Datagrams dropped: not from the SSMB address of a connected and authenticated CS.",
    ),
    "drop_bad_tag": (
        False,
        "Datagrams dropped: wrong seal (forged, damaged, or sealed with another key).",
    ),
    "drop_replayed": (
        False,
        "Datagrams dropped: received before (duplicated by the network, or replayed).",
    ),
    "drop_too_old": (
        False,
        "Datagrams dropped: too old to check whether they were received before.",
    ),
    "drop_multicast_bad_tag": (
        False,
        "Datagrams to a multicast group dropped: wrong seal (forged, damaged, or of another key).",
    ),
    "drop_multicast_repeated": (
        True,
        "Datagrams to a multicast group dropped: received before; normal if there are two ways.",
    ),
    "drop_multicast_too_old": (
        False,
        "Datagrams to a multicast group dropped: sent before this DFS listened, or far too late.",
    ),
    "drop_multicast_not_active": (
        True,
        "Datagrams to a multicast group dropped: not known to be of its active CS; normal while"
        " roles change.",
    ),
    "drop_multicast_for_others": (
        True,
        "Datagrams to a multicast group dropped: meant for another DFS.",
    ),
    "multicast_forwarded": (
        True,
        "Datagrams to a multicast group sent on to the other links of this DFS.",
    ),
    "multicast_unsent": (
        False,
        "Datagrams to a multicast group that could not be sent on to a link.",
    ),
    "drop_too_short": (False, "Datagrams dropped: too short for a seal and a message."),
    "invalid_msg": (False, "Messages dropped: malformed, or of a type that only a DFS sends."),
    "ignored_msg": (True, "Messages ignored: of an experimental type, as the protocol requires."),
    "drop_not_active": (
        False,
        "Messages dropped: from a CS that is not the active one of its group.",
    ),
    "drop_other_group": (
        False,
        "Messages dropped: about a flow or virtual server of another CS's group.",
    ),
    "drop_unexpected_ack": (True, "RESET acknowledgements that were not expected: duplicates."),
    "encode_failures": (
        False,
        "Messages not sent: about an IPv6 flow, and the CS speaks SSMB version 1.",
    ),
    "bridge_incomplete": (
        False,
        "Bridged packets dropped: not all pieces arrived within a second.",
    ),
    "bridge_overflow": (False, "Bridged packets dropped: too many are waiting for pieces."),
    # --- CSMB
    "csmb_connections": (True, "CSMB connections accepted."),
    "csmb_closed": (True, "CSMB connections that ended; the CS reconnects."),
    "csmb_boots_changed": (
        False,
        "HELLOs by which a CS says that it restarted, on a connection that did not end; a new"
        " process has a new one.",
    ),
    "csmb_auth_failures": (
        False,
        "CSMB connections refused, or ended before they were authenticated.",
    ),
    "cs_not_active": (
        False,
        "HELLOs answered with NOTACTIVE: another CS of the group is active, or a later one was.",
    ),
    "cs_silent": (
        False,
        "Times that an active CS missed three heartbeats: it hangs, or is unreachable.",
    ),
    "cs_epoch_too_high": (
        False,
        "CSs refused because they claimed a role epoch far above the last one; see the log.",
    ),
    "configuration_not_active": (
        False,
        "CONFIG, ADD_VS, DEL_VS and VS_LIST refused: from a CS that is not its group's active one.",
    ),
    "cs_duplicate_id": (
        False,
        "CSs refused with DUPID: another CS with the same segment_id is connected.",
    ),
    "vs_refused": (
        False,
        "Virtual servers refused: contradictory flags, or a kind that is not supported.",
    ),
    faults.COUNTER: (False, faults.MEANING[0].upper() + faults.MEANING[1:] + "."),
    "reset_unacknowledged": (False, "RESETs sent by this DFS that no CS acknowledged."),
    "sync_waits_over": (
        False,
        "Times that a new CS did not send SYNC in time; pending QUERYs were sent to it anyway.",
    ),
}


class Counters(dict[str, int]):
    """Name -> value; only names with a meaning, so a misspelt one raises at once."""

    def __init__(self) -> None:
        super().__init__(dict.fromkeys(MEANINGS, 0))

    def as_mapping(self) -> dict[str, Counter]:
        """Every counter with its meaning."""
        return {name: Counter(self[name], *MEANINGS[name]) for name in MEANINGS}
