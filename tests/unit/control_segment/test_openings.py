# SPDX-License-Identifier: Apache-2.0
"""How a connection began, from what the DFS reports at its end."""

from __future__ import annotations

import pytest

from control_segment.flows import SESSION
from control_segment.openings import Opening, opening_of
from ssmb.constants import CloseReason, ErrorCode, Flag, ForwardMode
from ssmb.messages import Delete
from support.segments.dfs_double import CLIENT, SERVER, Rig, changed_pool, config

FIN, SYN, RST, PSH, ACK, ECE, CWR = 0x01, 0x02, 0x04, 0x08, 0x10, 0x40, 0x80
IDLE_S = 300
NAT, L2, TUNNEL = ForwardMode.NAT, ForwardMode.L2, ForwardMode.TUNNEL
UNKNOWN, OPENED, REFUSED, UNANSWERED, ABANDONED = Opening


def ended(
    reason: CloseReason, flags: int, pkts_in: int, pkts_out: int, idle_s: int = IDLE_S
) -> Delete:
    return Delete(
        flags=Flag.HAS_STATS,
        serial=5,
        src_ipaddr=CLIENT,
        dst_ipaddr=SERVER,
        src_port=40000,
        dst_port=80,
        protocol=6,
        tcp_flags=flags,
        detail=reason,
        idle_ms=idle_s * 1000,
        pkts_in=pkts_in,
        pkts_out=pkts_out,
    )


@pytest.mark.parametrize(
    ("message", "mode", "expected"),
    [
        (ended(CloseReason.RST, SYN | RST | ACK, 1, 1), NAT, REFUSED),
        (ended(CloseReason.RST, SYN | RST | ACK | ECE | CWR, 1, 1), NAT, REFUSED),
        (ended(CloseReason.RST, SYN | RST | ACK, 1, 2), NAT, REFUSED),  # after its SYN-ACK
        (ended(CloseReason.RST, SYN | RST | ACK, 2, 1), NAT, UNKNOWN),  # a scan, or a repeated SYN
        (ended(CloseReason.RST, SYN | RST | ACK, 3, 1), NAT, OPENED),
        (ended(CloseReason.RST, SYN | RST | ACK | PSH, 9, 9), NAT, OPENED),
        (ended(CloseReason.RST, SYN | RST | ACK, 3, 0), L2, OPENED),
        (ended(CloseReason.FIN, SYN | FIN | ACK | PSH, 6, 5), NAT, OPENED),
        (ended(CloseReason.IDLE, SYN, 1, 0), NAT, UNANSWERED),
        (ended(CloseReason.IDLE, SYN | ECE | CWR, 4, 0, 5), NAT, UNANSWERED),
        (ended(CloseReason.REAPED, SYN, 2, 0), NAT, UNANSWERED),
        (ended(CloseReason.IDLE, SYN, 0, 0), NAT, ABANDONED),  # no SYN was on its way to the node
        (ended(CloseReason.OVERFLOW, SYN, 1, 0, 0), NAT, ABANDONED),  # it had no time
        (ended(CloseReason.IDLE, SYN, 4, 0), L2, ABANDONED),  # the DFS would see no answer
        (ended(CloseReason.IDLE, SYN, 4, 0), TUNNEL, ABANDONED),
        (ended(CloseReason.IDLE, SYN | ACK, 2, 0), TUNNEL, OPENED),  # the client's ACK was seen
        (ended(CloseReason.IDLE, SYN | ACK, 1, 1), NAT, ABANDONED),
        (ended(CloseReason.IDLE, SYN | ACK, 1, 6), NAT, ABANDONED),
        (ended(CloseReason.IDLE, SYN | ACK, 3, 6, 5), NAT, ABANDONED),  # the short timeout
        (ended(CloseReason.IDLE, SYN | ACK | ECE, 3, 6, 5), NAT, ABANDONED),
        (ended(CloseReason.IDLE, SYN | ACK, 2, 1), NAT, OPENED),  # silent for the whole timeout
        (ended(CloseReason.IDLE, SYN | ACK | PSH, 3, 2, 5), NAT, OPENED),
        (ended(CloseReason.OVERFLOW, SYN | ACK, 2, 1, 0), NAT, OPENED),
        (ended(CloseReason.IDLE, ACK | PSH, 1, 0), NAT, UNKNOWN),  # a session's later flow
        (ended(CloseReason.RST, RST, 0, 1), NAT, UNKNOWN),
        (ended(CloseReason.NODE_FAIL, SYN | ACK | PSH, 9, 9), NAT, OPENED),  # the CS ended it
        (ended(CloseReason.NODE_FAIL, SYN, 1, 0), NAT, UNANSWERED),
        (ended(CloseReason.NODE_FAIL, 0, 0, 0)._replace(protocol=17), NAT, UNKNOWN),
        (ended(CloseReason.RST, SYN | RST | ACK, 1, 1)._replace(protocol=17), NAT, UNKNOWN),
        (ended(CloseReason.RST, SYN | RST | ACK, 1, 1)._replace(flags=0), NAT, UNKNOWN),
        (Delete(error_code=ErrorCode.NODEFAIL, protocol=6), NAT, REFUSED),
    ],
)
def test_a_delete_says_how_the_connection_began(
    message: Delete, mode: ForwardMode, expected: Opening
) -> None:
    opening = opening_of(
        *(message.error_code, message.flags, message.protocol, message.tcp_flags),
        *(message.detail, message.idle_ms, message.pkts_in, message.pkts_out),
        forward_mode=mode,
        idle_timeout_s=IDLE_S,
    )
    assert opening is expected


@pytest.mark.parametrize(
    "message",
    [
        ended(CloseReason.IDLE, SYN, 3, 0, 5),
        ended(CloseReason.IDLE, SYN | ACK, 1, 6),
        ended(CloseReason.IDLE, SYN | ACK, 4, 6, 5),
        ended(CloseReason.OVERFLOW, SYN | ACK, 1, 2, 0),
    ],
)
def test_a_flow_whose_client_never_went_on_leaves_no_session(message: Delete) -> None:
    rig = Rig()
    rig.dfs.query(rig, serial=5)
    rig.dfs.tell(rig, message)
    assert len(rig.cs.table) == 0
    assert rig.active()["web1"] == 0


def test_a_connection_without_data_that_was_silent_for_long_leaves_a_session() -> None:
    rig = Rig()
    rig.dfs.query(rig, serial=5)
    rig.dfs.tell(rig, ended(CloseReason.IDLE, SYN | ACK, 2, 1))
    (flow,) = rig.cs.table.by_key.values()
    assert flow.state == SESSION


@pytest.mark.parametrize(
    "method", ["least_connections", "weighted_least_connections", "fastest_response"]
)
def test_a_node_that_refuses_everything_does_not_attract_everything(method: str) -> None:
    rig = Rig(config(pools=changed_pool(method)))
    for serial in range(1, 151):
        rig.advance(0.1)
        reply = rig.dfs.query(rig, serial=serial, port=1000 + serial)
        assert reply is not None
        if reply.node_ipaddr[-1] == 2:  # web1
            refused = ended(CloseReason.RST, SYN | RST | ACK, 1, 1, 0)
            rig.dfs.tell(rig, refused._replace(serial=serial, src_port=1000 + serial))
    web1 = rig.cs.model.pools["web"].nodes["web1"]
    assert web1.total == web1.failed
    assert web1.total <= 15
