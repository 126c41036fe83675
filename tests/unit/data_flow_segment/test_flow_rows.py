# SPDX-License-Identifier: Apache-2.0
"""What `show flows`, `show status` and `trace` say of connections that are not spliced yet."""

from __future__ import annotations

from typing import Any

from admin.answers import DFS_STATUS, FLOWS, TRACE, Command, Flow
from admin.arguments import Arguments
from data_flow_segment.inspection import COMMANDS
from ssmb.addresses import to_text
from ssmb.constants import Carrier
from ssmb.messages import AppQuery
from support.segments.agent_rig import CLIENT, NODE, VIP, newflow_for
from support.segments.proxied_rig import REQUEST, Client, Node, ProxiedRig

ENDS = {"client": f"{to_text(CLIENT[0])}:{CLIENT[1]}", "vip": f"{to_text(VIP[0])}:{VIP[1]}"}


def asked(rig: ProxiedRig, command: Command[Any], **arguments: object) -> Any:
    return COMMANDS.answer(command.name, rig.agent, Arguments(arguments), lambda: rig.now)


def flows(rig: ProxiedRig, **arguments: object) -> list[Flow]:
    return [flow for piece in asked(rig, FLOWS, **arguments) for flow in piece]


def test_a_connection_is_listed_once_with_its_state_from_its_first_data_on() -> None:
    rig = ProxiedRig()
    client = Client(rig)
    client.connects()
    assert flows(rig) == []
    client.says(REQUEST[:20])
    (flow,) = flows(rig)
    assert (flow.state, flow.node, flow.octets_held) == ("collecting", None, 20)
    assert flow.client == ENDS["client"]
    assert asked(rig, DFS_STATUS).collecting == 1
    client.says(REQUEST[20:])
    question = rig.active.one(AppQuery)
    (flow,) = flows(rig)
    assert (flow.state, flow.serial, flow.octets_held) == (
        "deciding",
        question.serial,
        len(REQUEST),
    )
    rig.decide(question)
    node = f"{to_text(NODE[0])}:{NODE[1]}"
    (flow,) = flows(rig, node=node)
    assert (flow.state, flow.node) == ("connecting", node)
    assert flows(rig, client="192.0.2.1") == []
    assert asked(rig, TRACE, **ENDS, protocol="tcp")[-1].what == "is connecting, not spliced yet"
    Node(rig).accepts()
    (flow,) = flows(rig)
    assert flow.state == "joining"
    segment = [each for each in Node(rig).receives() if each.payload][-1]
    end = Node(rig, isn=70_001)
    end.ack = segment.end
    end.sends(0x10)
    (flow,) = flows(rig)
    assert (flow.state, flow.node) == ("established", node)
    assert asked(rig, DFS_STATUS).collecting == 0
    said = [entry.what.partition(" (serial")[0] for entry in asked(rig, TRACE, **ENDS)]
    assert said == ["collecting", "APP_QUERY sent", "spliced"]


def test_a_flow_that_a_cs_carries_is_called_assisted() -> None:
    rig = ProxiedRig()
    rig.active.send(newflow_for(0x8100_0001, detail=int(Carrier.CS)))
    (flow,) = flows(rig)
    assert flow.state == "assisted"
