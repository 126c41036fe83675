# SPDX-License-Identifier: Apache-2.0
"""A program of the bpf target, run on frames that no network carries (BPF_PROG_TEST_RUN)."""

from __future__ import annotations

import ctypes
import struct
from typing import Final

from data_flow_segment.targets.bpf.libbpf import TestRunOptions, library
from data_flow_segment.targets.bpf.target import BpfTarget

PASSED_ON: Final = 0xFFFFFFFF  # TC_ACT_UNSPEC: to the next program
DROPPED: Final = 2
SENT: Final = 7  # TC_ACT_REDIRECT

_FRAME_MAX: Final = 2048
_CONTEXT: Final = struct.Struct("=40xI132xI12x")  # struct __sk_buff: ifindex, gso_size


class ProgramRun:
    """Runs one program for tc; a frame is as if it came in by an interface of this namespace."""

    def __init__(self, target: BpfTarget, name: str) -> None:
        self._fd = target.program_fd(name)
        self._run = library().bpf_prog_test_run_opts
        self._frame = ctypes.create_string_buffer(_FRAME_MAX)
        self._out = ctypes.create_string_buffer(_FRAME_MAX)
        self._context = ctypes.create_string_buffer(_CONTEXT.size)
        self._options = TestRunOptions(
            sz=ctypes.sizeof(TestRunOptions),
            data_in=ctypes.addressof(self._frame),
            data_out=ctypes.addressof(self._out),
            ctx_in=ctypes.addressof(self._context),
            ctx_size_in=_CONTEXT.size,
            repeat=1,
        )
        self._reference = ctypes.byref(self._options)

    def run(self, octets: bytes, ifindex: int, gso_size: int = 0) -> int:
        """The verdict; OSError where the kernel does not run it on such a frame."""
        options = self._options
        ctypes.memmove(self._frame, octets, len(octets))
        _CONTEXT.pack_into(self._context, 0, ifindex, gso_size)
        options.data_size_in = len(octets)
        options.data_size_out = _FRAME_MAX  # the last run wrote them
        options.ctx_size_out = 0
        failed = self._run(self._fd, self._reference)
        if failed:
            raise OSError(-failed, f"the program was not run on {octets.hex()}")
        return int(options.retval)

    def out(self) -> bytes:
        """What the program made of the last frame."""
        return self._out.raw[: self._options.data_size_out]
