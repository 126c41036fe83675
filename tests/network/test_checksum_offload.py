# SPDX-License-Identifier: Apache-2.0
"""New flows are asked about in the data path whoever makes the checksums: a client's kernel, or
nobody, because its interface is to finish them, as on every veth (docs/design/0007).

What becomes of such a packet is read by the CS's kernel, which drops what has a wrong checksum.
The DFS's link to the CS is tried as it is, where nothing is ever summed, and with the DFS's kernel
finishing the sums.

The same goes for the REPLY: over IPv4 a CS sends it without a sum, over IPv6 its kernel makes one
or leaves it to its interface.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count, product
from typing import Final, NamedTuple

import pytest

from admin.answers import COUNTERS
from splitplane.lab import Lab
from splitplane.lab.topology import VIRTUAL_ADDRESS, VIRTUAL_ADDRESS_6
from support.cluster.laboratory import choose_way, echo, fetch, wait_until_asking

pytestmark = [pytest.mark.network, pytest.mark.dataplane]

ADDRESSES: Final = {"IPv4": VIRTUAL_ADDRESS, "IPv6": VIRTUAL_ADDRESS_6}
ON_OFF: Final = ("on", "off")
TIMES: Final = 6  # each server twice
PORTS: Final = count(20_000)
"""Of clients of UDP, whose flows stay: a kernel chooses at random, and now and then one of them."""


class Case(NamedTuple):
    """Who leaves checksums to its interface, and whose flows it is about."""

    client: str  # of ADDRESSES
    client_offload: str
    link_offload: str  # of the DFS towards the CS
    cs_offload: str

    def __str__(self) -> str:
        return f"{self.client}, client {self[1]}, link {self[2]}, CS {self[3]}"


CASES: Final = [Case(*each) for each in product(ADDRESSES, ON_OFF, ON_OFF, ON_OFF)]


@pytest.fixture(scope="module", params=ADDRESSES, ids=lambda family: f"CS over {family}")
def lab(make_lab: Callable[..., Lab], request: pytest.FixtureRequest) -> Iterator[Lab]:
    lab = make_lab(clients=1, servers=3)
    choose_way(lab, "data path")
    if request.param == "IPv6":
        host, cs = lab.host("cs1"), lab.cs_configs["cs1"]
        lab.dfs_config["csmb"]["address"] = lab.dfs_config["ssmb"]["address"] = host.gateway_6
        cs["ssmb"]["address"] = host.address_6
        cs["data_flow_segments"] = [{"address": host.gateway_6}]
    with lab:
        wait_until_asking(lab, "data path")
        yield lab


@pytest.mark.parametrize("case", CASES, ids=str)
def test_flows_are_asked_about_in_the_data_path(lab: Lab, case: Case) -> None:
    for host, interface, offload in (
        ("client1", "eth0", case.client_offload),
        ("dfs", "cs1", case.link_offload),
        ("cs1", "eth0", case.cs_offload),
    ):
        lab.run(host, "ethtool", "-K", interface, "tx", offload)
    dice = random.Random(str(case))
    address = ADDRESSES[case.client]
    servers: Counter[str] = Counter()

    async def tcp() -> None:
        for _ in range(TIMES):
            servers.update(await fetch(lab, "client1", address, (1, dice.randint(1, 30_000))))

    async def udp() -> None:
        for _ in range(TIMES):
            # the first of any length: 512 octets of a frame are parked
            contents = [dice.randbytes(dice.randint(0, 440)), dice.randbytes(dice.randint(0, 1400))]
            source = "::" if ":" in address else "", next(PORTS)
            servers.update(await echo(lab, "client1", address, contents, source=source))

    for exchange in (tcp, udp):
        before = counters(lab)
        asyncio.run(exchange())
        rose = counters(lab) - before
        assert rose["asked"] >= TIMES
        assert rose["up_calls"] == 0
        assert rose["installed"] == TIMES
        assert rose["flows_installed"] == 0, "the agent had to"
        odd = {name: rose[name] for name, counter in known(lab).items() if not counter}
        assert odd == dict.fromkeys(odd, 0)
    assert servers == dict.fromkeys(("server1", "server2", "server3"), 4 * TIMES // 3)


def counters(lab: Lab) -> Counter[str]:
    return Counter({name: each.value for name, each in lab.admin("dfs", COUNTERS).items()})


def known(lab: Lab) -> dict[str, bool]:
    """The DFS's counters, and whether one may rise without worry."""
    return {name: each.normal for name, each in lab.admin("dfs", COUNTERS).items()}
