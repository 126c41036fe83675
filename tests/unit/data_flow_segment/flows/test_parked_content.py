# SPDX-License-Identifier: Apache-2.0
"""Answers to what the target has asked about a client's first data, which it leaves to the agent:
more are needed, a refusal, or a node that it could not go to itself (15.2, 15.3)."""

from typing import Any

import pytest

from packets.tcp import Segment, write
from ssmb.constants import ErrorCode, Flag
from ssmb.messages import AppQuery, Reply, Session
from support.octets.frames import framed
from support.segments.agent_rig import CLIENT, EXTERNAL, NODE, TRANSLATE, VIP
from support.segments.proxied_rig import (
    ACK,
    PSH,
    REQUEST,
    RST,
    Client,
    Node,
    ProxiedRig,
    signature,
)

SERIAL = 0x1234_5678


def parked(client: Client, payload: bytes, **changes: Any) -> Reply:
    """A REPLY that brings back the client's first data; EXTERNAL is the interface's number."""
    segment = Segment(client.seq, client.ack, ACK | PSH, 500, payload=payload)
    packet = write(segment, Session(CLIENT[0], VIP[0], CLIENT[1], VIP[1], 6))
    place = EXTERNAL.to_bytes(6, "big")  # where the target keeps the interface
    fields: dict[str, Any] = {
        "flags": TRANSLATE | int(Flag.PROXY_SERVER | Flag.PARKED),
        "serial": SERIAL,
        **signature()._asdict(),
        "node_ipaddr": NODE[0],
        "node_port": NODE[1],
        "frame": framed(packet, place, bytes(6)),
        **changes,
    }
    return Reply(**fields)


def connected() -> tuple[ProxiedRig, Client]:
    rig = ProxiedRig()
    client = Client(rig)
    client.connects()
    return rig, client


def test_a_node_that_the_target_did_not_go_to_gets_its_handshake_here() -> None:
    rig, client = connected()
    rig.active.send(parked(client, REQUEST))
    assert rig.active.take(AppQuery) == []
    node = Node(rig)
    node.accepts()
    assert node.receives()[0].payload == REQUEST
    state = rig.state()
    assert state is not None
    assert state.entry.serial == SERIAL


def test_more_is_collected_and_asked_about_with_the_same_serial() -> None:
    rig, client = connected()
    rig.active.send(
        parked(client, REQUEST[:30], error_code=int(ErrorCode.MORE), flags=int(Flag.PARKED))
    )
    assert rig.active.take(AppQuery) == []
    client.seq += 30
    client.says(REQUEST[30:])
    question = rig.active.one(AppQuery)
    assert (question.serial, question.app_data) == (SERIAL, REQUEST)


def test_a_refused_client_gets_a_reset() -> None:
    rig, client = connected()
    rig.active.send(
        parked(client, REQUEST, error_code=int(ErrorCode.NOTAVAIL), flags=int(Flag.PARKED))
    )
    (reset,) = client.receives()
    assert reset.flags & RST
    assert reset.seq == client.ack
    assert rig.is_idle()
    assert rig.count("refused_notavail") == 1


def test_a_wait_is_kept_and_asked_about_by_the_agent() -> None:
    rig, client = connected()
    rig.active.send(
        parked(
            client, REQUEST, error_code=int(ErrorCode.WAIT), flags=int(Flag.PARKED), idle_timeout=5
        )
    )
    rig.advance(1.1)
    assert client.receives() == []
    question = rig.active.one(AppQuery)
    assert (question.serial, question.app_data) == (SERIAL, REQUEST)


@pytest.mark.parametrize("code", [0, int(ErrorCode.MORE), int(ErrorCode.NOTAVAIL)])
def test_a_frame_whose_cookie_is_wrong_changes_nothing(code: int) -> None:
    rig, client = connected()
    client.ack += 1
    rig.active.send(parked(client, REQUEST, error_code=code))
    assert rig.is_idle()
    assert client.receives() == Node(rig).receives() == []
