# SPDX-License-Identifier: Apache-2.0
"""The kernel's target between two cables: real packets, real interfaces, a namespace each.

      clients' end  far ==== ext0  [target]  int0 ==== far  nodes' end

The far ends have no addresses and no stack of their own worth the name: a test plays every
neighbour through a raw socket.  The target's kernel knows all of them (permanent neighbours).
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import os
import re
import select
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from data_flow_segment.targets.contract import AskingPath, Command, Event, Target
from ssmb.addresses import from_text
from support.require import require
from support.targets.rig import FAMILIES, IPV4, OWN_PORT, TARGET_MAC, Frame, Rig, Side, neighbours
from support.targets.wire import Wire, first_readable, inside
from support.targets.xdp_pass import attach_pass

INTERFACE: Final = {Side.EXTERNAL: "ext0", Side.INTERNAL: "int0"}
FAR: Final = "far"
IP: Final = ("ipv4", "ipv6")  # as sysctl calls them
BPF_MODULE: Final = "data_flow_segment.targets.bpf"
BPF_FILESYSTEM: Final = Path("/sys/fs/bpf")
NAMESPACES: Final = Path("/run/netns")

_FENCE_WAIT_S: Final = 60.0
_ASK_AGAIN_S: Final = 2.0
_ASKERS: Final = bytes.fromhex("025bff")  # the first octets of their addresses
_QUIET_S: Final = 0.003
"""How long nothing more may come after the fences: what a redirect hands to another queue."""

_SETTINGS: Final = (
    "net.ipv4.ip_forward=1",
    "net.ipv6.conf.all.forwarding=1",
    "net.ipv6.conf.all.accept_dad=0",
    "net.ipv6.conf.default.accept_dad=0",
    "net.ipv6.conf.default.router_solicitations=0",
    "net.ipv6.conf.default.addr_gen_mode=1",  # no link-local addresses, no talk about them
    "net.ipv4.conf.all.rp_filter=0",
    "net.ipv4.conf.default.rp_filter=0",
    "net.ipv4.conf.all.send_redirects=0",
    "net.ipv4.conf.default.send_redirects=0",
    "net.ipv4.icmp_ratelimit=0",
    "net.ipv6.icmp.ratelimit=0",
)

_serials = itertools.count(1)

OpenTarget = Callable[[Path, int], Target]
"""Attach to INTERFACE in the namespace that the caller is in: (pin path, flow capacity)."""


def missing_for_veth() -> str | None:
    """Why this machine cannot run it, None if it can."""
    if os.geteuid() != 0:
        return "root is needed for network namespaces"
    if shutil.which("ip") is None or shutil.which("ethtool") is None:
        return "the commands `ip` (iproute2) and `ethtool` are needed"
    return None


def missing_for_bpf() -> str | None:
    """Why the kernel's target cannot be run here, None if it can."""
    try:
        importlib.import_module(BPF_MODULE)
    except ImportError as error:
        return f"the bpf target cannot be imported: {error}"
    if not os.access(BPF_FILESYSTEM, os.W_OK):
        return f"{BPF_FILESYSTEM} is not a file system that maps can be pinned to"
    return missing_for_veth()


def open_bpf(attach: str) -> OpenTarget:
    """How the bpf target is opened; attach: "tc" or "xdp"."""

    def open_target(pin_path: Path, flow_capacity: int) -> Target:
        bpf = importlib.import_module(BPF_MODULE)
        options = bpf.BpfOptions(
            external=(INTERFACE[Side.EXTERNAL],),
            internal=(INTERFACE[Side.INTERNAL],),
            attach=attach,
            pin_path=pin_path,
            flow_capacity=flow_capacity,
            half_open_timeout_s=1,
        )
        target: Target = bpf.BpfTarget.open(options)
        return target

    return open_target


