# SPDX-License-Identifier: Apache-2.0
"""Two DFSs that hold each other's flows, with keepalived between them, and two CSs.

In the network of pairs.py the DFSs take the places of the proxies: the virtual address of the clients and
the servers' default router are on one of them.  DFSs of a pair do not take addresses from each
other yet, so keepalived moves both (docs/operations.md, Several DFSs for one address).
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import yaml
from pair_configs import PORTS, ROUTED_ADDRESSES, VIRTUAL_ADDRESS, Vrrp
from pairs import BACK, CONTROL_SEGMENTS, MACHINES, SERVERS, Machine, starter, with_keepalived

from admin.answers import CS_STATUS, DFS_STATUS, VIRTUAL_SERVERS, AnswerT, Command
from admin.client import ask
from admin.errors import CommandError
from splitplane.lab.namespaces import Namespace
from splitplane.lab.processes import wait_for
from splitplane.lab.state import PIN_FOLDER, remove_pins

TEAM = "edge"


def dfs_config(machine: str, folder: Path) -> dict[str, Any]:
    """dfs.yaml of a machine."""
    here = {"address": BACK[machine]}
    return {
        "segment_id": 256 + MACHINES.index(machine),
        "target": "bpf",
        "external": ["eth0"],
        "internal": ["eth1"],
        "csmb": here,
        "ssmb": here,
        "key_file": str(folder / "cluster.key"),
        "admin_socket": str(folder / f"{machine}.sock"),
        "pin_path": str(pins(machine)),
    }


def cs_config(name: str, folder: Path) -> dict[str, Any]:
    """cs.yaml of a CS."""
    number = {each: place for place, each in enumerate(CONTROL_SEGMENTS, 1)}
    pools, virtual_servers = [], []
    for port, to in PORTS.items():
        nodes = [{"name": n, "address": at, "port": to} for n, at in SERVERS.items()]
        pools.append({"name": f"pool-{port}", "method": "round_robin", "nodes": nodes})
        virtual_servers.append(
            {"name": f"web-{port}", "address": VIRTUAL_ADDRESS, "port": port, "protocol": "tcp",
             "pool": f"pool-{port}", "answer_arp": False}
        )  # fmt: skip
    return {
        "segment_id": number[name],
        "group_id": 1,
        "active": number[name] == 1,
        "ssmb": {"address": CONTROL_SEGMENTS[name]},
        "key_file": str(folder / "cluster.key"),
        "admin_socket": str(folder / f"{name}.sock"),
        "control_segments": [
            {"segment_id": number[other], "address": address}
            for other, address in CONTROL_SEGMENTS.items()
            if other != name
        ],
        "data_flow_segments": [{"address": BACK[each], "pair": TEAM} for each in MACHINES],
        "pools": pools,
        "virtual_servers": virtual_servers,
    }


def pins(machine: str) -> Path:
    """Where its DFS pins."""
    return PIN_FOLDER / f"bench-{machine}"


@contextmanager
def team(
    vrrp: Vrrp, spaces: dict[str, Namespace], scratch: Path
) -> Iterator[tuple[Machine, Machine]]:
    """Both machines with a DFS, each of which has every flow; the first one is active."""
    with tempfile.TemporaryDirectory(dir=scratch) as name, ExitStack() as stack:
        folder = Path(name)
        (folder / "cluster.key").touch(0o600)
        (folder / "cluster.key").write_text(os.urandom(32).hex())
        _route(spaces)
        machines = []
        for host in MACHINES:
            stack.callback(remove_pins, pins(host))
            home = folder / host
            home.mkdir()
            command = _command("dfs", home / "dfs.yaml", dfs_config(host, folder))
            service = starter(stack, spaces[host], home / "dfs.log", *command)
            serves = partial(_said, folder / f"{host}.sock", DFS_STATUS)
            machines.append(Machine(host, spaces[host], service, serves, home / "keepalived.log"))
        for each in CONTROL_SEGMENTS:
            command = _command("cs", folder / f"{each}.yaml", cs_config(each, folder))
            starter(stack, spaces[each], folder / f"{each}.log", *command)()
        wait_for("both CSs and both DFSs to have everything", lambda: _is_whole(folder), 60)
        yield with_keepalived(machines, vrrp, spaces, stack, ROUTED_ADDRESSES, check=None)


def _command(kind: str, path: Path, config: dict[str, Any]) -> list[str]:
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return [sys.executable, "-m", "splitplane", kind, str(path)]


def _route(spaces: dict[str, Namespace]) -> None:
    for host in MACHINES:
        spaces[host].sysctl(net__ipv4__ip_forward=1)
    for host in SERVERS:
        spaces[host].ip(f"route add default via {ROUTED_ADDRESSES['eth1']}")


def _said(socket: Path, command: Command[AnswerT]) -> AnswerT | None:
    with suppress(CommandError):
        return ask(socket, command)
    return None


def _is_whole(folder: Path) -> bool:
    for each in CONTROL_SEGMENTS:
        status = _said(folder / f"{each}.sock", CS_STATUS)
        if status is None or len(status.data_flow_segments) < len(MACHINES):
            return False
        for dfs in status.data_flow_segments:
            if not dfs.ready or (dfs.active and dfs.team_state != "complete"):
                return False
            if dfs.copy is not None and not dfs.copy.complete:
                return False
    served = [_said(folder / f"{host}.sock", VIRTUAL_SERVERS) for host in MACHINES]
    return all(known is not None and len(known) == len(PORTS) for known in served)
