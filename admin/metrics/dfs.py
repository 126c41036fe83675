# SPDX-License-Identifier: Apache-2.0
"""The metrics of a DFS."""

from __future__ import annotations

from typing import Final, NamedTuple

from admin.answers import (
    COUNTERS,
    DFS_STATUS,
    MESSAGES,
    VIRTUAL_SERVERS,
    ControlSegmentPeer,
    Counter,
    DataFlowSegmentStatus,
    Identity,
    Messages,
    VirtualServer,
)
from admin.answers import Group as ControlSegmentGroup
from admin.metrics.collecting import (
    Asking,
    Count,
    Event,
    LeftOut,
    build_info,
    counted,
    events,
    left_out,
    link_to_api,
    sliced,
)
from admin.metrics.tables import AnyGroup, AnyReading, Group, Metric, Reading, unlabelled

_DROP: Final = "drop_"
_BY_DATA_PATH: Final = "data path"  # of `answers.Group.asks`


class Member(NamedTuple):
    """A CS that is connected."""

    group_id: int
    peer: ControlSegmentPeer


class Because(NamedTuple):
    """How often flows of a virtual server were asked about for a reason."""

    server: VirtualServer
    reason: str
    number: int


def _server_labels(server: VirtualServer) -> tuple[str, ...]:
    return server.address, str(server.port), server.protocol


BUILD: Final = build_info("dfs")
LINK: Final = link_to_api("dfs")
LEFT_OUT: Final = left_out("dfs")
DFS: Final[Group[DataFlowSegmentStatus]] = Group(
    "the DFS",
    ("segment_id",),
    lambda it: (str(it.segment_id),),
    (Metric("splitplane_dfs", "info", "Which DFS it is.", lambda _: 1),),
)
STATUS: Final[Group[DataFlowSegmentStatus]] = unlabelled(
    "the DFS",
    Metric("splitplane_dfs_flows", "gauge", "Flows in its table.", lambda it: it.flows),
    Metric(
        "splitplane_dfs_flow_capacity", "gauge",
        "Flows that fit into its table.", lambda it: it.flow_capacity,
    ),
    Metric(
        "splitplane_dfs_pending_flows", "gauge",
        "Flows that wait for the answer of a CS.", lambda it: it.pending,
    ),
    Metric(
        "splitplane_dfs_negative_entries", "gauge",
        "Flows that a CS refused less than a second ago.", lambda it: it.negative,
    ),
    Metric(
        "splitplane_dfs_lingering_flows", "gauge",
        "Flows that have ended and whose late packets are still translated.",
        lambda it: it.lingering,
    ),
    Metric(
        "splitplane_dfs_held_bytes", "gauge",
        "Packets of pending flows that wait in the agent.", lambda it: it.held_octets,
    ),
    Metric(
        "splitplane_dfs_adopted", "gauge",
        "1: the flow table was there before this agent.", lambda it: it.adopted,
    ),
    Metric(
        "splitplane_dfs_laboratory", "gauge",
        "1: nothing is authenticated; never outside a laboratory.", lambda it: it.laboratory,
    ),
)  # fmt: skip
GROUP: Final[Group[ControlSegmentGroup]] = Group(
    "each group of CSs",
    ("group_id",),
    lambda it: (str(it.group_id),),
    (
        Metric(
            "splitplane_dfs_group_has_active", "gauge",
            "1: a CS of the group is active here; 0: new flows wait.",
            lambda it: it.active is not None,
        ),
        Metric(
            "splitplane_dfs_group_standbys", "gauge",
            "Standbys that are connected.", lambda it: len(it.standbys),
        ),
        Metric(
            "splitplane_dfs_group_role_epoch", "gauge",
            "The highest role epoch that the DFS has obeyed.", lambda it: it.role_epoch,
        ),
        Metric(
            "splitplane_dfs_group_data_path_asks", "gauge",
            "1: the data path asks about new flows by itself; 0: the agent does.",
            lambda it: it.asks == _BY_DATA_PATH,
        ),
    ),
)  # fmt: skip
CS: Final[Group[Member]] = Group(
    "each connected CS",
    ("group_id", "cs"),
    lambda it: (str(it.group_id), f"cs-{it.peer.segment_id}"),
    (
        Metric(
            "splitplane_dfs_cs_active", "gauge",
            "1: it is the active CS of its group.", lambda it: it.peer.active,
        ),
        Metric(
            "splitplane_dfs_cs_takes_queries", "gauge",
            "1: SSMB is authenticated, and no RESET is under way.",
            lambda it: it.peer.takes_queries,
        ),
        Metric(
            "splitplane_dfs_cs_synced", "gauge",
            "1: it knows every flow, or never had to be told.", lambda it: it.peer.synced,
        ),
        Metric(
            "splitplane_dfs_cs_silent", "gauge",
            "1: it is active and has missed three heartbeats; new flows wait.",
            lambda it: it.peer.silent,
        ),
        Metric(
            "splitplane_dfs_cs_heartbeat_seconds", "gauge",
            "Time since its last heartbeat; none: it has sent none as what it is now.",
            lambda it: None if it.peer.heartbeat_ms is None else it.peer.heartbeat_ms / 1000,
        ),
    ),
)  # fmt: skip
SENT: Final = counted("splitplane_dfs_messages_sent_total", "type", "SSMB messages sent.")
RECEIVED: Final = counted(
    "splitplane_dfs_messages_received_total", "type", "SSMB messages received."
)
DROPPED: Final = events(
    "splitplane_dfs_dropped_total", "reason",
    "What was dropped: the counters of `splitplane show counters` that begin with `drop_`, which"
    " explains each; `normal` is `false` where a rise means that something is wrong.",
)  # fmt: skip
EVENTS: Final = events(
    "splitplane_dfs_events_total", "event",
    "The other counters of `splitplane show counters`, which explains each; `normal` is `false`"
    " where a rise means that something is wrong.",
)  # fmt: skip
SERVERS: Final[Group[int]] = unlabelled(
    "the DFS",
    Metric(
        "splitplane_dfs_virtual_servers", "gauge",
        "Virtual servers that CSs announced.", lambda number: number,
    ),
)  # fmt: skip
SERVER: Final[Group[VirtualServer]] = Group(
    "each virtual server",
    ("address", "port", "protocol"),
    _server_labels,
    (
        Metric(
            "splitplane_dfs_virtual_server_has_cs", "gauge",
            "1: a CS of its group is active.", lambda it: it.active_cs is not None,
        ),
        Metric(
            "splitplane_dfs_virtual_server_grants", "gauge",
            "Decisions made ahead that no flow has taken yet; none: it has no grants.",
            lambda it: it.granted,
        ),
        Metric(
            "splitplane_dfs_virtual_server_answered_ahead_total", "counter",
            "New flows that took a grant.", lambda it: it.answered_ahead,
        ),
    ),
)  # fmt: skip
BECAUSE: Final[Group[Because]] = Group(
    "each virtual server with grants, and reason",
    ("address", "port", "protocol", "reason"),
    lambda it: (*_server_labels(it.server), it.reason),
    (
        Metric(
            "splitplane_dfs_virtual_server_asked_total", "counter",
            "New flows about which a CS was asked.", lambda it: it.number,
        ),
    ),
)  # fmt: skip

