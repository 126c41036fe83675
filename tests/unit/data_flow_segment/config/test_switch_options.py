# SPDX-License-Identifier: Apache-2.0
"""What the target is told of the switch that a configuration describes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_flow_segment.config.p4runtime import P4RuntimeSection
from data_flow_segment.targets.interfaces import Interface, ReversePath, Route
from data_flow_segment.targets.p4runtime.options import ProgramOptions
from ssmb.addresses import from_text

SECTION = P4RuntimeSection.model_validate(
    {
        "address": "[::1]:9559",
        "device_id": 7,
        "election_id": 3,
        "replace_program": True,
        "interfaces": [
            {
                "port": 1,
                "name": "out",
                "mac": "02:5B:00:00:00:01",
                "addresses": ["10.1.1.1/24", "10.1.1.2/24", "2001:db8::1/64"],
                "external": True,
            },
            {
                "port": 11,
                "name": "in",
                "mac": "02:5b:00:00:00:0b",
                "addresses": ["10.2.1.1/24"],
                "internal": True,
                "mtu": 9000,
            },
        ],
        "routes": [{"to": "10.0.0.0/8", "via": "10.2.1.254"}, {"to": "::/0", "via": "2001:db8::2"}],
        "neighbours": {"10.2.1.2": "02:00:00:00:00:01"},
    }
)


def test_each_port_is_an_interface() -> None:
    assert SECTION.options(1000).interfaces == (
        Interface(
            1,
            "out",
            bytes.fromhex("025b00000001"),
            (from_text("10.1.1.1"), from_text("10.1.1.2"), from_text("2001:db8::1")),
            external=True,
            reverse_path=ReversePath.STRICT,
        ),
        Interface(
            11,
            "in",
            bytes.fromhex("025b0000000b"),
            (from_text("10.2.1.1"),),
            internal=True,
            mtu=9000,
            reverse_path=ReversePath.STRICT,
        ),
    )


def test_connected_networks_are_routes_once_and_gateways_lead_out_of_their_port() -> None:
    assert SECTION.options(1000).routes == (
        Route.to("10.1.1.0/24", 1),
        Route.to("2001:db8::/64", 1),
        Route.to("10.2.1.0/24", 11),
        Route.to("10.0.0.0/8", 11, "10.2.1.254"),
        Route.to("::/0", 1, "2001:db8::2"),
    )


def test_the_rest_is_told_as_it_is() -> None:
    told = SECTION.options(1000)
    assert (told.address, told.device_id, told.election_id) == ("[::1]:9559", 7, 3)
    assert (told.replace_program, told.flow_capacity) == (True, 1000)
    assert told.neighbours == {from_text("10.2.1.2"): bytes.fromhex("020000000001")}


def rack(**changes: Any) -> P4RuntimeSection:
    """Ports by name, two of them in one network, and a program of the switch's own."""
    fields: dict[str, Any] = {
        "address": "[::1]:9559",
        "program": {"p4info_file": "/p4/info", "loaded": True, "agent_port": 320},
        "port_names": {"Ethernet1/1": 132, "Ethernet1/2": 510, "up": 64},
        "interfaces": [
            {
                "port": "up",
                "name": "uplink",
                "mac": "02:5b:00:00:00:01",
                "addresses": ["10.1.1.1/24"],
                "external": True,
            },
            {
                "ports": ["Ethernet1/1", 140, "Ethernet1/2"],
                "name": "rack",
                "mac": "02:5b:00:00:00:0b",
                "addresses": ["10.2.1.1/24"],
                "internal": True,
            },
        ],
        "routes": [{"to": "10.3.0.0/16", "via": "10.2.1.254"}],
    }
    return P4RuntimeSection.model_validate({**fields, **changes})


def test_ports_have_names_and_a_network_has_several() -> None:
    told = rack().options(1000)
    uplink, nodes = told.interfaces
    assert (uplink.number, uplink.more_ports, uplink.ports) == (64, (), (64,))
    assert nodes.ports == (132, 140, 510)
    assert told.routes == (
        Route.to("10.1.1.0/24", 64),
        Route.to("10.2.1.0/24", 132),
        Route.to("10.3.0.0/16", 132, "10.2.1.254"),
    )


def test_a_program_of_the_switchs_own_is_told() -> None:
    assert rack().options(1000).program == ProgramOptions(Path("/p4/info"), None, 320)
    given = {"p4info_file": "/p4/info", "device_config_file": "/p4/tofino.bin"}
    ports = {"Ethernet1/1": 132, "Ethernet1/2": 133, "up": 64}
    told = rack(program=given, port_names=ports).options(1000).program
    assert told == ProgramOptions(Path("/p4/info"), Path("/p4/tofino.bin"), 510)
