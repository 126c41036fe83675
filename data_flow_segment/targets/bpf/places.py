# SPDX-License-Identifier: Apache-2.0
"""The interfaces that the program is on, and what becomes of them while it runs: one that is made
anew, renamed or given another address is followed."""

from __future__ import annotations

import logging
import socket
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from data_flow_segment.targets.bpf import links
from data_flow_segment.targets.bpf.interfaces import (
    Device,
    devices,
    enable_forwarding,
    reverse_path,
)
from data_flow_segment.targets.bpf.layout import INTERFACE, InterfaceFlag
from data_flow_segment.targets.bpf.options import BpfOptions
from data_flow_segment.targets.bpf.others import one_at_a_time, refuse_others
from data_flow_segment.targets.bpf.program import Program
from data_flow_segment.targets.contract import TargetError
from ssmb.addresses import UNSPECIFIED

# linux/rtnetlink.h: links, addresses of both families, and settings of IPv4 as rp_filter
_GROUPS: Final = 0x1 | 0x10 | 0x100 | 0x800000
_NETLINK_ROUTE: Final = 0
_REVERSE_PATH: Final = {1: InterfaceFlag.STRICT, 2: InterfaceFlag.LOOSE}
_PAUSE_NS: Final = 1_000_000_000
_CONSEQUENCES: Final = {
    "interfaces": "of this host find no room: packets are not tunnelled out of them; restart the"
    " agent, which makes room",
    "addresses": "of this host find no room: wildcard virtual servers catch packets to them;"
    " restart the agent, which makes room",
    "nodes": "find no room: what they send in mid-session without a flow is routed on",
}
_LOG: Final = logging.getLogger("splitplane.dfs")


