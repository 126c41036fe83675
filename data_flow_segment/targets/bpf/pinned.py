# SPDX-License-Identifier: Apache-2.0
"""What the kernel says of pinned maps, and libbpf of those that an object would make."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from data_flow_segment.targets.bpf.btf import Types
from data_flow_segment.targets.bpf.carry import FATES, Facts, counters_of
from data_flow_segment.targets.bpf.libbpf import MapInfo, ProgramInfo, library, reason
from data_flow_segment.targets.contract import TargetError


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """The descriptor of a pinned map, within."""
    fd = library().bpf_obj_get(str(path).encode())
    if fd < 0:
        raise TargetError(f"{path}: cannot open the pinned map: {reason(fd)}")
    try:
        yield fd
    finally:
        os.close(fd)


def pinned_maps(folder: Path) -> dict[str, Facts]:
    """Those of a program's maps that are pinned there."""
    found = {}
    for name in FATES:
        if (folder / name).exists():
            with opened(folder / name) as fd:
                found[name] = _facts(_info(fd, MapInfo))
    return found


def map_id(path: Path) -> int:
    """The kernel's number of a pinned map."""
    with opened(path) as fd:
        return int(_info(fd, MapInfo).id)


def map_ids(folder: Path) -> set[int]:
    """The kernel's numbers of the maps that are pinned in a folder."""
    return set(map(map_id, folder.iterdir())) if folder.is_dir() else set()


def maps_of_program(number: int) -> set[int]:
    """The numbers of the maps that a loaded program uses; none if it is gone."""
    fd = library().bpf_prog_get_fd_by_id(number)
    if fd < 0:
        return set()
    try:
        count = _info(fd, ProgramInfo).nr_map_ids
        ids = (ctypes.c_uint32 * count)()
        _info(fd, ProgramInfo, nr_map_ids=count, map_ids=ctypes.addressof(ids))
        return set(ids)
    finally:
        os.close(fd)


def program_name(number: int) -> str:
    """What a loaded program is called; nothing if it is gone."""
    fd = library().bpf_prog_get_fd_by_id(number)
    if fd < 0:
        return ""
    try:
        return bytes(_info(fd, ProgramInfo).name).decode(errors="replace")
    finally:
        os.close(fd)


def object_maps(loaded: int) -> dict[str, Facts]:
    """Those that an object would make."""
    call = library()
    size = ctypes.c_uint32()
    btf = call.bpf_object__btf(loaded)
    raw = call.btf__raw_data(btf, ctypes.addressof(size)) if btf else None
    types = Types(ctypes.string_at(raw, size.value)) if raw else None
    found = {}
    for name in FATES:
        entry = call.bpf_object__find_map_by_name(loaded, name.encode())
        if not entry:
            raise TargetError(f"the compiled object has no map {name}: run `make bpf`")
        found[name] = _of(
            types,
            (
                call.bpf_map__type(entry),
                call.bpf_map__key_size(entry),
                call.bpf_map__value_size(entry),
                call.bpf_map__max_entries(entry),
                call.bpf_map__map_flags(entry),
            ),
            call.bpf_map__btf_key_type_id(entry),
            call.bpf_map__btf_value_type_id(entry),
        )
    return found


def _info(fd: int, kind: type[Any], **fields: int) -> Any:
    info = kind(**fields)
    size = ctypes.c_uint32(ctypes.sizeof(info))
    failed = library().bpf_obj_get_info_by_fd(fd, ctypes.addressof(info), ctypes.addressof(size))
    if failed:
        raise TargetError(f"the kernel does not describe a map or program: {reason(failed)}")
    return info


def _facts(info: Any) -> Facts:
    parameters = (info.type, info.key_size, info.value_size, info.max_entries, info.map_flags)
    types = _kernel_types(info.btf_id) if info.btf_id else None
    return _of(types, parameters, info.btf_key_type_id, info.btf_value_type_id)


def _of(
    types: Types | None, parameters: tuple[int, int, int, int, int], key: int, value: int
) -> Facts:
    counters = counters_of({} if types is None else types.enumerators("counter"))
    if types is None or not key or not value:
        return Facts(*parameters, key=None, value=None, counters=counters)
    return Facts(*parameters, key=types.shape(key), value=types.shape(value), counters=counters)


@lru_cache(maxsize=4)
def _kernel_types(number: int) -> Types | None:
    """One object's types, which all of its maps share."""
    call = library()
    btf = call.btf__load_from_kernel_by_id(number)
    if not btf:
        return None
    size = ctypes.c_uint32()
    try:
        raw = call.btf__raw_data(btf, ctypes.addressof(size))
        return Types(ctypes.string_at(raw, size.value)) if raw else None
    finally:
        call.btf__free(btf)
