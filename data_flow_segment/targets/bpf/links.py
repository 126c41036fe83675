# SPDX-License-Identifier: Apache-2.0
"""Attaching the program, and finding it attached: tcx where the kernel has it, clsact where not,
XDP where asked for.  Links are pinned, so that packets go on when the agent dies; clsact has no
link, and a folder beside the pins says where it was used."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from data_flow_segment.targets.bpf.libbpf import (
    ATTACH_TCX_INGRESS,
    ATTACH_XDP,
    XDP_BY_DRIVER,
    LinkOptions,
    TcHook,
    TcOptions,
    descriptor_info,
    library,
    reason,
)
from data_flow_segment.targets.bpf.pins import CLSACT_MARK
from data_flow_segment.targets.contract import TargetError

_CLSACT_INGRESS, _CLSACT_BOTH = 1, 3
_TC_REPLACE: Final = 1
_TC_HANDLE, _TC_PRIORITY = 0x5350, 0x5350  # "SP"
_TCX_MAX: Final = 64  # programs at one place, BPF_MPROG_MAX of Linux
_OWN_QDISC: Final = "qdisc"


@dataclass(frozen=True, slots=True)
class Place:
    """What is attached at an interface: the data path, or what receives SSMB behind it."""

    pins: str  # what the names of its pins begin with
    mark: str  # of clsact
    handle: int


PATH: Final = Place("link-", CLSACT_MARK, _TC_HANDLE)
SSMB: Final = Place("ssmb-", f"{CLSACT_MARK}ssmb-", _TC_HANDLE + 1)
BEHIND_XDP: Final = Place("ask-", f"{CLSACT_MARK}ask-", _TC_HANDLE + 2)


@dataclass(slots=True)
class Attachment:
    """The program on one interface."""

    interface: str
    ifindex: int
    kind: str  # tcx, clsact or xdp
    fd: int = -1  # of the link; clsact has none


def pin_of(folder: Path, interface: str, place: Place = PATH) -> Path:
    """Where an interface's link is pinned.  A BPF file system allows no dot in a name, and
    the names of VLAN interfaces have one; what stands for it can be in no interface's name."""
    return folder / f"{place.pins}{interface.replace('.', ':')}"


def interface_of(pin: Path) -> str:
    """What `pin_of` was given."""
    return pin.name.removeprefix("link-").replace(":", ".")


def attach_tc(
    interface: str, ifindex: int, program: int, pin: Path | None, place: Place = PATH
) -> Attachment:
    """Put the program in front of everything that comes in on an interface."""
    with _Earlier(ifindex, pin, place) as earlier:
        if earlier.runs("tcx", program):
            return Attachment(interface, ifindex, "tcx", earlier.keep())
        fd = library().bpf_link_create(program, ifindex, ATTACH_TCX_INGRESS, None)
        if fd >= 0:
            _pin(fd, pin)
            return Attachment(interface, ifindex, "tcx", fd)
        if -fd not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise TargetError(f"cannot attach to {interface} (tcx): {reason(fd)}")
        _attach_clsact(interface, ifindex, program, None if pin is None else pin.parent, place)
        return Attachment(interface, ifindex, "clsact")


def attach_xdp(
    interface: str, ifindex: int, program: int, pin: Path | None, *, by_driver: bool = False
) -> Attachment:
    """Put the program into the driver, or (unless it is to be `by_driver`) what the kernel has
    instead."""
    with _Earlier(ifindex, pin) as earlier:
        if earlier.runs("xdp", program):
            return Attachment(interface, ifindex, "xdp", earlier.keep())
        options = LinkOptions(ctypes.sizeof(LinkOptions), XDP_BY_DRIVER if by_driver else 0)
        fd = library().bpf_link_create(program, ifindex, ATTACH_XDP, ctypes.byref(options))
        if fd < 0:
            hint = "; another XDP program is attached there" if -fd == errno.EBUSY else ""
            raise TargetError(f"cannot attach to {interface} (xdp): {reason(fd)}{hint}")
        _pin(fd, pin)
        return Attachment(interface, ifindex, "xdp", fd)


def detach(attachment: Attachment, pin: Path, place: Place = PATH) -> None:
    """Take the program off an interface."""
    pin.unlink(missing_ok=True)
    if attachment.fd >= 0:
        os.close(attachment.fd)
    if attachment.kind == "clsact":
        _detach_clsact(attachment.ifindex, pin.parent, place)


def release(attachment: Attachment) -> None:
    """Let go; the pin holds it."""
    if attachment.fd >= 0:
        os.close(attachment.fd)


def drop_others(folder: Path, chosen: list[Attachment]) -> list[str]:
    """Take the program off where an earlier configuration had it and this one has not; return the
    names of the interfaces, as far as links are pinned."""
    dropped = []
    mine = {pin_of(folder, attachment.interface) for attachment in chosen if attachment.fd >= 0}
    for pin in folder.glob("link-*"):
        if pin not in mine:
            pin.unlink()
            dropped.append(interface_of(pin))
    clsact = {attachment.ifindex for attachment in chosen if attachment.kind == "clsact"}
    for mark in folder.glob(f"{CLSACT_MARK}[0-9]*"):
        ifindex = int(mark.name.removeprefix(CLSACT_MARK))
        if ifindex not in clsact:
            _detach_clsact(ifindex, folder)
    return dropped


def has_attached(folder: Path) -> bool:
    """Whether a link that is pinned there has an interface, in whichever network namespace."""
    return bool(_linked(folder))


def programs(folder: Path) -> set[int]:
    """The kernel's numbers of the programs that an agent left attached."""
    found = _linked(folder)
    for mark in folder.glob(f"{CLSACT_MARK}[0-9]*"):
        found |= clsact_program(int(mark.name.removeprefix(CLSACT_MARK)))
    return found


