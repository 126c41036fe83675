# SPDX-License-Identifier: Apache-2.0
"""A virtual server whose packets come back to it is refused, with its line and field."""

from __future__ import annotations

from typing import Any

import pytest

from admin.errors import ConfigError
from control_segment.config import ControlSegmentConfig
from control_segment.loops import find_loop
from splitplane.config import parse
from support.work import lines_run

HEAD = """\
segment_id: 1
ssmb: {address: 192.0.2.1}
laboratory_no_authentication: true
data_flow_segments: [{address: 192.0.2.2}]
"""
A, B, C = "203.0.113.1", "203.0.113.2", "203.0.113.3"
NODE = "10.1.0.1"


def server(name: str, address: str, port: int | str = 80, **fields: Any) -> dict[str, Any]:
    return {"name": name, "address": address, "port": port, "protocol": "tcp", "pool": name,
            **fields}  # fmt: skip


def pool(name: str, address: str, port: int | None = None) -> dict[str, Any]:
    nodes = [
        {"name": "good", "address": NODE, "port": 80},
        {"name": "one", "address": address, **({} if port is None else {"port": port})},
    ]
    return {"name": name, "nodes": nodes}  # fmt: skip


def config(*parts: tuple[dict[str, Any], dict[str, Any]]) -> dict[str, Any]:
    return {
        "segment_id": 1,
        "ssmb": {"address": "192.0.2.1"},
        "laboratory_no_authentication": True,
        "data_flow_segments": [{"address": "192.0.2.2"}],
        "virtual_servers": [part[0] for part in parts],
        "pools": [part[1] for part in parts],
    }


LOOPS = {
    "itself": [(server("a", A), pool("a", A, 80))],
    "itself, the client's port kept": [(server("a", A), pool("a", A))],
    "itself, ports not translated": [(server("a", A, translate_port=False), pool("a", A, 8080))],
    "itself at every port": [(server("a", A, "*"), pool("a", A, 8080))],
    "each other": [(server("a", A), pool("a", B, 80)), (server("b", B), pool("b", A, 80))],
    "a ring of three": [
        (server("a", A), pool("a", B, 80)),
        (server("b", B), pool("b", C, 80)),
        (server("c", C), pool("c", A, 80)),
    ],
    "by way of another port": [
        (server("a", A), pool("a", A, 8080)),
        (server("b", A, 8080), pool("b", A, 80)),
    ],
    "by way of any port": [
        (server("a", A), pool("a", A, 8080)),
        (server("b", A, "*"), pool("b", A, 80)),
    ],
    "any port, kept, each other": [
        (server("a", A, "*"), pool("a", B)),
        (server("b", B, "*"), pool("b", A)),
    ],
    "into a ring from outside": [
        (server("a", A), pool("a", B, 80)),
        (server("b", B), pool("b", B, 80)),
    ],
    "by link": [(server("a", A, forward_mode="l2"), pool("a", A))],
    "by link to another virtual address": [
        (server("a", A, forward_mode="l2"), pool("a", B)),
        (server("b", B), pool("b", NODE, 81)),
    ],
    "by way of a fallback pool": [
        (server("a", A, fallback_pool="b"), pool("a", NODE, 81)),
        (server("b", B), pool("b", A, 80)),
    ],
    "in a tunnel": [(server("a", A, forward_mode="tunnel"), pool("a", A))],
}

NO_LOOPS = {
    "another port of its address": [(server("a", A), pool("a", A, 8080))],
    "another protocol": [
        (server("a", A), pool("a", A, 8080)),
        (server("b", A, 8080, protocol="udp"), pool("b", A, 80)),
    ],
    "a chain that ends": [
        (server("a", A), pool("a", B, 80)),
        (server("b", B), pool("b", NODE, 81)),
    ],
    "any port to one that is another virtual server's": [
        (server("a", A, "*"), pool("a", A, 80)),
        (server("b", A, 80), pool("b", NODE, 81)),
    ],
    "any address": [
        (server("a", "*", 80), pool("a", A, 80)),
        (server("b", A, 80), pool("b", NODE, 81)),
    ],
    "kept port that no virtual server has": [
        (server("a", A, "*"), pool("a", B)),
        (server("b", B, 80), pool("b", A, 8080)),
    ],
    "routed by destination, nothing translated": [
        (server("a", A, translate_address=False), pool("a", A, 80))
    ],
}  # fmt: skip


@pytest.mark.parametrize("parts", LOOPS.values(), ids=LOOPS.keys())
def test_packets_that_come_back_are_refused(parts: Any) -> None:
    with pytest.raises(ValueError, match="packets would go round; give the address of a server"):
        ControlSegmentConfig.model_validate(config(*parts))


@pytest.mark.parametrize("parts", NO_LOOPS.values(), ids=NO_LOOPS.keys())
def test_packets_that_do_not_come_back_are_not(parts: Any) -> None:
    ControlSegmentConfig.model_validate(config(*parts))


def test_the_line_and_the_field_are_named() -> None:
    text = HEAD + (
        "pools:\n  - {name: web, nodes: [{name: web1, address: 10.1.0.1}]}\n"
        "  - {name: self, nodes: [{name: one, address: 203.0.113.1, port: 80}]}\n"
        "virtual_servers:\n"
        "  - {name: web, address: 203.0.113.2, port: 80, protocol: tcp, pool: web}\n"
        "  - {name: a, address: 203.0.113.1, port: 80, protocol: tcp, pool: self}\n"
    )
    with pytest.raises(ConfigError) as caught:
        parse(text, "cs.yaml", ControlSegmentConfig)
    assert list(caught.value.problems) == [
        "cs.yaml:10: virtual_servers[1].pool: virtual server a: node one of pool self"
        " (203.0.113.1 port 80) is a virtual address: packets would go round; give the address of"
        " a server"
    ]


def test_a_long_chain_is_looked_at_once() -> None:
    def work(number: int) -> int:
        parts = [
            (server(f"s{n}", f"198.18.{n >> 8}.{n & 255}"),
             pool(f"s{n}", f"198.18.{n + 1 >> 8}.{n + 1 & 255}", 80))
            for n in range(number)
        ]  # fmt: skip
        made = ControlSegmentConfig.model_validate(config(*parts))
        pools = {pool.name: pool for pool in made.pools}
        return lines_run(lambda: find_loop(made.virtual_servers, pools))

    assert work(600) < 2.5 * work(300)


def test_many_virtual_servers_of_one_pool_look_at_its_nodes_once() -> None:
    def work(number: int) -> int:
        nodes = [{"name": f"n{n}", "address": f"10.2.{n >> 8}.{n & 255}"} for n in range(number)]
        said = config(*((server(f"s{n}", A, 1000 + n, pool="web"), {}) for n in range(number)))
        said["pools"] = [{"name": "web", "nodes": nodes}]
        return lines_run(lambda: ControlSegmentConfig.model_validate(said))

    assert work(200) < 2.5 * work(100)
