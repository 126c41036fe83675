# SPDX-License-Identifier: Apache-2.0
"""Every mistake that one file can hold is named, with what would be right."""

from __future__ import annotations

from typing import Any, Final

import pytest
from pydantic import ValidationError

from support.segments.dfs_double import CONFIG, changed_pool, changed_server, config

POOL_OF_SIX = [{"name": "web", "nodes": [{"name": "a", "address": "fd00::2", "port": 80}]}]
MIXED = changed_pool(web2={"address": "fd00::2"})
TWICE = [CONFIG["virtual_servers"][0], {**CONFIG["virtual_servers"][0], "name": "other"}]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"virtual_servers": changed_server(pool="nope")},
            "there is no pool 'nope'; there are: web",
        ),
        ({"virtual_servers": TWICE}, "'203.0.113.10 80 tcp' is given twice"),
        ({"virtual_servers": [CONFIG["virtual_servers"][0]] * 2}, "virtual server 'www' is given"),
        ({"pools": CONFIG["pools"] * 2}, "pool 'web' is given twice"),
        ({"pools": changed_pool(web2={"name": "web1"})}, "node name 'web1' is given twice"),
        ({"pools": changed_pool(web2={"address": "10.1.1.2"})}, "10.1.1.2 port 8080' is given"),
        (
            {"pools": changed_pool("fastest")},
            "unknown balancing method 'fastest'; use one of round_",
        ),
        ({"pools": changed_pool(web1={"address": "10.1.1"})}, "'10.1.1' is not an IPv4 or IPv6"),
        ({"pools": changed_pool(web1={"weight": -1})}, "greater than or equal to 0"),
        ({"pools": changed_pool(web1={"state": "up"})}, "'enabled', 'draining' or 'down'"),
        ({"pools": changed_pool(web1={"wieght": 1})}, "Extra inputs are not permitted"),
        ({"pools": POOL_OF_SIX}, r"node a of pool web is IPv6 \(fd00::2\) behind an IPv4 address"),
        (
            {"pools": MIXED, "virtual_servers": changed_server(address="*")[:1]},
            "nodes of both families",
        ),
        (
            {"virtual_servers": changed_server(forward_mode="l2", translate_port=True)},
            "translate_port needs forward_mode nat",
        ),
        (
            {"virtual_servers": changed_server(forward_mode="l2", source_translation="10.0.0.1")},
            "source_translation needs forward_mode nat",
        ),
        ({"virtual_servers": changed_server(next_hop="fd00::1")}, "next_hop fd00::1 is not of the"),
        (
            {
                "virtual_servers": changed_server(
                    source_translation={"address": "10.0.0.1", "ports": "9-1"}
                )
            },
            "the ports must ascend",
        ),
        ({"virtual_servers": changed_server(port=0)}, "greater than or equal to 1"),
        ({"virtual_servers": changed_server(protocol="sctp")}, "'tcp' or 'udp'"),
        (
            {
                "virtual_servers": [
                    {
                        **server,
                        "persistence": {
                            "kind": "source_address",
                            "group": "shop",
                            "timeout_s": 60 + number,
                        },
                    }
                    for number, server in enumerate(CONFIG["virtual_servers"])
                ]
            },
            "virtual server dns: timeout_s 61 of persistence group 'shop' is 60 at virtual server",
        ),
        ({"key_file": None}, "key_file is missing"),
        ({"laboratory_no_authentication": True}, "not both"),
        ({"segment_id": 128}, "less than or equal to 127"),
        ({"data_flow_segments": []}, "at least 1 item"),
        ({"virtual_servers": [CONFIG["virtual_servers"][0]] * 65536}, "at most 65535 items"),
        ({"data_flow_segments": [{"address": "10.0.0.1"}] * 2}, "'10.0.0.1 61019' is given twice"),
        ({"settings": {"stats_interval_s": -1}}, "greater than or equal to 0"),
    ],
)
def test_a_mistake_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config(**changes)


def test_the_smallest_configuration_is_enough() -> None:
    made = config(pools=[], virtual_servers=[])
    assert made.settings.tcp_idle_timeout_s == 300
    assert made.ssmb.port == 61019
    assert made.active


@pytest.mark.parametrize(
    ("mode", "address", "port"),
    [("nat", True, True), ("l2", False, False), ("tunnel", False, False)],
)
def test_what_is_translated_follows_from_the_mode(mode: str, address: bool, port: bool) -> None:
    server = config(virtual_servers=changed_server(forward_mode=mode)).virtual_servers[0]
    assert (server.translates_address, server.translates_port) == (address, port)


def test_a_source_translation_may_be_an_address_alone() -> None:
    server = config(virtual_servers=changed_server(source_translation="10.0.0.1")).virtual_servers[
        0
    ]
    assert server.source is not None
    assert (server.source.address, server.source.ports) == ("10.0.0.1", "1024-65535")


OTHERS: Final = {"control_segments": [{"segment_id": 2, "address": "10.255.0.9"}]}


def shared(**multicast: Any) -> dict[str, Any]:
    """A CS of two that shares by multicast."""
    place = {"address": "10.255.0.2", "multicast": {"address": "239.191.0.19", **multicast}}
    return {"ssmb": place, "key_file": "k", "laboratory_no_authentication": False, **OTHERS}


def test_a_multicast_group_has_the_documented_defaults() -> None:
    multicast = config(**shared()).ssmb.multicast
    assert multicast is not None
    assert (multicast.port, multicast.interface, multicast.ttl) == (61019, None, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (shared(address="10.255.0.9"), "not the address of a multicast group; give one like 239"),
        (shared(address="group"), "'group' is not an IPv4 or IPv6 address"),
        (shared(address="ff12::19%eth0"), "not the address of a multicast group"),
        (shared(address="ff12::19"), "not of the address family of 10.255.0.2; give an IPv4"),
        (shared(ttl=0), "greater than or equal to 1"),
        (shared(ttl=256), "less than or equal to 255"),
        (shared(interface=""), "at least 1 character"),
        (shared(interface="a/b"), "should match pattern"),
        ({**shared(), "control_segments": []}, "multicast is for several CSs; name the others"),
        (
            {**shared(), "key_file": None, "laboratory_no_authentication": True},
            "multicast needs key_file: its datagrams are always sealed",
        ),
    ],
)
def test_a_multicast_group_that_cannot_work_is_refused(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        config(**changes)