def run(*command: str) -> None:
    """A command that must succeed; what it said is in the exception if it does not."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


class Network:
    """Three namespaces, two cables, addresses, routes and neighbours."""

    def __init__(self) -> None:
        name = f"ct{os.getpid()}-{next(_serials)}"
        self.target = f"{name}-t"
        self.ends = {Side.EXTERNAL: f"{name}-c", Side.INTERNAL: f"{name}-n"}
        self._passes: list[int] = []
        try:
            self._build()
            self.wires = {side: self._wire(side) for side in Side}
        except BaseException:
            self._delete()
            raise

    def _build(self) -> None:
        for namespace in (self.target, *self.ends.values()):
            run("ip", "netns", "add", namespace)
        run("ip", "netns", "exec", self.target, "sysctl", "-qw", *_SETTINGS)
        for side, end in self.ends.items():
            self._connect(side, end)
        for family in FAMILIES:
            version = "-4" if family.is_ipv4 else "-6"
            run("ip", "-n", self.target, version, "route", "add", "default", "via", family.gateway)

    def _connect(self, side: Side, end: str) -> None:
        name, target = INTERFACE[side], self.target
        # One queue keeps frames in order, and XDP wants no fewer than the peer sends on.
        queues = ("numrxqueues", "1", "numtxqueues", "1")
        peer = ("peer", "name", FAR, *queues, "netns", end)
        own = ("address", TARGET_MAC[side], "mtu", "1500", *queues)
        run("ip", "-n", target, "link", "add", name, *own, "type", "veth", *peer)
        run("ip", "netns", "exec", end, "sysctl", "-qw", f"net.ipv6.conf.{FAR}.disable_ipv6=1")
        run("ip", "-n", end, "link", "set", FAR, "arp", "off", "promisc", "on", "up")
        for namespace, interface in ((end, FAR), (target, name)):
            run("ip", "netns", "exec", namespace, "ethtool", "-K", interface, "gro", "off")
        if side is Side.EXTERNAL:
            setting = f"net.ipv4.conf.{name}.rp_filter=1"
            run("ip", "netns", "exec", target, "sysctl", "-qw", setting)
        run("ip", "-n", target, "link", "set", name, "up")
        self.set_questions(side, 0)
        for family in FAMILIES:
            length = family.external_net.split("/")[1]
            address = getattr(family, side.value)
            run("ip", "-n", target, "address", "add", f"{address}/{length}", "dev", name)
            for neighbour, mac in neighbours(family)[side].items():
                link = ("lladdr", mac, "dev", name, "nud", "permanent")
                run("ip", "-n", target, "neighbour", "replace", neighbour, *link)

    def set_questions(self, side: Side, count: int) -> None:
        """How often the kernel asks for a neighbour that it does not know.

        Not at all, as a rule: what is sent to one, as damaged frames are, is given up at once.
        Questions, and errors three seconds later, would come out in the middle of later tests.
        """
        settings = [f"net.{ip}.neigh.{INTERFACE[side]}.mcast_solicit={count}" for ip in IP]
        run("ip", "netns", "exec", self.target, "sysctl", "-qw", *settings)

    def _wire(self, side: Side) -> Wire:
        with inside(self.ends[side]):
            link = attach_pass(socket.if_nametoindex(FAR))
            if link is not None:
                self._passes.append(link)
            return Wire(FAR)

    def _delete(self) -> None:
        while self._passes:
            os.close(self._passes.pop())
        for namespace in (self.target, *self.ends.values()):
            with contextlib.suppress(RuntimeError):
                run("ip", "netns", "delete", namespace)

    def close(self) -> None:
        for wire in self.wires.values():
            wire.close()
        self._delete()


def clear_dead() -> None:
    """Take away what test runs that were killed left: their names hold their process's id."""
    pins = [*BPF_FILESYSTEM.glob("contract-*"), *BPF_FILESYSTEM.glob("dataplane-*")]
    namespaces = [*NAMESPACES.glob("ct*-*"), *NAMESPACES.glob("rv-*")]
    for path in (*pins, *namespaces):
        owner = re.match(r"(?:contract-|dataplane-|ct|rv-)(\d+)-", path.name)
        if owner is None or Path("/proc", owner[1]).exists():
            continue
        if path.parent == BPF_FILESYSTEM:
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(RuntimeError):  # another process was first
                run("ip", "netns", "delete", path.name)


