# SPDX-License-Identifier: Apache-2.0
"""What virtual servers and pools of a configuration say of each other: the rules across them.

Each rule looks at every pool once, however many virtual servers share it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final

from pydantic_core import PydanticCustomError

from control_segment.loops import Loop, find_loop
from control_segment.parts import NodePart, PersistencePart, PoolPart, ServerPart

_NAMES_SHOWN: Final = 10


def check_references(servers: Sequence[ServerPart], all_pools: Sequence[PoolPart]) -> None:
    """Raise the first rule that is broken, with its place."""
    pools = {pool.name: pool for pool in all_pools}
    families = {pool.name: _families(pool) for pool in all_pools}
    for index, server in enumerate(servers):
        at = ("virtual_servers", index, "pool")
        if server.pool not in pools:
            raise wrong(
                f"virtual server {server.name}: there is no pool {server.pool!r};"
                f" there are: {listed(pools)}",
                *at,
            )
        _check_families(server, families[server.pool], at)
    loop = find_loop(servers, pools)
    if loop is not None:
        first = loop.servers[0]
        index = next(i for i, server in enumerate(servers) if server is first)
        raise wrong(_loop_sentence(loop), "virtual_servers", index, "pool")


def family(address: str) -> int:
    """4 or 6."""
    return ipaddress.ip_address(address).version


def listed(names: Iterable[str]) -> str:
    """Some of the names that there are, for a message."""
    names = list(names)
    shown = ", ".join(islice(names, _NAMES_SHOWN)) or "none"
    return shown if len(names) <= _NAMES_SHOWN else f"{shown} and {len(names) - _NAMES_SHOWN} more"


def wrong(sentence: str, *at: str | int) -> PydanticCustomError:
    """A rule across fields that is broken; *at*: the place, from the model that has the rule."""
    return PydanticCustomError("rule", "{sentence}", {"sentence": sentence, "at": at})


def _families(pool: PoolPart) -> dict[int, NodePart]:
    """The families that a pool's nodes have, each with its first node."""
    found: dict[int, NodePart] = {}
    for node in pool.nodes:
        found.setdefault(family(node.address), node)
    return found


def _check_families(
    server: ServerPart, families: dict[int, NodePart], at: tuple[str | int, ...]
) -> None:
    where, pool = f"virtual server {server.name}", server.pool
    if server.address == "*":
        if server.translates_address and len(families) > 1:
            raise wrong(
                f"{where}: address * cannot have nodes of both families, as in pool {pool}; "
                "make a pool for each family",
                *at,
            )
        return
    own = family(server.address)
    for number, node in families.items():
        if number != own:
            raise wrong(
                f"{where}: node {node.name} of pool {pool} is IPv{number} "
                f"({node.address}) behind an IPv{own} address "
                f"({server.address}); IPv4 and IPv6 are not translated into each other",
                *at,
            )


def _loop_sentence(loop: Loop) -> str:
    first, node = loop.servers[0], loop.node
    port = "" if node.port is None else f" port {node.port}"
    others = " and ".join(server.name for server in loop.servers[1:])
    back = f"virtual server {others}, whose node leads back here" if others else "a virtual address"
    return (
        f"virtual server {first.name}: node {node.name} of pool {first.pool} ({node.address}{port})"
        f" is {back}: packets would go round; give the address of a server"
    )


def check_persistence_groups(servers: Sequence[ServerPart]) -> None:
    """Virtual servers of a persistence group remember for the same time."""
    firsts: dict[str, tuple[ServerPart, PersistencePart]] = {}
    for index, server in enumerate(servers):
        persistence = server.persistence
        if persistence is None or persistence.group is None:
            continue
        first, known = firsts.setdefault(persistence.group, (server, persistence))
        if persistence.timeout_s != known.timeout_s:
            raise wrong(
                f"virtual server {server.name}: timeout_s {persistence.timeout_s} of persistence"
                f" group {persistence.group!r} is {known.timeout_s} at virtual server"
                f" {first.name}; give all of a group the same",
                "virtual_servers", index, "persistence", "timeout_s",
            )  # fmt: skip
