# SPDX-License-Identifier: Apache-2.0
"""The few functions of libbpf.so.1 that the target needs, by ctypes; errors become TargetError."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

from data_flow_segment.targets.contract import TargetError

BPF_ANY: Final = 0
BPF_NOEXIST: Final = 1
ATTACH_XDP: Final = 37
ATTACH_TCX_INGRESS: Final = 46
XDP_BY_DRIVER: Final = 1 << 2
PROG_TYPE_XDP: Final = 6
HELPER_XDP_LOAD_BYTES: Final = 189

_LOG_LINES_KEPT = 40

_PRINT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)


class BatchOptions(ctypes.Structure):
    """struct bpf_map_batch_opts"""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("elem_flags", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
    )


class LinkOptions(ctypes.Structure):
    """struct bpf_link_create_opts, as far as all kinds of links have it"""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("flags", ctypes.c_uint32),
        ("iter_info_len", ctypes.c_uint32),
        ("iter_info", ctypes.c_void_p),
        ("target_btf_id", ctypes.c_uint32),
    )


class TcHook(ctypes.Structure):
    """struct bpf_tc_hook"""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("ifindex", ctypes.c_int),
        ("attach_point", ctypes.c_int),
        ("parent", ctypes.c_uint32),
    )


class TcOptions(ctypes.Structure):
    """struct bpf_tc_opts"""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("prog_fd", ctypes.c_int),
        ("flags", ctypes.c_uint32),
        ("prog_id", ctypes.c_uint32),
        ("handle", ctypes.c_uint32),
        ("priority", ctypes.c_uint32),
    )


class TestRunOptions(ctypes.Structure):
    """struct bpf_test_run_opts"""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("data_in", ctypes.c_void_p),
        ("data_out", ctypes.c_void_p),
        ("data_size_in", ctypes.c_uint32),
        ("data_size_out", ctypes.c_uint32),
        ("ctx_in", ctypes.c_void_p),
        ("ctx_out", ctypes.c_void_p),
        ("ctx_size_in", ctypes.c_uint32),
        ("ctx_size_out", ctypes.c_uint32),
        ("retval", ctypes.c_uint32),
        ("repeat", ctypes.c_int),
        ("duration", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("cpu", ctypes.c_uint32),
        ("batch_size", ctypes.c_uint32),
    )

    @classmethod
    def of(cls, data: bytes) -> TestRunOptions:
        """For one run on a packet, of 14 octets at least."""
        address = ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p)
        options = cls(sz=ctypes.sizeof(cls), data_in=address, data_size_in=len(data), repeat=1)
        options.data = data  # it lives as long as what points at it
        return options


class MapInfo(ctypes.Structure):
    """struct bpf_map_info"""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("key_size", ctypes.c_uint32),
        ("value_size", ctypes.c_uint32),
        ("max_entries", ctypes.c_uint32),
        ("map_flags", ctypes.c_uint32),
        ("name", ctypes.c_char * 16),
        ("ifindex", ctypes.c_uint32),
        ("btf_vmlinux_value_type_id", ctypes.c_uint32),
        ("netns_dev", ctypes.c_uint64),
        ("netns_ino", ctypes.c_uint64),
        ("btf_id", ctypes.c_uint32),
        ("btf_key_type_id", ctypes.c_uint32),
        ("btf_value_type_id", ctypes.c_uint32),
    )


class ProgramInfo(ctypes.Structure):
    """struct bpf_prog_info, as far as its name"""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("tag", ctypes.c_char * 8),
        ("jited_prog_len", ctypes.c_uint32),
        ("xlated_prog_len", ctypes.c_uint32),
        ("jited_prog_insns", ctypes.c_uint64),
        ("xlated_prog_insns", ctypes.c_uint64),
        ("load_time", ctypes.c_uint64),
        ("created_by_uid", ctypes.c_uint32),
        ("nr_map_ids", ctypes.c_uint32),
        ("map_ids", ctypes.c_uint64),
        ("name", ctypes.c_char * 16),
    )


class MapOptions(ctypes.Structure):
    """struct bpf_map_create_opts, as far as a map of maps needs it"""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("btf_fd", ctypes.c_uint32),
        ("btf_key_type_id", ctypes.c_uint32),
        ("btf_value_type_id", ctypes.c_uint32),
        ("btf_vmlinux_value_type_id", ctypes.c_uint32),
        ("inner_map_fd", ctypes.c_uint32),
        ("map_flags", ctypes.c_uint32),
    )


_INT, _POINTER, _TEXT, _U64 = ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint64
_SIGNATURES: Final[dict[str, tuple[Any, tuple[Any, ...]]]] = {
    "bpf_object__open_file": (_POINTER, (_TEXT, _POINTER)),
    "bpf_object__load": (_INT, (_POINTER,)),
    "bpf_object__close": (None, (_POINTER,)),
    "bpf_object__find_map_by_name": (_POINTER, (_POINTER, _TEXT)),
    "bpf_object__find_program_by_name": (_POINTER, (_POINTER, _TEXT)),
    "bpf_map__set_max_entries": (_INT, (_POINTER, ctypes.c_uint32)),
    "bpf_map__max_entries": (ctypes.c_uint32, (_POINTER,)),
    "bpf_map__type": (ctypes.c_uint32, (_POINTER,)),
    "bpf_map__key_size": (ctypes.c_uint32, (_POINTER,)),
    "bpf_map__value_size": (ctypes.c_uint32, (_POINTER,)),
    "bpf_map__map_flags": (ctypes.c_uint32, (_POINTER,)),
    "bpf_map__btf_key_type_id": (ctypes.c_uint32, (_POINTER,)),
    "bpf_map__btf_value_type_id": (ctypes.c_uint32, (_POINTER,)),
    "bpf_object__btf": (_POINTER, (_POINTER,)),
    "btf__raw_data": (_POINTER, (_POINTER, _POINTER)),
    "btf__load_from_kernel_by_id": (_POINTER, (ctypes.c_uint32,)),
    "btf__free": (None, (_POINTER,)),
    "bpf_obj_get_info_by_fd": (_INT, (_INT, _POINTER, _POINTER)),
    "bpf_prog_query": (_INT, (_INT, _INT, ctypes.c_uint32, _POINTER, _POINTER, _POINTER)),
    "bpf_prog_get_fd_by_id": (_INT, (ctypes.c_uint32,)),
    "bpf_map_create": (
        _INT,
        (_INT, _TEXT, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_uint32, _POINTER),
    ),
    "bpf_map__set_pin_path": (_INT, (_POINTER, _TEXT)),
    "bpf_map__fd": (_INT, (_POINTER,)),
    "bpf_object__next_program": (_POINTER, (_POINTER, _POINTER)),
    "bpf_program__name": (_TEXT, (_POINTER,)),
    "bpf_program__fd": (_INT, (_POINTER,)),
    "bpf_program__autoload": (ctypes.c_bool, (_POINTER,)),
    "bpf_program__set_autoload": (_INT, (_POINTER, ctypes.c_bool)),
    "bpf_map_lookup_elem": (_INT, (_INT, _TEXT, _POINTER)),
    "bpf_map_update_elem": (_INT, (_INT, _TEXT, _TEXT, _U64)),
    "bpf_map_delete_elem": (_INT, (_INT, _TEXT)),
    "bpf_map_get_next_key": (_INT, (_INT, _TEXT, _POINTER)),
    "bpf_map_lookup_batch": (
        _INT,
        (_INT, _POINTER, _POINTER, _POINTER, _POINTER, _POINTER, _POINTER),
    ),
    "bpf_map_update_batch": (_INT, (_INT, _POINTER, _POINTER, _POINTER, _POINTER)),
    "bpf_obj_pin": (_INT, (_INT, _TEXT)),
    "bpf_obj_get": (_INT, (_TEXT,)),
    "bpf_link_create": (_INT, (_INT, _INT, _INT, _POINTER)),
    "bpf_link_update": (_INT, (_INT, _INT, _POINTER)),
    "bpf_tc_hook_create": (_INT, (_POINTER,)),
    "bpf_tc_hook_destroy": (_INT, (_POINTER,)),
    "bpf_tc_attach": (_INT, (_POINTER, _POINTER)),
    "bpf_tc_query": (_INT, (_POINTER, _POINTER)),
    "bpf_tc_detach": (_INT, (_POINTER, _POINTER)),
    "bpf_prog_test_run_opts": (_INT, (_INT, _POINTER)),
    "libbpf_num_possible_cpus": (_INT, ()),
    "libbpf_probe_bpf_helper": (_INT, (_INT, _INT, _POINTER)),
    "libbpf_set_print": (_POINTER, (_POINTER,)),
}


@cache
def library() -> Any:
    """libbpf, its functions typed."""
    try:
        loaded = ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError as error:
        raise TargetError(
            "libbpf.so.1 is not installed: on Debian and Ubuntu, apt-get install libbpf1"
        ) from error
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(loaded, name, None)
        if function is None:
            raise TargetError(f"libbpf.so.1 has no {name}: version 1.1 or later is needed")
        function.restype, function.argtypes = result, arguments
    loaded.libbpf_set_print(None)
    return loaded


def reason(result: int) -> str:
    """What a negative result (or errno) of libbpf says."""
    return os.strerror(-result if result < 0 else ctypes.get_errno())


def run_program(fd: int, options: TestRunOptions, failure: str) -> int:
    """Run a program (BPF_PROG_TEST_RUN) and return its result; `failure`: what the error says."""
    failed = library().bpf_prog_test_run_opts(fd, ctypes.byref(options))
    if failed:
        raise TargetError(f"{failure}: {reason(failed)}")
    return int(options.retval)


@contextmanager
def captured_log() -> Iterator[list[str]]:
    """What libbpf and the kernel's verifier say within; the last lines are kept."""
    lines: list[str] = []
    libc = ctypes.CDLL(None)

    def keep(_level: int, form: bytes, arguments: int) -> int:
        text = ctypes.create_string_buffer(65536)
        libc.vsnprintf(text, ctypes.c_size_t(len(text)), form, ctypes.c_void_p(arguments))
        for line in text.value.decode(errors="replace").splitlines():
            if line.strip():
                lines.append(line.strip())
        del lines[:-_LOG_LINES_KEPT]
        return 0

    callback = _PRINT(keep)
    library().libbpf_set_print(ctypes.cast(callback, ctypes.c_void_p))
    try:
        yield lines
    finally:
        library().libbpf_set_print(None)


def has_helper(program_type: int, helper: int) -> bool:
    """Whether this kernel offers a helper to programs of a type."""
    return int(library().libbpf_probe_bpf_helper(program_type, helper, None)) == 1


def descriptor_info(fd: int) -> dict[str, str]:
    """What the kernel says about a map, a program or a link that is open here."""
    text = Path(f"/proc/self/fdinfo/{fd}").read_text()
    pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {name: value.strip() for name, value in pairs}
