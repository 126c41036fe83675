# SPDX-License-Identifier: Apache-2.0
"""Content-aware virtual servers in a laboratory: real kernels at both ends, every octet compared.

The client's handshake is with the DFS, which hears a request first; then the connection is spliced
to the node that the CS chose for it (docs/design/0012-content.md).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from admin.answers import COUNTERS, FLOWS
from splitplane.lab import Lab
from splitplane.lab.topology import VIRTUAL_ADDRESS, VIRTUAL_ADDRESS_6
from support.cluster.content import HTTP, ask, pool, request
from support.cluster.laboratory import Broken, crowd, until, wait_until_served
from support.soak import part

pytestmark = [pytest.mark.network, pytest.mark.dataplane]

FAMILIES = {"IPv4": VIRTUAL_ADDRESS, "IPv6": VIRTUAL_ADDRESS_6}
COOKIE, LONELY = 8001, 8002
AT_ONCE = 16
EACH = 10  # downloads that go on, of each family
BAD = "drop=0.02,reorder=0.02"
ODD = ["server1", "server3"]
FAR_CLIENT, FAR_SERVER = "client3", "server4"  # of bad links


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Iterator[Lab]:
    lab = make_lab(clients=3, servers=4)
    config = lab.cs_configs["cs1"]
    for suffix, address in (("", VIRTUAL_ADDRESS), ("6", VIRTUAL_ADDRESS_6)):
        config["pools"] += [
            pool(lab, f"all{suffix}", ["server1", "server2", "server3"], six=bool(suffix)),
            pool(lab, f"odd{suffix}", ODD, six=bool(suffix)),
            pool(lab, f"second{suffix}", ["server2"], six=bool(suffix)),
            pool(lab, f"far{suffix}", [FAR_SERVER], six=bool(suffix)),
            pool(lab, f"gone{suffix}", ["server1"], six=bool(suffix), more=["nobody"]),
        ]
        common = {"address": address, "protocol": "tcp", "pool": f"all{suffix}"}
        config["virtual_servers"] += [
            {
                "name": f"http{suffix}", "port": HTTP, "kind": "http", **common,
                "rules": [
                    {
                        "name": "second",
                        "match": {"host": ["*.second.example"], "path_prefix": ["/bytes/"]},
                        "pool": f"second{suffix}",
                    },
                    {
                        "name": "far",
                        "match": {"host": ["*.far.example"]},
                        "pool": f"far{suffix}",
                    },
                    {"name": "beta", "match": {"cookie": {"beta": "1"}}, "pool": f"odd{suffix}"},
                    {"name": "no", "match": {"path": ["/forbidden"]}, "refuse": True},
                ],
            },
            {
                "name": f"cookie{suffix}", "port": COOKIE, "kind": "cookie", **common,
                "persistence": {"kind": "node_cookie", "cookie": "NODE"},
            },
            {
                "name": f"lonely{suffix}", "port": LONELY, "kind": "http", **common,
                "pool": f"gone{suffix}",
            },
        ]  # fmt: skip
    with lab:
        for number, host in enumerate((FAR_CLIENT, FAR_SERVER)):
            lab.impair(host, f"{BAD},seed={number}", delay_ms=2)
        yield lab


@pytest.mark.parametrize("address", FAMILIES.values(), ids=FAMILIES)
def test_rules_choose_the_pool(lab: Lab, address: str) -> None:
    async def scenario() -> None:
        names = Counter([await ask(lab, address, request()) for _ in range(6)])
        assert names == {"server1": 2, "server2": 2, "server3": 2}
        for _ in range(4):
            asked = request("/bytes/5000", "www.second.example")
            assert await ask(lab, address, asked, size=5000) == "server2"
            assert await ask(lab, address, request(more="Cookie: a=b; beta=1\r\n")) in ODD

    asyncio.run(scenario())


def test_a_rule_refuses(lab: Lab) -> None:
    with pytest.raises(Broken, match="reset"):
        asyncio.run(ask(lab, VIRTUAL_ADDRESS, request("/forbidden")))


def test_a_cookie_names_the_node(lab: Lab) -> None:
    async def scenario() -> None:
        for name in ("server3", "server1", "server2") * 3:
            cookie = request(more=f"Cookie: x=1; NODE={name}\r\n")
            assert await ask(lab, VIRTUAL_ADDRESS, cookie, port=COOKIE) == name

    asyncio.run(scenario())


@pytest.mark.parametrize("address", FAMILIES.values(), ids=FAMILIES)
def test_a_request_split_at_every_octet(lab: Lab, address: str) -> None:
    whole = request("/bytes/3000", "a.second.example")
    every: list[tuple[bytes, ...]] = [(whole[:at], whole[at:]) for at in range(1, len(whole))]
    every.append(tuple(whole[at : at + 1] for at in range(len(whole))))

    async def one(pieces: tuple[bytes, ...]) -> None:
        assert await ask(lab, address, *pieces, size=3000) == "server2"

    jobs = [lambda pieces=pieces: one(pieces) for pieces in every]
    asyncio.run(crowd(jobs, AT_ONCE))


def test_a_node_that_refuses_is_replaced(lab: Lab) -> None:
    async def scenario() -> None:
        names = [await ask(lab, VIRTUAL_ADDRESS, request(), port=LONELY) for _ in range(6)]
        assert set(names) == {"server1"}

    asyncio.run(scenario())


def test_connections_outlive_the_agent_and_the_control_segment(lab: Lab) -> None:
    size = 3_000_000
    path = f"/bytes/{size}?rate=400000"

    async def download(address: str) -> None:
        asked = request(path, "a.second.example")
        assert await ask(lab, address, asked, size=size) == "server2"

    async def scenario() -> None:
        async with asyncio.TaskGroup() as tasks:
            for address in FAMILIES.values():
                for _ in range(EACH):
                    tasks.create_task(download(address))
            await until("they are spliced", lambda: spliced(lab) >= 2 * EACH)
            # by this thread, with which they end; the downloads wait meanwhile
            lab.dfs().kill9()
            lab.start_dfs()
            await asyncio.to_thread(wait_until_served, lab)
            lab.cs().kill9()
            lab.start_cs()
            await asyncio.to_thread(wait_until_served, lab)
            assert await ask(lab, VIRTUAL_ADDRESS, request()) in ("server1", "server2", "server3")

    asyncio.run(scenario())


def spliced(lab: Lab) -> int:
    flows = lab.admin("dfs", FLOWS, limit=10_000)
    return sum(flow.vip.endswith(f":{HTTP}") for flow in flows)


def test_bad_links_break_nothing(lab: Lab) -> None:
    """Both handshakes, requests cut at every octet, and the splice: segments are lost, and others
    overtake them, between the client and the DFS and between the DFS and the node."""
    asked = request("/bytes/20000", "a.far.example")

    async def one(at: int) -> None:
        pieces = (asked[:at], asked[at:]) if at else (asked,)
        found = await ask(lab, VIRTUAL_ADDRESS, *pieces, client=FAR_CLIENT, size=20_000)
        assert found == FAR_SERVER

    jobs = [lambda at=at: one(at % len(asked)) for at in range(part(10_000, 50))]
    asyncio.run(crowd(jobs, 4 * AT_ONCE))


def test_what_was_done_is_counted(lab: Lab) -> None:
    before = lab.admin("dfs", COUNTERS)
    asyncio.run(ask(lab, VIRTUAL_ADDRESS, request()))
    after = lab.admin("dfs", COUNTERS)
    for name in ("short_asked", "short_spliced"):
        assert after[name].value == before[name].value + 1
    for name in ("proxied_connections", "up_calls", "short_left"):  # the agent did nothing
        assert after[name].value == before[name].value
    assert after["collecting_full"].value == 0
    first, second = request()[:9], request()[9:]
    asyncio.run(ask(lab, VIRTUAL_ADDRESS, first, second))
    again = lab.admin("dfs", COUNTERS)
    assert again["flows_spliced"].value == after["flows_spliced"].value + 1
    assert again["short_spliced"].value == after["short_spliced"].value
