# SPDX-License-Identifier: Apache-2.0
"""A network namespace with two cables, and targets opened in it with whatever options."""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from data_flow_segment.targets.bpf import BpfOptions, BpfTarget
from data_flow_segment.targets.bpf.libbpf import library
from support.octets.packets import TCP_PROTOCOL
from support.require import require
from support.targets.rig import FAMILIES
from support.targets.scene import Scene, reset
from support.targets.veth_rig import BPF_FILESYSTEM, VethRig, clear_dead, missing_for_bpf
from support.targets.wire import inside

_serials = itertools.count(1)


class Ground:
    """ext0 and int0, their other ends in another namespace."""

    def __init__(self) -> None:
        number = next(_serials)
        self.name = f"rv-{os.getpid()}-{number}"
        self.far = f"{self.name}-far"
        self.pin_path = BPF_FILESYSTEM / f"dataplane-{os.getpid()}-{number}"
        self.opened: list[BpfTarget] = []
        for name in (self.name, self.far):
            self.run("ip", "netns", "add", name)
        for name, address in (("ext0", "192.0.2.1/24"), ("int0", "10.1.0.1/24")):
            self.cable(name, address)

    def run(self, *command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout

    def ip(self, *command: str) -> str:
        return self.run("ip", "-n", self.name, *command)

    def cable(self, name: str, address: str) -> None:
        self.ip("link", "add", name, "type", "veth", "peer", "name", name, "netns", self.far)
        # no link-local address of a random MAC address, whose group might be one that a test joins
        self.ip("link", "set", name, "addrgenmode", "none")
        self.ip("link", "set", name, "up")
        self.run("ip", "-n", self.far, "link", "set", name, "up")
        self.ip("address", "add", address, "dev", name)

    def inside(self) -> AbstractContextManager[None]:
        return inside(self.name)

    def open(self, **options: Any) -> BpfTarget:
        chosen: dict[str, Any] = {"external": ("ext0",), "internal": ("int0",), "attach": "tc"}
        chosen |= {"pin_path": self.pin_path, "flow_capacity": 64} | options
        target = BpfTarget.open(BpfOptions(**chosen))
        self.opened.append(target)
        return target

    def close(self, target: BpfTarget, *, detach: bool = True) -> None:
        self.opened.remove(target)
        target.close(detach=detach)

    def programs_on(self, interface: str) -> list[str]:
        """What runs on an interface, and how it got there; "tcx" once for each program."""
        found = ["tcx"] * self._count_tcx(socket.if_nametoindex(interface))
        (link,) = json.loads(self.ip("-json", "link", "show", "dev", interface))
        if "xdp" in link:
            found.append(f"xdp {link['xdp']['prog']['name']}")
        said = self.run("tc", "-n", self.name, "filter", "show", "dev", interface, "ingress")
        return found + ["clsact"] * said.count("handle 0x5350")

    @staticmethod
    def _count_tcx(ifindex: int) -> int:
        query = library().bpf_prog_query
        query.restype = ctypes.c_int
        query.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_uint32, *[ctypes.c_void_p] * 3]
        programs, count = (ctypes.c_uint32 * 16)(), ctypes.c_uint32(16)
        failed = query(ifindex, 46, 0, None, ctypes.addressof(programs), ctypes.addressof(count))
        return 0 if failed else count.value

    def leave(self) -> None:
        for target in list(self.opened):
            self.close(target)
        for name in (self.name, self.far):
            subprocess.run(["ip", "netns", "delete", name], check=False)
        subprocess.run(["rm", "-rf", str(self.pin_path)], check=False)


@pytest.fixture
def rig(running: VethRig) -> Iterator[VethRig]:
    """A module's data path, in its namespace, without what the test before left."""
    with running.inside():
        reset(running)
        yield running


@pytest.fixture(params=FAMILIES, ids=lambda family: family.name)
def scene(request: pytest.FixtureRequest, rig: VethRig) -> Scene:
    return Scene(rig, request.param, TCP_PROTOCOL)


@pytest.fixture
def ground() -> Iterator[Ground]:
    require("dataplane", missing_for_bpf())
    clear_dead()
    made = Ground()
    try:
        with made.inside():
            yield made
    finally:
        with made.inside():
            made.leave()
