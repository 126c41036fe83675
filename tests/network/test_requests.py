# SPDX-License-Identifier: Apache-2.0
"""Thousands of real requests through both planes, every octet compared: none may fail.  `make soak`
sends five times as many as `make test`.

Hundreds with BMv2, which moves some thousand packets a second.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from itertools import islice
from typing import NamedTuple

import pytest

from admin.answers import COUNTERS, VIRTUAL_SERVERS
from splitplane.lab import Lab
from splitplane.lab.topology import VIRTUAL_ADDRESS, VIRTUAL_ADDRESS_6
from support.cluster.laboratory import BOTH_PLANES, assert_way, choose_way, crowd, echo, fetch
from support.soak import part

pytestmark = [pytest.mark.network, pytest.mark.dataplane, pytest.mark.soak]

FAMILIES = {"IPv4": VIRTUAL_ADDRESS, "IPv6": VIRTUAL_ADDRESS_6}
AT_ONCE = 24
DATAGRAM_MAX = 1_400  # larger ones are fragments: test_icmp_and_mtu


class Volume(NamedTuple):
    """How much, over each family."""

    # up to which size, and how many ask for one between it and the one before
    sizes: Mapping[int, int]
    datagrams: int

    @property
    def requests(self) -> int:
        """One of the least size and one of the largest, and those."""
        return 2 + sum(self.sizes.values())


WHOLE = {100: 4900, 1_460: 2500, 20_000: 2000, 100_000: 530, 1_000_000: 60, 10_000_000: 8}
VOLUMES = {
    "bpf": Volume({size: part(count, 8) for size, count in WHOLE.items()}, part(10_000, 8)),
    "p4runtime": Volume({100: 195, 1_460: 100, 20_000: 80, 100_000: 18, 1_000_000: 5}, 400),
}


@pytest.fixture(scope="module", params=BOTH_PLANES)
def lab(make_lab: Callable[..., Lab], request: pytest.FixtureRequest) -> Iterator[Lab]:
    target, way = BOTH_PLANES[request.param]
    lab = make_lab(target, clients=2, servers=3)
    choose_way(lab, way)
    with lab:
        yield lab
        assert_way(lab, way)


@pytest.fixture
def volume(lab: Lab) -> Volume:
    return VOLUMES[lab.dfs_config["target"]]


def sizes(volume: Volume, chance: random.Random) -> list[int]:
    """Of every request, in an order of chance."""
    chosen = [1, max(volume.sizes)]
    least = 1
    for most, count in volume.sizes.items():
        chosen += [chance.randint(least, most) for _ in range(count)]
        least = most
    chance.shuffle(chosen)
    return chosen


def connections(volume: Volume, chance: random.Random) -> Iterator[list[int]]:
    """The sizes that are asked for on each connection: on most one, on some several."""
    waiting = iter(sizes(volume, chance))
    while some := list(islice(waiting, chance.choice((1, 1, 1, 4)))):
        yield some


def assert_nothing_odd(lab: Lab) -> None:
    """What clients did not see did not happen either: no refusal, no counter of a fault.

    A repeated QUERY says only that the CS took more than 50 ms, as on a busy machine; that nothing
    is repeated without a reason is held in virtual time (tests/simulation/test_planes.py).
    """
    refused = {each.name: each.refused for each in lab.admin("cs1", VIRTUAL_SERVERS)}
    assert set(refused.values()) == {0}, refused
    faults = {
        name: counter.value
        for name, counter in lab.admin("dfs", COUNTERS).items()
        if not counter.normal and name != "query_retries"
    }
    assert faults
    assert {name: value for name, value in faults.items() if value} == {}


@pytest.mark.parametrize("family", FAMILIES)
def test_no_request_of_thousands_fails(lab: Lab, volume: Volume, family: str) -> None:
    chance = random.Random(family)
    servers: Counter[str] = Counter()

    async def ask(number: int, wanted: list[int]) -> None:
        client = f"client{number % 2 + 1}"
        answered = await fetch(lab, client, FAMILIES[family], wanted)
        assert len(set(answered)) == 1, f"one connection was answered by {set(answered)}"
        servers.update(answered)

    jobs: list[Callable[[], Awaitable[None]]] = [
        partial(ask, number, wanted) for number, wanted in enumerate(connections(volume, chance))
    ]
    asyncio.run(crowd(jobs, AT_ONCE))
    assert servers.total() == volume.requests
    assert len(servers) == 3
    assert_nothing_odd(lab)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_datagram_of_thousands_is_lost_or_changed(lab: Lab, volume: Volume, family: str) -> None:
    chance = random.Random(family)
    servers: Counter[str] = Counter()
    tally: Counter[str] = Counter()

    async def ask(number: int, contents: list[bytes]) -> None:
        client = f"client{number % 2 + 1}"
        answered = await echo(lab, client, FAMILIES[family], contents, tally=tally)
        assert len(set(answered)) == 1, f"one session was answered by {set(answered)}"
        servers.update(answered)

    lengths = [0, 1, DATAGRAM_MAX]
    lengths += [chance.randint(0, DATAGRAM_MAX) for _ in range(volume.datagrams - len(lengths))]
    contents = iter([chance.randbytes(length) for length in lengths])
    jobs: list[Callable[[], Awaitable[None]]] = []
    while some := list(islice(contents, chance.choice((1, 1, 5)))):
        jobs.append(partial(ask, len(jobs), some))
    asyncio.run(crowd(jobs, AT_ONCE))
    assert servers.total() == volume.datagrams
    assert len(servers) == 3
    assert 10 * tally["repeats"] <= len(jobs)  # even if the machine is busy elsewhere for seconds
    assert_nothing_odd(lab)
