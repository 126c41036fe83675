# SPDX-License-Identifier: Apache-2.0
"""A fallback pool is one that its virtual server refers to, as its pool is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api.database import Database
from api.desired.resources import Edit, Kind
from api.desired.service import Desired
from api.desired.store import DesiredState
from api.errors import Problem

SERVER = (Kind.VIRTUAL_SERVER, "www")


def body(**fields: Any) -> dict[str, Any]:
    return {"address": "203.0.113.1", "port": 80, "protocol": "tcp", "pool": "web", **fields}


def pool(name: str, address: str) -> Edit:
    return Edit((Kind.POOL, name), 1, {"nodes": [{"name": "n1", "address": address, "port": 80}]})


@pytest.fixture
def desired(tmp_path: Path) -> Iterator[Desired]:
    database = Database(f"sqlite:///{tmp_path}/api.db")
    database.migrate()
    store = DesiredState(database)
    store.change([pool("web", "10.0.0.1"), pool("sorry", "10.0.0.2")], who="ann", how="PUT")
    yield store
    database.close()


def change(desired: Desired, *edits: Edit) -> None:
    desired.change(edits, who="ann", how="PUT")


def test_one_that_is_not_there_is_refused(desired: Desired) -> None:
    with pytest.raises(Problem, match="there is no pool 'wbe'"):
        change(desired, Edit(SERVER, 1, body(fallback_pool="wbe")))


def test_one_that_is_in_use_is_not_deleted(desired: Desired) -> None:
    change(desired, Edit(SERVER, 1, body(fallback_pool="sorry")))
    with pytest.raises(Problem, match="pool sorry is in use by virtual server www"):
        change(desired, Edit((Kind.POOL, "sorry"), 1, None))
    change(desired, Edit(SERVER, 1, body()))
    change(desired, Edit((Kind.POOL, "sorry"), 1, None))


def test_its_nodes_keep_the_rules_when_they_change(desired: Desired) -> None:
    change(desired, Edit(SERVER, 1, body(fallback_pool="sorry")))
    with pytest.raises(Problem, match="IPv6"):
        change(desired, pool("sorry", "fd00::1"))
    with pytest.raises(Problem, match="packets would go round"):
        change(desired, pool("sorry", "203.0.113.1"))