class VethRig:
    """A target that moves real packets; time cannot be moved, only waited for."""

    moves_time = False

    def __init__(self, name: str, open_target: OpenTarget, flow_capacity: int = 4096) -> None:
        self.name = name
        self._open = open_target
        self._flow_capacity = flow_capacity
        self._events: list[Event] = []
        self._away = False
        self._socket: socket.socket | None = None
        clear_dead()
        self._pin_path = BPF_FILESYSTEM / f"contract-{os.getpid()}-{next(_serials)}"
        self._network = Network()
        self._wires = self._network.wires
        try:
            with self.inside():
                self._numbers = {side: socket.if_nametoindex(INTERFACE[side]) for side in Side}
                self.target = open_target(self._pin_path, flow_capacity)
            self.exchange(())  # whatever the interfaces said while they came up
        except BaseException:
            self._network.close()
            raise

    def inside(self) -> contextlib.AbstractContextManager[None]:
        return inside(self._network.target)

    @property
    def namespace(self) -> str:
        """The target's."""
        return self._network.target

    def interface(self, side: Side) -> int:
        return self._numbers[side]

    def exchange(self, frames: Iterable[Frame]) -> list[Frame]:
        for side, octets in frames:
            self._wires[side].send(octets)
        return self._received()

    def apply(self, *commands: Command) -> list[Frame]:
        self.target.apply(commands)
        return self._received()

    def _received(self) -> list[Frame]:
        """All that came out, also of the target's own half of the work (its ICMP errors)."""
        out = self._settled()
        if self._pump():
            out += self._settled()
        return [frame for frame in out if not self._is_chatter(frame[1])]

    def _is_chatter(self, octets: bytes) -> bool:
        """Whether the frame has nothing to do with what was sent or commanded."""
        return is_kernels_own(octets) or is_late_answer(octets)

    def _settled(self) -> list[Frame]:
        """All that came out before the answers to a question on either side, and what follows
        them at once."""
        out: list[Frame] = []
        for side, wire in self._wires.items():
            out += ((side, octets) for octets in self._until_answered(side, wire))
        wires = self._wires
        while first_readable(wires.values(), _QUIET_S) is not None:
            for side, wire in wires.items():
                while (octets := wire.receive(0)) is not None:
                    out.append((side, octets))
        return out

    def _until_answered(self, side: Side, wire: Wire) -> Iterator[bytes]:
        """What comes before an answer.  Behind a flood the kernel drops a question as it drops
        what else its queues have no room for, so it is asked again."""
        answers: set[bytes] = set()
        deadline = time.monotonic() + _FENCE_WAIT_S
        while time.monotonic() < deadline:
            ask, answer = fence(side)
            answers.add(answer)
            wire.send(ask)
            again = time.monotonic() + _ASK_AGAIN_S
            while (octets := wire.receive(max(0.0, again - time.monotonic()))) is not None:
                if octets in answers:
                    return
                yield octets
        raise RuntimeError(f"{self.name}: the {side.value} side does not answer ARP")

    def _pump(self) -> bool:
        """Let the target do what it does when its descriptor is readable; whether it was."""
        worked = False
        while not self._away and _readable(self.target.fileno()):
            self._events += self.target.events()
            worked = True
        return worked

    def events(self) -> list[Event]:
        self._pump()
        while more := self.target.events():  # what a sweep found is not on the descriptor
            self._events += more
        found, self._events = self._events, []
        return found

    def target_time(self) -> float:
        return time.monotonic()

    def delivered(self) -> list[bytes]:
        if self._socket is None:
            with self.inside():
                self._socket = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            self._socket.setblocking(False)
            self._socket.bind(("::", OWN_PORT))
        found: list[bytes] = []
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(self._socket.recv(65536))
        return found

    def advance(self, seconds: float) -> None:
        time.sleep(seconds)

    @contextlib.contextmanager
    def sized(self, flow_capacity: int) -> Iterator[Rig]:
        other = type(self)(self.name, self._open, flow_capacity)
        try:
            with other.inside():
                yield other
        finally:
            other.close()

    @contextlib.contextmanager
    def agent_away(self) -> Iterator[None]:
        self.target.close(detach=False)
        self._away, self._events = True, []
        yield
        self._away = False
        self.target = self._open(self._pin_path, self._flow_capacity)
        self._hold_links_again()

    def _hold_links_again(self) -> None:
        """What is attached for Offload is held by each agent's own descriptors, from its first
        Offload on: now, and not in some later test, which would seem to leave them behind."""
        if any(self._pin_path.glob("ssmb-*")):
            offloads = self.target._offloads  # type: ignore[attr-defined]
            offloads._devices = self.target._places.devices  # type: ignore[attr-defined]
            own, cs = from_text(IPV4.internal), from_text(IPV4.cs)
            offloads._attach(AskingPath(cs, OWN_PORT, own, OWN_PORT, bytes(16), bytes(16)))

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        try:
            with self.inside():
                self.target.close(detach=True)
        finally:
            self._network.close()
            shutil.rmtree(self._pin_path, ignore_errors=True)


def _readable(descriptor: int) -> bool:
    if descriptor < 0:
        return False
    return bool(select.select([descriptor], [], [], 0)[0])


def fence(side: Side) -> tuple[bytes, bytes]:
    """An ARP probe (RFC 5227 2.1.1: it leaves no trace) for the target's own address, and the
    only right answer to it.  Frames of an interface are processed in order."""
    asker = _ASKERS + next(_serials).to_bytes(3, "big")
    own = bytes.fromhex(TARGET_MAC[side].replace(":", ""))
    wanted = socket.inet_aton(getattr(IPV4, side.value))
    head = bytes.fromhex("0806 0001 0800 06 04")
    ask = b"\xff" * 6 + asker + head + b"\x00\x01" + asker + bytes(4) + bytes(6) + wanted
    return ask, asker + own + head + b"\x00\x02" + own + wanted + asker + bytes(4)


def is_late_answer(octets: bytes) -> bool:
    """To a question of a fence that was asked again meanwhile."""
    return octets[:3] == _ASKERS and octets[12:14] == b"\x08\x06"


def is_kernels_own(octets: bytes) -> bool:
    """Multicast listener reports (RFC 3810), which a kernel sends when an interface comes up."""
    return octets[:3] == b"\x33\x33\x00" and octets[12:14] == b"\x86\xdd" and octets[20] == 0


@contextlib.contextmanager
def opened(attach: str) -> Iterator[VethRig]:
    """The bpf target; attach: "tc" or "xdp".  Skipped where it cannot be."""
    require("dataplane", missing_for_bpf())
    rig = VethRig(f"bpf-{attach}", open_bpf(attach))
    try:
        yield rig
    finally:
        rig.close()
