# SPDX-License-Identifier: Apache-2.0
"""Loading the compiled object: maps are pinned, or found pinned and used again."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Final

from data_flow_segment.targets.bpf.layout import (
    FLOW,
    FLOW_KEY,
    INTERFACE,
    META,
    VIRTUAL_SERVER,
    VIRTUAL_SERVER_KEY,
)
from data_flow_segment.targets.bpf.libbpf import (
    HELPER_XDP_LOAD_BYTES,
    PROG_TYPE_XDP,
    captured_log,
    has_helper,
    library,
    map_info,
    reason,
)
from data_flow_segment.targets.bpf.maps import Map
from data_flow_segment.targets.contract import TargetError

_SHARED_MAPS: Final = (
    "flows",
    "virtual_servers",
    "addresses",
    "local_addresses",
    "interfaces",
    "fragments",
    "meta",
    "counters",
    "events",
)
EVENTS_SIZE: Final = 16 << 20


class Program:
    """The loaded object.  `xdp` is False on kernels whose XDP lacks a helper (before 5.18)."""

    def __init__(self, artifact: Path, pin_path: Path, flow_capacity: int) -> None:
        if not artifact.exists():
            raise TargetError(f"{artifact} is missing: compile it with `make bpf`")
        self.xdp = has_helper(PROG_TYPE_XDP, HELPER_XDP_LOAD_BYTES)
        self.flow_capacity = _pinned_capacity(pin_path / "flows") or flow_capacity
        with captured_log() as log:
            self._object = library().bpf_object__open_file(str(artifact).encode(), None)
            if not self._object:
                raise TargetError(f"{artifact}: cannot be opened: {_tail(log)}")
            try:
                self._load(pin_path, log)
            except TargetError:
                library().bpf_object__close(self._object)
                raise
        processors = library().libbpf_num_possible_cpus()
        self.flows = self._map("flows", FLOW_KEY.size, FLOW.size)
        self.virtual_servers = self._map(
            "virtual_servers", VIRTUAL_SERVER_KEY.size, VIRTUAL_SERVER.size
        )
        self.addresses = self._map("addresses", 16, 4)
        self.local_addresses = self._map("local_addresses", 16, 4)
        self.interfaces = self._map("interfaces", 4, INTERFACE.size)
        self.meta = self._map("meta", 4, META.size)
        self.counters = self._map("counters", 4, 8 * processors)
        self.events_fd = self._fd("events")

    def program_fd(self, name: str) -> int:
        """Of dfs_tc, dfs_xdp or dfs_inject."""
        found = library().bpf_object__find_program_by_name(self._object, name.encode())
        return int(library().bpf_program__fd(found))

    def close(self) -> None:
        library().bpf_object__close(self._object)

    def _load(self, pin_path: Path, log: list[str]) -> None:
        for name in _SHARED_MAPS:
            found = library().bpf_object__find_map_by_name(self._object, name.encode())
            if not found:
                raise TargetError(f"the compiled object has no map {name}: run `make bpf`")
            if name == "flows":
                library().bpf_map__set_max_entries(found, 2 * self.flow_capacity)
            library().bpf_map__set_pin_path(found, str(pin_path / name).encode())
        if not self.xdp:
            found = library().bpf_object__find_program_by_name(self._object, b"dfs_xdp")
            library().bpf_program__set_autoload(found, False)
        failed = library().bpf_object__load(self._object)
        if not failed:
            return
        if -failed == errno.EPERM:
            raise TargetError("the kernel refuses to load BPF programs: run as root")
        if any("parameter mismatch" in line for line in log):
            raise TargetError(
                f"the maps in {pin_path} are of another version of splitplane: end its flows by"
                f" removing that folder (rm -r {pin_path}), or run that version"
            )
        raise TargetError(f"the kernel refuses the program: {reason(failed)}: {_tail(log)}")

    def _fd(self, name: str) -> int:
        found = library().bpf_object__find_map_by_name(self._object, name.encode())
        return int(library().bpf_map__fd(found))

    def _map(self, name: str, key_size: int, value_size: int) -> Map:
        return Map(name, self._fd(name), key_size, value_size)


def _pinned_capacity(path: Path) -> int | None:
    """How many flows fit into a table that is there already: it keeps its size."""
    if not path.exists():
        return None
    info = map_info(path)
    if info.get("key_size") != FLOW_KEY.size or info.get("value_size") != FLOW.size:
        raise TargetError(
            f"the flow table in {path.parent} is of another version of splitplane: end its flows"
            f" by removing that folder (rm -r {path.parent}), or run that version"
        )
    return info["max_entries"] // 2


def _tail(log: list[str]) -> str:
    said = [line for line in log if "pinned map" not in line]
    return " | ".join(said[-6:]) or "no reason given"
