# SPDX-License-Identifier: Apache-2.0
"""Two machines share the load of one DFS: on each runs a CS that is active in its group, and one
that is the standby of the other machine's group (docs/operations.md, Sharing the load)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from admin.answers import CS_STATUS, DFS_STATUS
from splitplane.lab import Lab
from splitplane.lab.processes import wait_for
from support.cluster.downloads import SERVERS, SIZES, Arrivals, Downloads, new_connections
from support.cluster.laboratory import cs_knows

pytestmark = [pytest.mark.network, pytest.mark.dataplane, pytest.mark.soak]

MACHINES: Final = ("cs1", "cs2")
SUFFIX: Final = {1: "", 2: "6"}
"""By group: what its pools and virtual servers are called, of IPv4 or of IPv6."""
PREFERRED: Final = {1: "cs1", 2: "cs2"}
PORT: Final = {1: 61019, 2: 61020}


def name_of(machine: str, group_id: int) -> str:
    """Of the segment: the host's, if it is the only one there when the laboratory begins."""
    return machine if PREFERRED[group_id] == machine else f"{machine}b"


def id_of(machine: str, group_id: int) -> int:
    return 1 + MACHINES.index(machine) + 2 * (group_id - 1)


def other_than(machine: str) -> str:
    return next(each for each in MACHINES if each != machine)


def config_of(lab: Lab, machine: str, group_id: int) -> dict[str, Any]:
    """One group's part of what a laboratory's CS serves."""
    whole, other = lab.cs_configs["cs1"], other_than(machine)
    own = SUFFIX[group_id]

    def of_group(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [part for part in parts if part["name"].endswith("6") == bool(own)]

    return {
        **whole,
        "segment_id": id_of(machine, group_id),
        "group_id": group_id,
        "active": PREFERRED[group_id] == machine,
        "ssmb": {"address": lab.host(machine).address, "port": PORT[group_id]},
        "admin_socket": str(lab.folder / f"{name_of(machine, group_id)}.sock"),
        "control_segments": [
            {
                "segment_id": id_of(other, group_id),
                "address": lab.host(other).address,
                "port": PORT[group_id],
            }
        ],
        "pools": of_group(whole["pools"]),
        "virtual_servers": of_group(whole["virtual_servers"]),
    }


@pytest.fixture
def lab(make_lab: Callable[..., Lab]) -> Iterator[Lab]:
    lab = make_lab(clients=2, servers=3, cs_count=2)
    lab.cs_configs = {
        name_of(machine, group_id): config_of(lab, machine, group_id)
        for group_id in PREFERRED
        for machine in MACHINES
    }
    with lab:
        for name, host in (("cs1b", "cs1"), ("cs2b", "cs2")):
            lab.start_cs(name, host)
        wait_for("both to serve their group", lambda: serving(lab) == PREFERRED)
        wait_for("copies of both", lambda: all(is_complete(lab, each) for each in lab.cs_configs))
        yield lab


def serving(lab: Lab) -> dict[int, str]:
    """By group: the machine whose CS the DFS asks."""
    machines = {id_of(machine, group): machine for machine in MACHINES for group in PREFERRED}
    groups = lab.admin("dfs", DFS_STATUS).groups
    return {
        each.group_id: machines[each.active.segment_id]
        for each in groups
        if each.active and each.active.segment_id
    }


def is_complete(lab: Lab, name: str) -> bool:
    """Whether it knows every flow of its group."""
    (dfs,) = lab.admin(name, CS_STATUS).data_flow_segments
    return dfs.copy is not None and dfs.copy.complete


def lose(lab: Lab, machine: str) -> None:
    for group_id in PREFERRED:
        lab.cs(name_of(machine, group_id)).kill9()


def assert_serves_both(
    lab: Lab, machine: str, established: dict[int, dict[tuple[str, int], str]]
) -> None:
    """New connections, and what was there before: by group, client and server."""
    both = dict.fromkeys(PREFERRED, machine)
    wait_for(f"{machine} to serve both groups", lambda: serving(lab) == both)
    assert new_connections(lab) == SERVERS
    for group_id, servers in established.items():
        assert len(servers) == SIZES["bpf"].downloads // 2
        assert cs_knows(lab, servers, name_of(machine, group_id))


def come_back(lab: Lab, machine: str) -> None:
    """As a standby of both groups."""
    names = [name_of(machine, group_id) for group_id in PREFERRED]
    for name in names:
        lab.start_cs(name, machine)
    wait_for("copies", lambda: all(is_complete(lab, name) for name in names))


def test_either_machine_serves_both_groups_while_the_other_one_is_away(lab: Lab) -> None:
    downloads = Downloads(lab)
    downloads.wait_until_under_way()
    arrivals = Arrivals(lab, 8)
    by_family = {
        group_id: {
            end: server
            for end, server in downloads.servers.items()
            if (":" in end[0]) == bool(suffix)
        }
        for group_id, suffix in SUFFIX.items()
    }
    for machine in MACHINES:
        lose(lab, machine)
        assert_serves_both(lab, other_than(machine), by_family)
        downloads.wait_for_signs_of_life()
        come_back(lab, machine)
        assert set(serving(lab).values()) == {other_than(machine)}
        downloads.wait_for_signs_of_life()
    arrivals.stop()
    assert arrivals.count > 100
    downloads.finish()