def _linked(folder: Path) -> set[int]:
    """By links that are pinned."""
    found = set()
    for pin in folder.glob("link-*"):
        fd = library().bpf_obj_get(str(pin).encode())
        if fd < 0:
            raise TargetError(f"{pin}: cannot open the pinned link: {reason(fd)}")
        facts = descriptor_info(fd)
        os.close(fd)
        if facts.get("ifindex") not in (None, "0"):  # else its interface is gone
            found.add(int(facts.get("prog_id", "0")))
    return found


def tc_programs(ifindex: int) -> set[int]:
    """The kernel's numbers of the programs that see what comes in on an interface: all by tcx,
    and by clsact the one at our place there."""
    numbers, count = (ctypes.c_uint32 * _TCX_MAX)(), ctypes.c_uint32(_TCX_MAX)
    failed = library().bpf_prog_query(
        ifindex, ATTACH_TCX_INGRESS, 0, None, ctypes.addressof(numbers), ctypes.addressof(count)
    )
    found = set() if failed else set(numbers[: count.value])
    return found | clsact_program(ifindex)


def clsact_program(ifindex: int) -> set[int]:
    """The kernel's number of the program at our place in an interface's clsact, if one is there."""
    hook = TcHook(ctypes.sizeof(TcHook), ifindex, _CLSACT_INGRESS, 0)
    options = TcOptions(ctypes.sizeof(TcOptions), 0, 0, 0, _TC_HANDLE, _TC_PRIORITY)
    failed = library().bpf_tc_query(ctypes.byref(hook), ctypes.byref(options))
    return set() if failed else {int(options.prog_id)}


class _Earlier:
    """The link that an earlier agent pinned for an interface.  One of another kind holds on until
    the new one is attached, so that no packet passes by; kinds are looked at because tcx would
    take a program of any type."""

    def __init__(self, ifindex: int, pin: Path | None, place: Place = PATH) -> None:
        self._fd = -1
        self._place = place
        self._ifindex = ifindex
        self._pin = pin

    def __enter__(self) -> _Earlier:
        pin = self._pin
        if pin is None:
            return self
        # the interface may have been renamed, and another one may have its name now
        for candidate in sorted(
            pin.parent.glob(f"{self._place.pins}*"), key=lambda path: path != pin
        ):
            fd = library().bpf_obj_get(str(candidate).encode())
            if fd < 0:
                raise TargetError(f"{candidate}: cannot open the pinned link: {reason(fd)}")
            if descriptor_info(fd).get("ifindex") == str(self._ifindex):
                candidate.rename(pin)
                self._fd = fd
                return self
            os.close(fd)
        pin.unlink(missing_ok=True)
        return self

    def runs(self, kind: str, program: int) -> bool:
        """Whether it is of this kind and runs our program from now on."""
        if self._fd < 0 or self._pin is None:
            return False
        same = descriptor_info(self._fd).get("link_type") == kind
        if same and library().bpf_link_update(self._fd, program, None) == 0:
            return True
        self._pin.unlink()
        return False

    def keep(self) -> int:
        fd, self._fd = self._fd, -1
        return fd

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)


def _pin(fd: int, pin: Path | None) -> None:
    if pin is None:
        return
    failed = library().bpf_obj_pin(fd, str(pin).encode())
    if failed:
        os.close(fd)
        raise TargetError(f"{pin}: cannot pin the link: {reason(failed)}")


def _attach_clsact(
    interface: str, ifindex: int, program: int, folder: Path | None, place: Place = PATH
) -> None:
    hook = TcHook(ctypes.sizeof(TcHook), ifindex, _CLSACT_INGRESS, 0)
    created = library().bpf_tc_hook_create(ctypes.byref(hook)) == 0  # it may be there already
    if folder is not None:
        mark = folder / f"{place.mark}{ifindex}"
        mark.mkdir(exist_ok=True)
        if created:
            (mark / _OWN_QDISC).mkdir(exist_ok=True)
    options = TcOptions(
        ctypes.sizeof(TcOptions), program, _TC_REPLACE, 0, place.handle, place.handle
    )
    failed = library().bpf_tc_attach(ctypes.byref(hook), ctypes.byref(options))
    if failed:
        if folder is not None:
            _detach_clsact(ifindex, folder, place)
        raise TargetError(f"cannot attach to {interface} (clsact): {reason(failed)}")


def _detach_clsact(ifindex: int, folder: Path, place: Place = PATH) -> None:
    hook = TcHook(ctypes.sizeof(TcHook), ifindex, _CLSACT_INGRESS, 0)
    options = TcOptions(ctypes.sizeof(TcOptions), 0, 0, 0, place.handle, place.handle)
    library().bpf_tc_detach(ctypes.byref(hook), ctypes.byref(options))
    mark = folder / f"{place.mark}{ifindex}"
    if (mark / _OWN_QDISC).exists():
        (mark / _OWN_QDISC).rmdir()
        if not _has_filters(ifindex):
            hook.attach_point = _CLSACT_BOTH
            library().bpf_tc_hook_destroy(ctypes.byref(hook))
    with contextlib.suppress(FileNotFoundError):
        mark.rmdir()


def _has_filters(ifindex: int) -> bool:
    """Whether somebody else uses the clsact that we made; if in doubt, yes."""
    try:
        name = socket.if_indextoname(ifindex)
    except OSError:
        return True
    for side in ("ingress", "egress"):
        done = subprocess.run(
            ["tc", "filter", "show", "dev", name, side],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode or done.stdout.strip():
            return True
    return False
