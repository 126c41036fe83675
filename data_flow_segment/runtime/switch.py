# SPDX-License-Identifier: Apache-2.0
"""The switch that a configuration names, and the network around it as the target wants it told."""

from __future__ import annotations

from collections.abc import Callable

from data_flow_segment.config.p4runtime import P4RuntimeSection
from data_flow_segment.config.values import mac_octets
from data_flow_segment.targets.contract import Target
from data_flow_segment.targets.interfaces import Interface, Route
from data_flow_segment.targets.p4runtime.options import P4RuntimeOptions
from data_flow_segment.targets.p4runtime.target import P4RuntimeTarget
from ssmb.addresses import from_text


def open_switch(
    section: P4RuntimeSection, flow_capacity: int, on_standby: Callable[[str], None]
) -> Target:
    """Connect to it; TargetError says what is wrong and what to do about it.

    While another agent is the switch's primary this waits, and says so once to `on_standby`.
    """
    return P4RuntimeTarget.open(options(section, flow_capacity), on_standby=on_standby)


def options(section: P4RuntimeSection, flow_capacity: int) -> P4RuntimeOptions:
    """The switch's network as tables; what its interfaces are connected to are routes too."""
    routes = [
        Route.to(str(network), interface.port)
        for interface in section.interfaces
        for network in dict.fromkeys(interface.networks())
    ]
    for route in section.routes:
        way = section.interface_towards(route.via)
        assert way is not None  # the model has seen to it
        routes.append(Route.to(route.to, way.port, route.via))
    return P4RuntimeOptions(
        address=section.address,
        interfaces=tuple(
            Interface(
                interface.port,
                interface.name,
                mac_octets(interface.mac),
                tuple(from_text(address.partition("/")[0]) for address in interface.addresses),
                external=interface.external,
                internal=interface.internal,
                mtu=interface.mtu,
            )
            for interface in section.interfaces
        ),
        routes=tuple(routes),
        neighbours={
            from_text(address): mac_octets(mac) for address, mac in section.neighbours.items()
        },
        device_id=section.device_id,
        election_id=section.election_id,
        replace_program=section.replace_program,
        flow_capacity=flow_capacity,
    )
