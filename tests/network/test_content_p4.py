# SPDX-License-Identifier: Apache-2.0
"""A content-aware virtual server on a P4 switch, in a laboratory: the agent completes the
handshakes, the switch carries what follows (docs/design/0012-content.md)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from admin.answers import COUNTERS
from splitplane.lab import Lab
from splitplane.lab.topology import VIRTUAL_ADDRESS, VIRTUAL_ADDRESS_6
from support.cluster.content import HTTP, ask, pool, request
from support.cluster.laboratory import Broken, wait_until_served

pytestmark = pytest.mark.network

FAMILIES = {"IPv4": VIRTUAL_ADDRESS, "IPv6": VIRTUAL_ADDRESS_6}
SERVERS = ["server1", "server2"]
OCTETS = 300_000


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Iterator[Lab]:
    lab = make_lab("p4runtime", clients=1, servers=2)
    config = lab.cs_configs["cs1"]
    for suffix, address in (("", VIRTUAL_ADDRESS), ("6", VIRTUAL_ADDRESS_6)):
        config["pools"] += [
            pool(lab, f"all{suffix}", SERVERS, six=bool(suffix)),
            pool(lab, f"second{suffix}", ["server2"], six=bool(suffix)),
        ]
        config["virtual_servers"].append(
            {
                "name": f"http{suffix}", "address": address, "port": HTTP, "protocol": "tcp",
                "kind": "http", "pool": f"all{suffix}",
                "rules": [
                    {
                        "name": "second",
                        "match": {"host": ["*.second.example"]},
                        "pool": f"second{suffix}",
                    },
                    {"name": "no", "match": {"path": ["/forbidden"]}, "refuse": True},
                ],
            }
        )  # fmt: skip
    with lab:
        wait_until_served(lab)
        yield lab


@pytest.mark.parametrize("address", FAMILIES.values(), ids=FAMILIES)
def test_rules_choose_the_pool_and_the_switch_carries_the_answer(lab: Lab, address: str) -> None:
    async def scenario() -> None:
        names = Counter([await ask(lab, address, request()) for _ in range(4)])
        assert names == dict.fromkeys(SERVERS, 2)
        for _ in range(2):
            asked = request(f"/bytes/{OCTETS}", "www.second.example")
            assert await ask(lab, address, asked, size=OCTETS) == "server2"

    before = lab.admin("dfs", COUNTERS)["flow_packets"].value
    asyncio.run(scenario())
    # of the answers each packet but the first ones passed the switch alone
    assert lab.admin("dfs", COUNTERS)["flow_packets"].value - before > 2 * OCTETS // 1460


@pytest.mark.parametrize("address", FAMILIES.values(), ids=FAMILIES)
def test_a_request_in_pieces(lab: Lab, address: str) -> None:
    whole = request("/bytes/3000", "a.second.example")
    for at in (1, 20, len(whole) - 1):
        assert asyncio.run(ask(lab, address, whole[:at], whole[at:], size=3000)) == "server2"


def test_a_rule_refuses(lab: Lab) -> None:
    with pytest.raises(Broken, match="reset"):
        asyncio.run(ask(lab, VIRTUAL_ADDRESS, request("/forbidden")))