class Watch:
    """Whether links or addresses changed, as the kernel reports."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_ROUTE)
        self._socket.setblocking(False)
        self._socket.bind((0, _GROUPS))

    def changed(self) -> bool:
        """Since the last call."""
        found = False
        while True:
            try:
                self._socket.recv(65536)
            except BlockingIOError:
                return found
            except OSError:  # ENOBUFS: more than the socket could hold
                return True
            found = True

    def close(self) -> None:
        self._socket.close()


class Places:
    """Where the program is.  `count` counts what became of an interface."""

    def __init__(self, options: BpfOptions, program: Program, count: Callable[..., None]) -> None:
        self._options = options
        self._program = program
        self._count = count
        self._how = options.attach
        self._chosen = tuple(dict.fromkeys(options.external + options.internal))
        self._watch = Watch()
        self._looked_ns = 0
        self._behind = False
        self._without_room: dict[str, int] = {}
        self._gone: set[str] = set()
        self._unused: dict[str, str] = {}  # why an interface that came back is not used
        self._attached: dict[str, links.Attachment] = {}
        self.devices: dict[int, Device] = {}
        self.tap = 0  # the agent's TAP device, once it is there
        self.own_addresses: frozenset[bytes] = frozenset()
        self.broadcast_addresses: frozenset[bytes] = frozenset()

    @property
    def attachments(self) -> list[links.Attachment]:
        return list(self._attached.values())

    @property
    def external(self) -> list[Device]:
        """The interfaces towards clients that are there."""
        return [each for each in self.devices.values() if each.name in self._options.external]

    def take(self, present: dict[str, Device]) -> None:
        """Fill the program's map of interfaces; before `attach`."""
        wanted: dict[bytes, bytes] = {}
        if self.tap:
            nobody = bytes(6), UNSPECIFIED, UNSPECIFIED
            wanted[struct.pack("=I", self.tap)] = INTERFACE.pack(InterfaceFlag.TAP, *nobody)
        self.devices = {device.ifindex: device for device in present.values()}
        self.own_addresses = frozenset(
            address for device in present.values() for address in device.addresses
        )
        self.broadcast_addresses = frozenset(
            address for device in present.values() for address in device.broadcasts
        )
        for device in sorted(present.values(), key=lambda device: not self._flags(device)):
            flags = self._flags(device)
            if flags or device.addresses:
                wanted[struct.pack("=I", device.ifindex)] = INTERFACE.pack(
                    flags,
                    device.mac,
                    device.first(ipv4=True) or UNSPECIFIED,
                    device.first(ipv4=False) or UNSPECIFIED,
                )
        self.say_without_room("interfaces", self._program.interfaces.replace_all(wanted))

    def take_addresses(self, wanted: dict[bytes, bytes]) -> None:
        """Fill the program's map of addresses that wildcard virtual servers never catch."""
        self.say_without_room("addresses", self._program.local_addresses.replace_all(wanted))

    def attach(self) -> None:
        """Put the program on all interfaces of the configuration, and off all others."""
        present = {device.name: device for device in self.devices.values()}
        with one_at_a_time():
            refuse_others((present[name] for name in self._chosen), self._options.pin_path)
            for name in self._chosen:
                enable_forwarding(name)
            if self._how == "auto":
                self._how = self._choose(present)
            for name in self._chosen:
                if name not in self._attached:
                    self._attached[name] = self._attach(present[name])
        self._drop_others()

    def follow(self, now_ns: int) -> bool:
        """Look at the interfaces if something changed, at most once a second; True if so."""
        self._behind = self._watch.changed() or self._behind
        if not self._behind or now_ns - self._looked_ns < _PAUSE_NS:
            return False
        self._looked_ns = now_ns
        try:
            present = devices()
            self.take(present)
        except TargetError:
            return False  # `ip` failed; it is asked again
        self._behind = False
        for name in self._chosen:
            self._follow(name, present.get(name))
        return True

    def say_without_room(self, what: str, number: int) -> None:
        """Count and log how many of a kind a map has no room for, if they are more than before."""
        before, self._without_room[what] = self._without_room.get(what, 0), number
        if number > before:
            self._count(f"{what}_without_room", number - before)
            _LOG.warning("%d %s %s", number, what, _CONSEQUENCES[what])

    def _say_unused(self, name: str, why: str) -> None:
        if self._unused.get(name) != why:  # each second it is tried again
            self._unused[name] = why
            _LOG.warning("interface %s cannot be used again yet: %s", name, why)

    def close(self, *, detach: bool) -> None:
        self._watch.close()
        for attachment in self._attached.values():
            if detach:
                links.detach(attachment, self._pin_of(attachment.interface))
            else:
                links.release(attachment)
        self._attached.clear()

    def _follow(self, name: str, device: Device | None) -> None:
        attachment = self._attached.get(name)
        if device is None:
            if name not in self._gone:
                self._gone.add(name)
                self._count("interface_gone")
                _LOG.warning("interface %s is gone; it is used again when it comes back", name)
            return
        if attachment is not None and attachment.ifindex == device.ifindex:
            self._gone.discard(name)
            return
        try:
            with one_at_a_time():
                refuse_others((device,), self._options.pin_path)
                enable_forwarding(name)
                made = self._attach(device)
        except (TargetError, OSError) as error:
            self._behind = True  # it may be half made yet
            self._say_unused(name, str(error))
            return
        if attachment is not None:
            links.release(attachment)
        self._attached[name] = made
        self._gone.discard(name)
        self._unused.pop(name, None)
        self._count("interface_came_back")
        _LOG.info("interface %s is here again, and is used", name)
        self._drop_others()

    def _drop_others(self) -> None:
        for name in links.drop_others(self._options.pin_path, self.attachments):
            _LOG.warning(
                "interface %s had this DFS's data path, and has it no more: the configuration does"
                " not name it",
                name,
            )

    def _choose(self, present: dict[str, Device]) -> str:
        """XDP if the drivers of all interfaces run it.  On veth and the like it costs segmentation
        offload, and tc carries six times the TCP throughput; an interface whose driver lacks it
        cannot receive what another interface's XDP redirects to it either."""
        if not self._program.xdp:
            return "tc"
        program = self._program.program_fd("dfs_xdp")
        try:
            for name in self._chosen:
                place = (name, present[name].ifindex, program, self._pin_of(name))
                self._attached[name] = links.attach_xdp(*place, by_driver=True)
        except TargetError:
            for name in list(self._attached):
                links.detach(self._attached.pop(name), self._pin_of(name))
            return "tc"
        return "xdp"

    def _attach(self, device: Device) -> links.Attachment:
        pin = self._pin_of(device.name)
        if self._how == "xdp" and not self._program.xdp:
            raise TargetError("attach: xdp needs Linux 5.18 or later; use tc, or auto")
        if self._how == "xdp":
            program = self._program.program_fd("dfs_xdp")
            return links.attach_xdp(device.name, device.ifindex, program, pin)
        program = self._program.program_fd("dfs_tc")
        return links.attach_tc(device.name, device.ifindex, program, pin)

    def _flags(self, device: Device) -> int:
        flags = 0
        if device.name in self._options.external:
            flags |= InterfaceFlag.EXTERNAL
        if device.name in self._options.internal:
            flags |= InterfaceFlag.INTERNAL
        if device.veth and device.other_namespace and self._options.redirect_peer:
            flags |= InterfaceFlag.PEER
        if device.name in self._options.external and not device.enslaved:
            flags |= _REVERSE_PATH.get(reverse_path(device.name), 0)
        return flags

    def _pin_of(self, interface: str) -> Path:
        return links.pin_of(self._options.pin_path, interface)


def needless_programs(options: BpfOptions, present: Mapping[str, Device]) -> frozenset[str]:
    """Those that no interface will have: `attach` says so, or there is no hardware for XDP."""
    chosen = (present[name] for name in options.external + options.internal)
    if options.attach == "xdp":
        return frozenset({"dfs_tc"})
    if options.attach == "tc" or not all(map(_has_hardware, chosen)):
        return frozenset({"dfs_xdp", "dfs_behind_xdp"})
    return frozenset()


def _has_hardware(device: Device) -> bool:
    return Path(f"/sys/class/net/{device.name}/device").exists() and not device.veth
