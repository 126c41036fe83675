# SPDX-License-Identifier: Apache-2.0
"""What virtual servers and pools of a configuration say of each other: the rules across them.

Each rule looks at every pool once, however many virtual servers share it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Final

from pydantic_core import PydanticCustomError

from control_segment.loops import Loop, find_loop
from control_segment.parts import MonitorPart, NodePart, PersistencePart, PoolPart, ServerPart

_NAMES_SHOWN: Final = 10


def check_group(
    servers: Sequence[ServerPart],
    all_pools: Sequence[PoolPart],
    all_monitors: Sequence[MonitorPart],
    *,
    pool_names: Iterable[str] | None = None,
    monitor_names: Iterable[str] | None = None,
) -> None:
    """Raise the first rule that is broken, with its place in the document.

    *pool_names*, *monitor_names*: of all that there are, for messages, if *all_pools* and
    *all_monitors* are only those that the others refer to.
    """
    unique("monitor", [monitor.name for monitor in all_monitors], "monitors", "name")
    unique("pool", [pool.name for pool in all_pools], "pools", "name")
    unique("virtual server", [server.name for server in servers], "virtual_servers", "name")
    keys = [" ".join(map(str, server.key)) for server in servers]
    what = "virtual server address, port and protocol"
    unique(what, keys, "virtual_servers", "address")
    _check_references(servers, all_pools, pool_names)
    _check_monitors(all_monitors, all_pools, monitor_names)
    _check_persistence_groups(servers)


def unique(what: str, names: Iterable[str], *at: str) -> None:
    """*at*: the list that the names are of, and the field of its items to point at."""
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name in seen:
            raise wrong(f"{what} {name!r} is given twice", at[0], index, *at[1:])
        seen.add(name)


def _check_references(
    servers: Sequence[ServerPart],
    all_pools: Sequence[PoolPart],
    pool_names: Iterable[str] | None,
) -> None:
    pools = {pool.name: pool for pool in all_pools}
    families = {pool.name: _families(pool) for pool in all_pools}
    for index, server in enumerate(servers):
        for name, place in server.pool_places:
            at = "virtual_servers", index, *place
            if name not in pools:
                raise wrong(
                    f"virtual server {server.name}: there is no pool {name!r};"
                    f" there are: {listed(pools if pool_names is None else pool_names)}",
                    *at,
                )
            _check_families(server, name, families[name], at)
        _check_fallback_family(server, families, index)
    loop = find_loop(servers, pools)
    if loop is not None:
        first = loop.servers[0]
        index = next(i for i, server in enumerate(servers) if server is first)
        pool, place = next(
            (name, place)
            for name, place in first.pool_places
            if any(node is loop.node for node in pools[name].nodes)
        )
        raise wrong(_loop_sentence(loop, pool), "virtual_servers", index, *place)


def check_folders(
    monitors: Sequence[MonitorPart], *, scripts: str | None, secrets: str | None
) -> None:
    """Raise if a monitor needs a folder that the CS's own file does not give."""
    for index, each in enumerate(monitors):
        if each.needs_secrets and secrets is None:
            raise wrong(
                f"monitor {each.name}: this CS has no secrets; give the folder that they are"
                " in as monitor_secrets, in the CS's own file",
                "monitors", index,
            )  # fmt: skip
        if each.kind == "script" and scripts is None:
            raise wrong(
                f"monitor {each.name}: this CS runs no scripts; give the folder that they are"
                " in as monitor_scripts, in the CS's own file",
                "monitors", index, "kind",
            )  # fmt: skip


def _check_monitors(
    all_monitors: Sequence[MonitorPart],
    pools: Sequence[PoolPart],
    monitor_names: Iterable[str] | None,
) -> None:
    """Pools name monitors that there are, and whose port is known for each node."""
    monitors = {each.name: each for each in all_monitors}
    for index, pool in enumerate(pools):
        for place, name in enumerate(pool.monitors):
            at = ("pools", index, "monitors", place)
            monitor = monitors.get(name)
            if monitor is None:
                raise wrong(
                    f"pool {pool.name}: there is no monitor {name!r};"
                    f" there are: {listed(monitors if monitor_names is None else monitor_names)}",
                    *at,
                )
            without = [node for node in pool.nodes if node.port is None]
            if monitor.needs_port and without:
                raise wrong(
                    f"pool {pool.name}: node {without[0].name} has no port, and monitor {name} has"
                    " none either; give the monitor the port to ask",
                    *at,
                )


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


def _check_fallback_family(
    server: ServerPart, families: Mapping[str, dict[int, NodePart]], index: int
) -> None:
    """Of address *: clients that the pool serves are of the family of its nodes."""
    if server.address != "*" or not server.translates_address:
        return
    own, name = server.pool, server.fallback_pool
    if name is None:
        return
    if families[own] and families[name] and families[own].keys() != families[name].keys():
        raise wrong(
            f"virtual server {server.name}: the nodes of fallback_pool {name} are not of the"
            f" address family of those of pool {own}; name a pool of the same family",
            "virtual_servers", index, "fallback_pool",
        )  # fmt: skip


def _check_families(
    server: ServerPart, pool: str, families: dict[int, NodePart], at: tuple[str | int, ...]
) -> None:
    where = f"virtual server {server.name}"
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


def _loop_sentence(loop: Loop, pool: str) -> str:
    first, node = loop.servers[0], loop.node
    port = "" if node.port is None else f" port {node.port}"
    others = " and ".join(server.name for server in loop.servers[1:])
    back = f"virtual server {others}, whose node leads back here" if others else "a virtual address"
    return (
        f"virtual server {first.name}: node {node.name} of pool {pool} ({node.address}{port})"
        f" is {back}: packets would go round; give the address of a server"
    )


def _check_persistence_groups(servers: Sequence[ServerPart]) -> None:
    """Virtual servers of a persistence group remember for the same time."""
    firsts: dict[str, tuple[ServerPart, PersistencePart]] = {}
    for index, server in enumerate(servers):
        persistence = server.persistence
        if persistence is None or persistence.group is None:
            continue
        first, known = firsts.setdefault(persistence.group, (server, persistence))
        if persistence.kind != known.kind:
            raise wrong(
                f"virtual server {server.name}: persistence group {persistence.group!r} goes by"
                f" {known.kind} at virtual server {first.name}, not by {persistence.kind}; give all"
                " of a group the same kind",
                "virtual_servers", index, "persistence", "kind",
            )  # fmt: skip
        if persistence.timeout_s != known.timeout_s:
            raise wrong(
                f"virtual server {server.name}: timeout_s {persistence.timeout_s} of persistence"
                f" group {persistence.group!r} is {known.timeout_s} at virtual server"
                f" {first.name}; give all of a group the same",
                "virtual_servers", index, "persistence", "timeout_s",
            )  # fmt: skip
