# SPDX-License-Identifier: Apache-2.0
"""A CS that comes later sends real clients where they were, although no DFS has a flow of theirs
(wire protocol 11.10)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from admin.answers import CS_STATUS, FLOWS
from splitplane.lab import Lab
from splitplane.lab.processes import wait_for

pytestmark = pytest.mark.network

CLIENTS = ("client1", "client2", "client3")


def test_a_cs_that_was_away_knows_the_clients_of_its_absence(
    make_lab: Callable[..., Lab],
) -> None:
    with make_lab(clients=len(CLIENTS), servers=3, cs_count=2, segments=False) as lab:
        for config in lab.cs_configs.values():
            for server in config["virtual_servers"]:
                server["persistence"] = {"kind": "source_address", "timeout_s": 3600}
        lab.write_configs()
        lab.start_dfs()
        lab.start_cs("cs1")
        lab.wait_until_serving()
        homes = {client: server_of(lab, client) for client in CLIENTS}
        assert len(set(homes.values())) == len(CLIENTS)
        wait_for("the flows to be over", lambda: not lab.admin("cs1", FLOWS))
        lab.start_cs("cs2")
        wait_for("the standby to have everything", partial(is_ready, lab, "cs2"))
        lab.cs("cs1").kill9()
        wait_for("the standby to take over", partial(is_active, lab, "cs2"))
        assert {client: server_of(lab, client) for client in CLIENTS} == homes
        lab.start_cs("cs1")
        wait_for("the other one to have everything", partial(is_ready, lab, "cs1"))
        lab.cs("cs2").kill9()
        wait_for("the first one to take over again", partial(is_active, lab, "cs1"))
        assert {client: server_of(lab, client) for client in CLIENTS} == homes


def server_of(lab: Lab, client: str) -> str:
    response = lab.get(client, "/", timeout_s=20)
    assert response.status == 200
    return response.body.decode().split()[0]


def is_ready(lab: Lab, name: str) -> bool:
    status = lab.admin(name, CS_STATUS)
    copies = [dfs.copy for dfs in status.data_flow_segments]
    complete = all(copy is not None and copy.complete for copy in copies)
    return complete and bool(status.control_segments[0].role) and not status.waits_for_records


def is_active(lab: Lab, name: str) -> bool:
    return lab.admin(name, CS_STATUS).group_role == "active"
