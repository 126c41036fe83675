# SPDX-License-Identifier: Apache-2.0
"""An XDP program that does nothing, for the far end of a veth: only with one there does the kernel
deliver at once what the near end's program sends back by XDP_TX (veth_xdp_flush)."""

from __future__ import annotations

import ctypes
import os
import struct
from typing import Final

_BPF_PROG_TYPE_XDP: Final = 6
_BPF_XDP: Final = 37  # enum bpf_attach_type
_MOV64_IMM, _EXIT = 0xB7, 0x95
_XDP_PASS: Final = 2
_INSTRUCTION: Final = struct.Struct("=BBhi")


def attach_pass(ifindex: int) -> int | None:
    """Attach to an interface of this namespace until the descriptor is closed; None without
    libbpf, and then no target runs that would need it."""
    try:
        libbpf = ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError:
        return None
    code = _INSTRUCTION.pack(_MOV64_IMM, 0, 0, _XDP_PASS) + _INSTRUCTION.pack(_EXIT, 0, 0, 0)
    size = ctypes.c_size_t(len(code) // _INSTRUCTION.size)
    program = libbpf.bpf_prog_load(_BPF_PROG_TYPE_XDP, b"pass", b"Apache-2.0", code, size, None)
    if program < 0:
        raise OSError(-program, f"cannot load an XDP program: {os.strerror(-program)}")
    try:
        link: int = libbpf.bpf_link_create(program, ifindex, _BPF_XDP, None)
    finally:
        os.close(program)
    if link < 0:
        raise OSError(-link, f"cannot attach an XDP program: {os.strerror(-link)}")
    return link
