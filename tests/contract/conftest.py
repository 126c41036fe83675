# SPDX-License-Identifier: Apache-2.0
"""One suite, several targets: SPLITPLANE_TARGETS picks ("memory", "p4-model", "bpf-tc", "bpf-xdp",
"p4", or several with commas).  Another target is another `support.targets.rig.Rig`: name it in
TARGETS, open it in `session_rig`, and change no test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import cast

import pytest

from data_flow_segment.targets.contract import Offload
from support.octets.packets import TCP_PROTOCOL, UDP_PROTOCOL
from support.require import require
from support.targets.answering_cs import GROUP, AnsweringCs
from support.targets.bmv2 import missing_for_bmv2
from support.targets.p4_model_rig import P4ModelRig
from support.targets.p4_rig import P4Rig
from support.targets.replies_rig import RepliesMemoryRig, RepliesVethRig
from support.targets.rig import FAMILIES, IPV4, Family, MemoryRig, OffloadRig, Rig
from support.targets.scene import Scene, reset
from support.targets.veth_rig import VethRig, missing_for_bpf, open_bpf

TARGETS = os.environ.get(
    "SPLITPLANE_TARGETS",
    "memory,memory-replies,p4-model,bpf-tc,bpf-tc-replies,bpf-xdp,p4",
).split(",")

_MARKS = {
    "bpf-tc": "dataplane",
    "bpf-tc-replies": "dataplane",
    "bpf-xdp": "dataplane",
    "p4": "network",
}

REPLIES = "-replies"
"""Targets whose flows are entered by REPLYs."""

_ABOUT_ENTRIES = frozenset(
    f"test_{name}.py"
    for name in (
        "asleep",
        "close",
        "flows",
        "half_open",
        "modes",
        "replies_rig",
        "sources",
        "table",
        "translation",
    )
)
"""Where it matters who entered a flow, and how."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = [item for item in items if not _is_needless(item)]


def _is_needless(item: pytest.Item) -> bool:
    chosen = getattr(item, "callspec", None)
    name = "" if chosen is None else str(chosen.params.get("session_rig", ""))
    return name.endswith(REPLIES) and item.path.name not in _ABOUT_ENTRIES


def _target_parameter(name: str) -> object:
    mark = _MARKS.get(name)
    return pytest.param(name, marks=getattr(pytest.mark, mark)) if mark else name


@pytest.fixture(scope="session", params=[_target_parameter(name) for name in TARGETS])
def session_rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    """One rig a target: a kernel's network and program are costly to set up."""
    rig: Rig
    if request.param == "memory":
        rig = MemoryRig()
    elif request.param == "memory-replies":
        rig = RepliesMemoryRig()
    elif request.param == "p4-model":
        rig = P4ModelRig()
    elif request.param == "p4":
        require("p4", missing_for_bmv2())
        rig = P4Rig()
    elif request.param == "bpf-tc-replies":
        require("dataplane", missing_for_bpf())
        rig = RepliesVethRig(request.param, open_bpf("tc"))
    else:
        require("dataplane", missing_for_bpf())
        rig = VethRig(request.param, open_bpf(request.param.removeprefix("bpf-")))
    yield rig
    rig.close()


@pytest.fixture
def rig(session_rig: Rig) -> Iterator[Rig]:
    """The rig with empty tables; the fragments and counters of earlier tests are still there."""
    with session_rig.inside():
        reset(session_rig)
        yield session_rig


@pytest.fixture(params=FAMILIES, ids=lambda family: family.name)
def family(request: pytest.FixtureRequest) -> Family:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(params=[TCP_PROTOCOL, UDP_PROTOCOL], ids=["tcp", "udp"])
def scene(request: pytest.FixtureRequest, rig: Rig, family: Family) -> Scene:
    """Both families, both protocols."""
    return Scene(rig, family, request.param)


@pytest.fixture(scope="session")
def session_offload_rig(session_rig: Rig) -> OffloadRig:
    """The same rig, if its target may do something by itself; the agent's socket is open, and what
    opens REPLYs is where it has to be."""
    if not session_rig.target.offloads:
        pytest.skip("this target leaves all that to the agent")
    able = cast("OffloadRig", session_rig)
    with able.inside():
        able.delivered()
        able.apply(AnsweringCs(IPV4).offload(), Offload(GROUP))
    return able


@pytest.fixture
def offload_rig(session_offload_rig: OffloadRig, rig: Rig) -> Iterator[OffloadRig]:
    """A rig whose target may do something by itself, and does nothing at first."""
    assert rig is session_offload_rig
    yield session_offload_rig
    rig.apply(Offload(GROUP))
    session_offload_rig.delivered()


@pytest.fixture
def asking_rig(offload_rig: OffloadRig) -> OffloadRig:
    """One whose target may ask."""
    return offload_rig


@pytest.fixture
def cs(offload_rig: OffloadRig, family: Family) -> AnsweringCs:
    """A CS that may be asked, of the scene's family; nobody was told of it yet."""
    return AnsweringCs(family)


@pytest.fixture
def tcp_scene(rig: Rig, family: Family) -> Scene:
    return Scene(rig, family, TCP_PROTOCOL)


@pytest.fixture
def udp_scene(rig: Rig, family: Family) -> Scene:
    return Scene(rig, family, UDP_PROTOCOL)
