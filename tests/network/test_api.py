# SPDX-License-Identifier: Apache-2.0
"""What operators change by the API, and the connections that go on meanwhile, on real packets."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, Final

import pytest

from admin.answers import VIRTUAL_SERVERS
from splitplane.lab import Lab
from splitplane.lab.api import LabApi
from splitplane.lab.processes import wait_for
from splitplane.lab.topology import SERVER_HTTP_PORT
from support.cluster.downloads import SERVERS, Arrivals
from support.ports import free_port
from support.soak import part

pytestmark = [pytest.mark.network, pytest.mark.dataplane]

CHANGES: Final = 10_000
HELD: Final = 40  # connections that stay open all the time
POOLS: Final = ("web", "web6")


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Iterator[Lab]:
    with make_lab("bpf", clients=2, servers=3, api=True, api_port=free_port()) as lab:
        yield lab


@pytest.fixture
def api(lab: Lab) -> LabApi:
    assert lab.api is not None
    return lab.api


def done(api: LabApi, method: str, path: str, body: object = None) -> Any:
    """What the API answers to a request that it carries out."""
    status, answer = api.request(method, f"/api/v1/{path}", body)
    assert status < 300, f"{method} {path} {body}: {status} {answer}"
    return answer


def wait_until_answered(lab: Lab, address: str, port: int) -> None:
    """Clients get an answer of a server there."""

    def is_answered() -> bool:
        try:
            with lab.connect("client1", address=address, port=port, timeout_s=2) as connection:
                return connection.get("/name").body.decode().strip() in SERVERS
        except OSError:
            return False

    wait_for(f"{address} port {port} to be answered", is_answered)


def test_curl_goes_from_nothing_to_traffic(lab: Lab, api: LabApi) -> None:
    token = done(api, "POST", "tokens", {"name": "curl", "role": "operator"})["token"]

    def put(path: str, body: str) -> None:
        subprocess.run(
            ["curl", "--fail-with-body", "--silent", "--show-error", "--request", "PUT",
             "--header", f"Authorization: Bearer {token}",
             "--header", "Content-Type: application/json",
             "--data", body, f"{api.url}api/v1/{path}"],
            check=True, capture_output=True,
        )  # fmt: skip

    node = lab.host("server1")
    at = f'"address": "{node.address}", "port": {SERVER_HTTP_PORT}'
    put("pools/curl", f'{{"nodes": [{{"name": "first", {at}}}]}}')
    put(
        "virtual-servers/curl",
        '{"address": "203.0.113.71", "port": 8000, "protocol": "tcp", "pool": "curl"}',
    )
    wait_until_answered(lab, "203.0.113.71", 8000)


# --- changes under load --------------------------------------------------------------------------


class Operator:
    """Changes everything that can be changed without a node being set down."""

    def __init__(self, lab: Lab, api: LabApi) -> None:
        self._api = api
        self._nodes = {
            host.name: {"name": host.name, "address": host.address, "port": SERVER_HTTP_PORT}
            for host in lab.topology.of("server")
        }
        self._chance = random.Random(1)
        self._extra: list[int] = []  # virtual servers that come and go
        self._first = done(api, "GET", "generations?limit=1")["items"][0]["number"]
        self._whole = done(api, "GET", "configuration?group_id=1")
        self.orders: tuple[Callable[[], None], ...] = (
            self.weigh, self.weigh, self.drain, self.add, self.remove, self.balance, self.remember,
            self.limit, self.set_times, self.watch, self.apply, self.go_back,
        )  # fmt: skip

    def order(self) -> None:
        """One change, or a request that turns out to change nothing."""
        self._chance.choice(self.orders)()

    def _pick(self) -> tuple[str, str]:
        return self._chance.choice(POOLS), self._chance.choice(sorted(SERVERS - {"server1"}))

    def weigh(self) -> None:
        pool, node = self._pick()
        weight = self._chance.choice((0, 1, 2, 10, 1000))
        done(self._api, "PATCH", f"pools/{pool}/nodes/{node}", {"weight": weight})

    def drain(self) -> None:
        pool, node = self._pick()
        state = self._chance.choice(("enabled", "draining"))
        done(self._api, "PATCH", f"pools/{pool}/nodes/{node}", {"state": state})

    def add(self) -> None:
        number = self._chance.randrange(100)
        nodes = self._chance.sample(sorted(self._nodes), 2)
        pool = {"nodes": [self._nodes[name] for name in nodes]}
        done(self._api, "PUT", f"pools/extra{number}", pool)
        server = {
            "address": f"203.0.113.{100 + number}", "port": 80, "protocol": "tcp",
            "pool": f"extra{number}",
        }  # fmt: skip
        done(self._api, "PUT", f"virtual-servers/extra{number}", server)
        if number not in self._extra:
            self._extra.append(number)

    def remove(self) -> None:
        if self._extra:
            number = self._extra.pop(self._chance.randrange(len(self._extra)))
            done(self._api, "DELETE", f"virtual-servers/extra{number}")
            done(self._api, "DELETE", f"pools/extra{number}")

    def balance(self) -> None:
        method = self._chance.choice(("round_robin", "least_connections", "maglev", "source_hash"))
        done(self._api, "PATCH", f"pools/{self._chance.choice(POOLS)}", {"method": method})

    def remember(self) -> None:
        kind: dict[str, object] = {"kind": "source_address", "timeout_s": 60}
        persistence = self._chance.choice((None, kind))
        done(self._api, "PATCH", "virtual-servers/www", {"persistence": persistence})

    def limit(self) -> None:
        limit = self._chance.choice((0, 100_000))
        done(self._api, "PATCH", "virtual-servers/www6", {"connection_limit": limit})

    def set_times(self) -> None:
        seconds = self._chance.choice((3600, 7440))
        done(self._api, "PATCH", "settings?group_id=1", {"tcp_idle_timeout_s": seconds})

    def watch(self) -> None:
        monitor = {"kind": "tcp", "interval_ms": 2000, "timeout_ms": 2000, "fall": 10}
        done(self._api, "PUT", "monitors/extra", monitor)
        names = self._chance.choice(([], ["extra"]))
        done(self._api, "PATCH", f"pools/{self._chance.choice(POOLS)}", {"monitors": names})

    def apply(self) -> None:
        done(self._api, "PUT", "configuration?group_id=1", self._whole)
        self._extra.clear()

    def go_back(self) -> None:
        number = self._chance.randint(self._first, self.generation())
        done(self._api, "POST", f"generations/{number}/roll-back", {})
        servers = done(self._api, "GET", "virtual-servers?limit=1000")["items"]
        names = [each["name"] for each in servers]
        self._extra = [int(name[5:]) for name in names if name.startswith("extra")]

    def generation(self) -> int:
        """The newest."""
        return int(done(self._api, "GET", "generations?limit=1")["items"][0]["number"])


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_no_connection_breaks_while_everything_is_changed(lab: Lab, api: LabApi) -> None:
    operator = Operator(lab, api)
    begun = operator.generation()
    with ExitStack() as stack:
        addresses = lab.virtual_addresses
        held = [
            stack.enter_context(lab.connect("client2", address=addresses[number % 2]))
            for number in range(HELD)
        ]
        nodes = [connection.get("/name").body for connection in held]
        arrivals = Arrivals(lab, 4)
        for number in range(part(CHANGES, 100)):
            operator.order()
            if number % 10 == 0:
                index = number // 10 % HELD
                assert held[index].get("/name").body == nodes[index]
        newest = operator.generation()
        assert newest > begun
        wait_for("the CS to run the newest generation", lambda: runs(api, newest))
        arrivals.stop()
        assert arrivals.count > 0
        assert [connection.get("/name").body for connection in held] == nodes
    wait_for("the DFS to know what is configured", lambda: announced(lab) == configured(api))


def runs(api: LabApi, generation: int) -> bool:
    cs = done(api, "GET", "segments/cs-1")
    assert cs["status"] != "refused", cs["problems"]
    return bool(cs["generation"] == generation and cs["status"] == "in_force")


def announced(lab: Lab) -> set[tuple[str, int | str, str]]:
    servers = lab.admin("dfs", VIRTUAL_SERVERS)
    return {(each.address, each.port, each.protocol) for each in servers}


def configured(api: LabApi) -> set[tuple[str, int | str, str]]:
    servers = done(api, "GET", "virtual-servers?limit=1000")["items"]
    return {(each["address"], each["port"], each["protocol"]) for each in servers}
