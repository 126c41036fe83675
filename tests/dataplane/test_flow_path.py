# SPDX-License-Identifier: Apache-2.0
"""How many files a reader passes who follows a SYN from the BPF program to the installed flow.

Counted is every file of which a function runs for this SYN at the DFS: in the program from the
table miss to the up-call, then in the agent and the target until both entries are in the table.
What an event loop does in each wake-up whatever came (timers, the CSMB streams) is not counted,
nor the CS, nor what re-injects the SYN afterwards.
"""

from __future__ import annotations

import select
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from csmb.settings import ConnectionSettings
from data_flow_segment.agent import Agent
from data_flow_segment.targets.bpf import BpfTarget
from data_flow_segment.targets.contract import Command, InstallFlow
from ssmb.addresses import from_text, to_text
from support.octets.packets import TCP_PROTOCOL
from support.require import require
from support.segments.agent_rig import DFS_ENDPOINT, DFS_ID, KEY, VIP
from support.segments.planes import Planes
from support.targets.rig import IPV4, Side
from support.targets.scene import Scene
from support.targets.veth_rig import VethRig, missing_for_bpf, open_bpf

pytestmark = pytest.mark.dataplane

ROOT = Path(__file__).parents[2]
FILES_MAX = 25

# the functions of the program that a SYN without a flow runs through, and where each is
PROGRAM = {
    "process": "bpf/dfs.bpf.c",
    "transport": "bpf/dfs.bpf.c",
    "unmatched": "bpf/dfs.bpf.c",
    "parse": "bpf/parse.h",
    "interface_at": "bpf/maps.h",
    "up_call": "bpf/upcall.h",
    "context_drop": "bpf/context.h",
}
RUNTIME = "data_flow_segment/runtime/segment.py"  # whose event loop is the test's own here
EVERY_WAKE_UP = (
    ".get_timer", ".handle_timer", ".due", ".octets_to_send", "Cookies.follow", "Offloads.follow",
    "Reports.read", "Grants.flush",
)  # fmt: skip


class Stop(Exception):
    """The flow is installed."""


class BpfPlanes(Planes):
    """Both planes, with the kernel's target in place of the memory target."""

    def __init__(self, target: BpfTarget) -> None:
        self.bpf = target
        super().__init__(1)

    def start_agent(self, *, fresh: bool = False) -> None:
        super().start_agent(fresh=fresh)
        settings = ConnectionSettings(
            segment_id=DFS_ID,
            key=KEY,
            ssmb_ipaddr=from_text(DFS_ENDPOINT[0]),
            ssmb_port=DFS_ENDPOINT[1],
        )
        self.target = self.bpf  # type: ignore[assignment]
        self.agent = Agent(settings, self.bpf, random_octets=self.dice.randbytes, now=self.now)

    def follow(self) -> None:
        """Take up what the target has, and go on until it is decided."""
        self.run(1.0)


@pytest.fixture
def rig() -> Iterator[VethRig]:
    require("dataplane", missing_for_bpf())
    made = VethRig("bpf-tc", open_bpf("tc"))
    try:
        with made.inside():
            yield made
    finally:
        made.close()


def test_a_syn_passes_few_files_on_its_way_to_the_installed_flow(
    rig: VethRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = rig.target
    assert isinstance(target, BpfTarget)
    monkeypatch.setattr(target, "transmitted", list, raising=False)  # the planes' own network
    planes = BpfPlanes(target)
    planes.run(1.0)
    scene = Scene(rig, IPV4, TCP_PROTOCOL)
    vip = (to_text(VIP[0]), VIP[1])
    _, frame = scene.inbound(scene.segment((IPV4.client, 40000), vip, flags="S"))
    rig._wires[Side.EXTERNAL].send(frame)
    assert select.select([target], [], [], 5.0)[0], "the SYN came up"

    passed: set[str] = set()
    apply = target.apply

    def apply_and_stop(commands: Iterable[Command]) -> None:
        listed = list(commands)
        apply([command for command in listed if isinstance(command, InstallFlow)])
        if any(isinstance(command, InstallFlow) for command in listed):
            raise Stop

    regular: list[FrameType] = []  # within one of these, everything is

    def note(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "return" and regular[-1:] == [frame]:
            regular.pop()
        elif event == "call" and any(name in code.co_qualname for name in EVERY_WAKE_UP):
            regular.append(frame)
        elif event == "call" and not regular:
            passed.add(code.co_filename)

    monkeypatch.setattr(target, "apply", apply_and_stop)
    sys.setprofile(note)
    try:
        with pytest.raises(Stop):
            planes.follow()
    finally:
        sys.setprofile(None)
    ours = {str(Path(name).relative_to(ROOT)) for name in passed if name.startswith(str(ROOT))}
    agent = {
        name for name in ours
        if name.startswith(("data_flow_segment/", "packets/", "ssmb/"))
    }  # fmt: skip
    assert {"data_flow_segment/agent.py", "data_flow_segment/targets/bpf/flows.py"} <= agent
    files = {*agent, RUNTIME, *PROGRAM.values()}
    assert len(files) <= FILES_MAX, sorted(files)


@pytest.mark.parametrize(("function", "file"), PROGRAM.items())
def test_the_program_has_its_functions_where_they_are_counted(function: str, file: str) -> None:
    source = (ROOT / file).read_text()
    assert any(
        line.startswith("static ") and f" {function}(" in line.replace("*", "")
        for line in source.splitlines()
    )
