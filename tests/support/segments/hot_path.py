# SPDX-License-Identifier: Apache-2.0
"""What a DFS may send on the hot path, and all that the CS may have changed by it."""

from __future__ import annotations

from typing import Any, Final

from hypothesis import strategies as st

from control_segment.flows import Flow
from ssmb.addresses import from_text
from ssmb.codec import encode
from ssmb.constants import PARKED_FRAME_MAX, TCP, UDP, CloseReason, ErrorCode, Flag
from ssmb.messages import (
    AppQuery,
    Delete,
    FlowSignature,
    Message,
    Query,
    Reply,
    Stats,
    Translation,
)
from support.attributes import attribute_names
from support.requests import frame, request
from support.segments.dfs_double import CLIENT, SERVER, Rig, changed_server

# Few, so that a sequence meets the same flow again; of a virtual server with a limit, and of none
SIGNATURES: Final = st.builds(
    FlowSignature,
    st.just(CLIENT),
    st.just(SERVER),
    st.integers(1, 3),
    st.sampled_from([80, 81]),
    st.sampled_from([TCP, UDP]),
    st.sampled_from([0, 0xB8]),
)
SERIALS: Final = st.sampled_from([0, 1, 2, 3, 0x8000_0000])
FRAMES: Final = st.one_of(
    st.just(b""), st.binary(min_size=1, max_size=80), st.just(bytes(PARKED_FRAME_MAX))
)


