# SPDX-License-Identifier: Apache-2.0
"""A segment that comes before its client's first one has no valid cookie, so it may be of a
connection that slept (docs/design/0012)."""

from __future__ import annotations

from data_flow_segment.flows.answers import FIRST_S
from ssmb.constants import ErrorCode
from ssmb.messages import AppQuery, Query
from support.segments.agent_rig import reply_to
from support.segments.proxied_rig import ACK, PSH, REQUEST, RST, Client, ProxiedRig


def test_it_joins_the_connection_that_its_first_segment_begins() -> None:
    rig = ProxiedRig()
    client = Client(rig)
    client.connects()
    first, second = REQUEST[:20], REQUEST[20:]
    assert client.sends(ACK | PSH, second, seq=client.seq + len(first)) == []
    query = rig.active.one(Query)  # as for a connection that was idle for too long
    (answer,) = client.sends(ACK | PSH, first)
    assert answer.ack == client.seq + len(first)
    assert rig.active.one(AppQuery).app_data == REQUEST
    assert not rig.agent.new_flows.pending.by_session
    rig.active.send(reply_to(query, error_code=int(ErrorCode.UNKNOWN)))
    assert client.receives() == []  # no RST: it is alive
    assert rig.handshake() is not None


def test_it_waits_for_a_first_segment_that_is_late_or_lost() -> None:
    """No CS knows a connection that has not begun: its answer is no reason for an RST."""
    rig = ProxiedRig()
    client = Client(rig)
    client.connects()
    first, second = REQUEST[:20], REQUEST[20:]
    client.sends(ACK | PSH, second, seq=client.seq + len(first))
    refusal = reply_to(rig.active.one(Query), error_code=int(ErrorCode.UNKNOWN))
    rig.active.send(refusal)
    rig.active.send(refusal)
    rig.advance(1.4)  # the first repeat was lost, too
    assert client.receives() == []
    (answer,) = client.sends(ACK | PSH, first)
    assert answer.ack == client.seq + len(first)
    assert rig.active.one(AppQuery).app_data == REQUEST
    assert not rig.agent.new_flows.pending.by_session
    assert rig.count("early_segments") == 1
    assert rig.count("reset_sent") == 0


def test_alone_it_is_what_the_cs_says() -> None:
    rig = ProxiedRig()
    client = Client(rig)
    client.connects()
    assert client.sends(ACK | PSH, REQUEST[20:], seq=client.seq + 20) == []
    rig.active.send(reply_to(rig.active.one(Query), error_code=int(ErrorCode.UNKNOWN)))
    assert client.receives() == []
    rig.advance(FIRST_S + 0.1)
    (reset,) = client.receives()
    assert reset.seq == client.ack
    assert rig.count("refused_unknown") == 1
    assert rig.is_idle()


def test_a_connection_from_the_same_port_does_not_suffer_for_it() -> None:
    """Its client's handshake is new, whatever was refused a moment ago."""
    rig = ProxiedRig()
    old = Client(rig)
    old.connects()
    old.sends(ACK | PSH, REQUEST[20:], seq=old.seq + 20)
    rig.active.send(reply_to(rig.active.one(Query), error_code=int(ErrorCode.UNKNOWN)))
    rig.advance(FIRST_S + 0.1)
    assert [each.flags & RST for each in old.receives()] == [RST]
    new = Client(rig)
    new.seq = old.seq + 500_000
    new.connects()
    assert new.says(REQUEST) == []
    assert rig.active.one(AppQuery).app_data == REQUEST
    assert rig.count("drop_negative") == 0


def test_an_rst_and_a_nodes_segment_do_not_wait() -> None:
    rig = ProxiedRig()
    client = Client(rig)
    client.connects()
    client.sends(RST | ACK, seq=client.seq + 20)
    for query in rig.active.take(Query):
        rig.active.send(reply_to(query, error_code=int(ErrorCode.UNKNOWN)))
    assert rig.count("early_segments") == 0


def test_what_tcp_does_not_accept_is_counted() -> None:
    rig = ProxiedRig()
    client = Client(rig)
    client.connects()
    client.says(REQUEST[:20])
    assert client.sends(RST, seq=client.seq + 90_000) == []
    assert rig.count("drop_unacceptable") == 1
    assert rig.handshake() is not None
