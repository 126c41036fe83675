# SPDX-License-Identifier: Apache-2.0
"""An API that is killed at any moment of a change: the generation before it, or the one after."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from api.database import Database
from api.desired.store import DesiredState
from support.soak import SOAKING, part

ROOT = Path(__file__).parents[2]


def in_a_process(*arguments: str) -> dict[str, int]:
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    ended = subprocess.run(
        [sys.executable, "-m", "support.api.killed", *arguments],
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    found: dict[str, int] = json.loads(ended.stdout)
    return found


@pytest.mark.soak
def test_a_killed_process_leaves_one_generation_whole(database_url: str) -> None:
    count = part(200)
    found = in_a_process("changes", database_url, "1", str(count))
    assert found["killed"] == count
    database = Database(database_url)
    assert DesiredState(database).generation == found["generations"] > 0
    database.close()


def test_a_process_that_is_killed_while_it_makes_the_tables_leaves_all_or_none(
    database_url: str,
) -> None:
    found = in_a_process("migrations", database_url, "1" if SOAKING else "11")
    assert found["none"] > 1
    assert found["all"] >= 1


def test_processes_that_start_at_once_share_a_database(database_url: str) -> None:
    assert in_a_process("starts", database_url, "6") == {"generations": 6}