@st.composite
def queries(draw: st.DrawFn) -> bytes:
    """About new flows and known ones, PARKED or not."""
    frame = draw(FRAMES)
    flags = draw(st.sampled_from([0, Flag.RETRY, Flag.OUTBOUND])) | (Flag.PARKED if frame else 0)
    tcp_flags = draw(st.sampled_from([0x02, 0x10, 0xC2]))
    detail = draw(st.sampled_from([0, 0, 0, 1, 2]))
    query = Query(0, flags, draw(SERIALS), *draw(SIGNATURES), tcp_flags, detail, 5, frame)
    return encode(query, 2)


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Cut, longer, or with another octet, but sealed: what a DFS with a mistake sends."""
    octets = bytearray(draw(whole))
    where = draw(st.integers(0, 55)) % len(octets)
    how = draw(st.sampled_from(["octet", "cut", "longer", "too long"]))
    if how == "octet":
        octets[where] = draw(st.integers(0, 255))
    elif how == "cut":
        del octets[max(1, where) :]
    else:
        octets += bytes(where + 1 if how == "longer" else PARKED_FRAME_MAX + 1)
    return bytes(octets)


_SAID: Final = st.sampled_from(
    [request(), request("/img/a"), request("/admin"), request("/img/a")[:30], b"", b"\x16\x03\x01"]
)


@st.composite
def app_queries(draw: st.DrawFn) -> bytes:
    """Of clients that have said something, PARKED or not, about new connections and known ones."""
    said, signature = draw(_SAID), draw(SIGNATURES)
    flags = draw(st.sampled_from([0, Flag.RETRY, Flag.OUTBOUND, Flag.TRUNCATED]))
    error = draw(st.sampled_from([0, 0, 0, ErrorCode.NODEFAIL, ErrorCode.OK]))
    data, parked = said, b""
    if draw(st.booleans()):
        flags |= Flag.PARKED
        whole = frame(said, CLIENT, SERVER, (signature.src_port, signature.dst_port))
        data, parked = b"", draw(st.sampled_from([whole, whole, whole[:50], bytes(60)]))
    serial = draw(SERIALS)
    return encode(AppQuery(error, flags, serial, *signature, 0x18, 3, 5, data, parked), 2)


COUNTS: Final = st.sampled_from([0, 1, 2, 3, 9, 1 << 63])
deletes = st.builds(
    Delete,
    st.sampled_from([0, *ErrorCode]),
    st.sampled_from([0, Flag.HAS_STATS, Flag.HAS_STATS | Flag.RETRY, Flag.ADD_TCP_OFFSETS]),
    SERIALS,
    st.just(CLIENT), st.just(SERVER), st.integers(1, 3), st.sampled_from([80, 81]),
    st.sampled_from([TCP, UDP]), st.sampled_from([0, 0xB8]),
    st.sampled_from([0, 0x02, 0x06, 0x12, 0x13, 0x16, 0xFF]),
    st.sampled_from([*CloseReason, 9, 255]),
    st.just(5), st.sampled_from([0, 1000, 77_000]),
    COUNTS, COUNTS, COUNTS, COUNTS,
    st.just(4), st.just(5), st.just(6), st.just(-2),
)  # fmt: skip
others = SERIALS.map(lambda serial: Stats(0, int(Flag.HAS_STATS), serial))


@st.composite
def batches(draw: st.DrawFn) -> bytes:
    """DELETEs, now and then with something else between them."""
    messages: list[Message] = [*draw(st.lists(deletes, min_size=1, max_size=14))]
    if draw(st.integers(0, 9)) == 0:
        messages.insert(draw(st.integers(0, len(messages))), draw(others))
    return b"".join(encode(message, 2) for message in messages)


NODES: Final = tuple(from_text(each) for each in ("10.1.1.2", "10.1.1.3", "10.9.9.9"))


@st.composite
def places(draw: st.DrawFn) -> tuple[int, Translation]:
    """Where flows go, with their flags: nodes that are configured, and one that is not."""
    flags = Flag.TRANSLATE_ADDR | draw(st.sampled_from([0, Flag.TRANSLATE_PORT]))
    snat_port = draw(st.sampled_from([0, 0, 1024, 1025]))
    translation = Translation(
        node_ipaddr=draw(st.sampled_from(NODES)),
        node_port=draw(st.sampled_from([0, 8080])),
        idle_timeout=draw(st.sampled_from([0, 77, 300])),
    )
    if draw(st.booleans()):
        flags |= Flag.TRANSLATE_SRC
        translation = translation._replace(snat_ipaddr=NODES[2], snat_port=snat_port)
    return int(flags), translation


@st.composite
def copies(draw: st.DrawFn) -> bytes:
    """REPLYs to a standby; a few that are no copies, or that refuse."""
    flags, translation = draw(places())
    error = draw(st.sampled_from([0, 0, 0, 0, *ErrorCode]))
    flags |= draw(st.sampled_from([Flag.REPLICA, Flag.REPLICA, Flag.REPLICA | Flag.RETRY, 0]))
    head = error, flags, draw(SERIALS), *draw(SIGNATURES), 0, 0
    return encode(Reply._make((*head, *translation, b"")), 2)


LIMITED: Final = changed_server(connection_limit=2, idle_timeout_s=77)


def record(flow: Flow) -> tuple[object, ...]:
    """All that is kept of a flow, without references to its own CS."""
    kept: dict[str, Any] = {name: getattr(flow, name) for name in attribute_names(flow)}
    del kept["peer"], kept["virtual_server"], kept["source_port"]
    kept["node"] = flow.node.name
    return tuple(sorted(kept.items()))


def outcome(rig: Rig) -> object:
    """All that a datagram may change."""
    cs = rig.cs
    nodes = [
        {name: getattr(node, name) for name in attribute_names(node)}
        for node in cs.model.every_node()
    ]
    peer = cs.peers[256]
    return (
        cs.statistics.drops,
        cs.statistics.received,
        cs.statistics.sent,
        cs.statistics.refused,
        [record(flow) for flow in cs.table.by_key.values()],
        nodes,
        {slot: len(flows) for slot, flows in cs.table.wheel.items()},
        list(cs.trace.matching()),
        peer.sync.describe(),
        [peer.sync.has_ended(serial) for serial in (1, 2, 3)],
        [cs.table.waiting.freed, cs.table.session_changes],
    )
