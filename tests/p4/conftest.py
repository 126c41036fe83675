# SPDX-License-Identifier: Apache-2.0
"""Switches for tests of sessions with them.

gRPC has threads and descriptors per process, which end when the last object that uses them has
been collected.  Some that nothing else uses keep them: they would be taken for a test's leak."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import grpc
import grpc.aio
import pytest

from support.require import require
from support.targets.bmv2 import Cables, missing_for_bmv2
from support.targets.switch_sessions import Bmv2, Fake, Switch

grpc.aio.init_grpc_aio()
UNUSED: Final = grpc.server(ThreadPoolExecutor(1))


@pytest.fixture
def folder() -> Iterator[str]:
    """A short name: a Unix socket's has a limit."""
    with tempfile.TemporaryDirectory(prefix="p4-") as name:
        yield name


@pytest.fixture
def fake(folder: str) -> Iterator[Fake]:
    switch = Fake(folder)
    switch.start()
    yield switch
    switch.stop()


@pytest.fixture(scope="module")
def cables() -> Iterator[Cables]:
    made = Cables()
    yield made
    made.close()


@pytest.fixture(params=["fake", pytest.param("bmv2", marks=pytest.mark.network)])
def switch(request: pytest.FixtureRequest, folder: str) -> Iterator[Switch]:
    """Without a program."""
    found: Switch = Fake(folder)
    if request.param == "bmv2":
        require("p4", missing_for_bmv2())
        found = Bmv2(folder, request.getfixturevalue("cables"))
    found.start()
    yield found
    found.stop()


@pytest.fixture
def drivers() -> Iterator[contextlib.ExitStack]:
    """Closes what a test opened."""
    with contextlib.ExitStack() as stack:
        yield stack
