# SPDX-License-Identifier: Apache-2.0
"""Attaching the program, and finding it attached: tcx where the kernel has it, clsact where not,
XDP where asked for.  Links are pinned, so that packets go on when the agent dies."""

from __future__ import annotations

import ctypes
import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from data_flow_segment.targets.bpf.libbpf import (
    ATTACH_TCX_INGRESS,
    ATTACH_XDP,
    TcHook,
    TcOptions,
    library,
    reason,
)
from data_flow_segment.targets.contract import TargetError

_CLSACT_INGRESS: Final = 1
_TC_REPLACE: Final = 1
_TC_HANDLE, _TC_PRIORITY = 0x5350, 0x5350  # "SP"


@dataclass(slots=True)
class Attachment:
    """The program on one interface."""

    interface: str
    ifindex: int
    kind: str  # tcx, clsact or xdp
    fd: int = -1  # of the link; clsact has none


def attach_tc(interface: str, ifindex: int, program: int, pin: Path | None) -> Attachment:
    """Put the program in front of everything that comes in on an interface."""
    adopted = _adopt(interface, ifindex, "tcx", program, pin)
    if adopted is not None:
        return adopted
    fd = library().bpf_link_create(program, ifindex, ATTACH_TCX_INGRESS, None)
    if fd >= 0:
        _pin(fd, pin)
        return Attachment(interface, ifindex, "tcx", fd)
    if -fd not in (errno.EINVAL, errno.EOPNOTSUPP):
        raise TargetError(f"cannot attach to {interface} (tcx): {reason(fd)}")
    hook = TcHook(ctypes.sizeof(TcHook), ifindex, _CLSACT_INGRESS, 0)
    library().bpf_tc_hook_create(ctypes.byref(hook))  # it may be there already
    options = TcOptions(ctypes.sizeof(TcOptions), program, _TC_REPLACE, 0, _TC_HANDLE, _TC_PRIORITY)
    failed = library().bpf_tc_attach(ctypes.byref(hook), ctypes.byref(options))
    if failed:
        raise TargetError(f"cannot attach to {interface} (clsact): {reason(failed)}")
    return Attachment(interface, ifindex, "clsact")


def attach_xdp(interface: str, ifindex: int, program: int, pin: Path | None) -> Attachment:
    """Put the program into the driver, or what the kernel has instead."""
    adopted = _adopt(interface, ifindex, "xdp", program, pin)
    if adopted is not None:
        return adopted
    fd = library().bpf_link_create(program, ifindex, ATTACH_XDP, None)
    if fd < 0:
        hint = "; another XDP program is attached there" if -fd == errno.EBUSY else ""
        raise TargetError(f"cannot attach to {interface} (xdp): {reason(fd)}{hint}")
    _pin(fd, pin)
    return Attachment(interface, ifindex, "xdp", fd)


def detach(attachment: Attachment, pin: Path | None) -> None:
    """Take the program off an interface."""
    if pin is not None:
        pin.unlink(missing_ok=True)
    if attachment.fd >= 0:
        os.close(attachment.fd)
        return
    hook = TcHook(ctypes.sizeof(TcHook), attachment.ifindex, _CLSACT_INGRESS, 0)
    options = TcOptions(ctypes.sizeof(TcOptions), 0, 0, 0, _TC_HANDLE, _TC_PRIORITY)
    library().bpf_tc_detach(ctypes.byref(hook), ctypes.byref(options))


def release(attachment: Attachment) -> None:
    """Let go; the pin holds it."""
    if attachment.fd >= 0:
        os.close(attachment.fd)


def _adopt(
    interface: str, ifindex: int, kind: str, program: int, pin: Path | None
) -> Attachment | None:
    """A link that an earlier agent pinned runs our program from now on, without a gap."""
    if pin is None or not pin.exists():
        return None
    fd = library().bpf_obj_get(str(pin).encode())
    if fd < 0:
        raise TargetError(f"{pin}: cannot open the pinned link: {reason(fd)}")
    if library().bpf_link_update(fd, program, None) == 0:
        return Attachment(interface, ifindex, kind, fd)
    # of another kind, or of an interface that is gone
    os.close(fd)
    pin.unlink()
    return None


def _pin(fd: int, pin: Path | None) -> None:
    if pin is None:
        return
    failed = library().bpf_obj_pin(fd, str(pin).encode())
    if failed:
        os.close(fd)
        raise TargetError(f"{pin}: cannot pin the link: {reason(failed)}")