GROUPS: Final[tuple[AnyGroup, ...]] = (
    BUILD, DFS, STATUS, LINK, GROUP, CS, SENT, RECEIVED, DROPPED, EVENTS, SERVERS, SERVER, BECAUSE,
    LEFT_OUT,
)  # fmt: skip
"""All, in the order of docs/metrics.md."""


async def collect(identity: Identity, ask: Asking, series_max: int) -> list[AnyReading]:
    """Everything there is now.  With more virtual servers than `series_max` these have no series of
    their own."""
    servers = await ask(VIRTUAL_SERVERS)
    found = [
        Reading(BUILD, [identity.release]),
        *_of_status(await ask(DFS_STATUS)),
        *_of_messages(await ask(MESSAGES)),
        *_of_counters(await ask(COUNTERS)),
        Reading(SERVERS, [len(servers)]),
    ]
    is_too_much = len(servers) > series_max
    if not is_too_much:
        because = list[Because]()
        async for some in sliced(servers):
            because += [
                Because(server, reason, number)
                for server in some
                for reason, number in (server.asked_because or {}).items()
            ]
        found += [Reading(SERVER, servers), Reading(BECAUSE, because)]
    number = len(servers) if is_too_much else 0
    return [*found, Reading(LEFT_OUT, [LeftOut("virtual_servers", number)])]


def _of_status(status: DataFlowSegmentStatus) -> list[AnyReading]:
    members = [
        Member(group.group_id, peer)
        for group in status.groups
        for peer in ([group.active] if group.active else []) + group.standbys
    ]
    return [
        Reading(DFS, [status]),
        Reading(STATUS, [status]),
        Reading(LINK, [status.api] if status.api else []),
        Reading(GROUP, status.groups),
        Reading(CS, members),
    ]


def _of_messages(messages: Messages) -> list[AnyReading]:
    return [
        Reading(SENT, [Count(*each) for each in messages.sent.items()]),
        Reading(RECEIVED, [Count(*each) for each in messages.received.items()]),
    ]


def _of_counters(counters: dict[str, Counter]) -> list[AnyReading]:
    dropped, others = list[Event](), list[Event]()
    for name, it in counters.items():
        event = Event(name.removeprefix(_DROP), "true" if it.normal else "false", it.value)
        (dropped if name.startswith(_DROP) else others).append(event)
    return [Reading(DROPPED, dropped), Reading(EVENTS, others)]
