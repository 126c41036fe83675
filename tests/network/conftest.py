# SPDX-License-Identifier: Apache-2.0
"""A laboratory for the tests of a module: bringing one up takes seconds."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, Literal, TypeAlias

import pytest

from splitplane.lab import Lab, state
from support.cluster.laboratory import require_laboratory

MakeLab: TypeAlias = Callable[..., Lab]


@pytest.fixture(scope="module")
def make_lab(request: pytest.FixtureRequest) -> Iterator[MakeLab]:
    """Makes laboratories, not yet entered; they are left behind by nobody."""
    topic = "".join(filter(str.isalpha, request.node.path.stem.removeprefix("test_")))
    name = f"{topic[:8]}{os.getpid() % 100_000}"  # runs beside the laboratories of others

    def make(target: Literal["bpf", "p4runtime"] = "bpf", **choices: Any) -> Lab:
        require_laboratory(target)
        return Lab(name, target=target, **choices)

    with ExitStack() as stack:
        stack.callback(state.clean, name)
        yield make
