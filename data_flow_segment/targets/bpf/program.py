# SPDX-License-Identifier: Apache-2.0
"""Loading the compiled object: maps are pinned, or found pinned and used again or carried over."""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from data_flow_segment.targets.bpf.kept import KeptPrograms
from data_flow_segment.targets.bpf.libbpf import (
    HELPER_XDP_LOAD_BYTES,
    PROG_TYPE_XDP,
    captured_log,
    has_helper,
    library,
    reason,
)
from data_flow_segment.targets.bpf.maps import Map, Mirror
from data_flow_segment.targets.bpf.pinned import object_maps
from data_flow_segment.targets.bpf.upgrade import Upgrade
from data_flow_segment.targets.contract import TargetError

EVENTS_SIZE: Final = 16 << 20
REPORTS_SIZE: Final = 16 << 20
_XDP: Final = "dfs_xdp"
GRANT_MAPS: Final = (
    "grants", "grant_slots", "grant_rings", "grant_nodes", "grant_tables", "grant_clients",
    "leases",
)  # fmt: skip


class Program:
    """The loaded object.  `xdp`: whether dfs_xdp is there."""

    def __init__(
        self,
        artifact: Path,
        pin_path: Path,
        flow_capacity: int,
        present: Mapping[str, int] = MappingProxyType({}),
        needless: Collection[str] = (),
    ) -> None:
        """`present`: of some maps, how many elements they will hold at once; `needless`: programs
        that will be attached nowhere, and so are not loaded."""
        if not artifact.exists():
            raise TargetError(f"{artifact} is missing: compile it with `make bpf`")
        self._needless = set(needless)
        if not has_helper(PROG_TYPE_XDP, HELPER_XDP_LOAD_BYTES):  # before Linux 5.18
            self._needless.add(_XDP)
        self.xdp = _XDP not in self._needless
        self._kept = KeptPrograms(pin_path, artifact)
        self._wanted: Collection[str] = ()
        with captured_log() as log:
            self._object = library().bpf_object__open_file(str(artifact).encode(), None)
            if not self._object:
                raise TargetError(f"{artifact}: cannot be opened: {_tail(log)}")
            try:
                self._facts = object_maps(self._object)
                self._upgrade = Upgrade(pin_path, self._facts, flow_capacity, present)
                self._load_and_carry(log)
            except TargetError:
                self._kept.close()
                library().bpf_object__close(self._object)
                raise
        self.flow_capacity = self._upgrade.flow_capacity
        self.flows = self._map("flows")
        self.virtual_servers = self._map("virtual_servers")
        self.addresses = self._map("addresses")
        self.local_addresses = Mirror(self._map("local_addresses"))
        self.interfaces = Mirror(self._map("interfaces"))
        self.nodes = Mirror(self._map("node_places"))
        self.next_hops = self._map("next_hops")
        self.asleep = self._map("asleep")
        self.meta = self._map("meta")
        self.counters = self._map("counters", library().libbpf_num_possible_cpus())
        self.cookies = self._map("cookies")
        self.controls = self._map("controls")
        self.control_groups = self._map("control_groups")
        self.windows = self._map("windows")
        self.refused = self._map("refused")
        self.renewed = self._map("renewed")
        self.asked = self._map("asked")
        self.grant_maps = {name: self._map(name) for name in GRANT_MAPS}
        self.events_fd = self._fd("events")
        self.reports_fd = self._fd("reports")

    def program_fd(self, name: str) -> int:
        """Of dfs_tc, dfs_xdp, dfs_back, ..."""
        kept = self._kept.fd(name)
        if kept is not None:
            return kept
        found = library().bpf_object__find_program_by_name(self._object, name.encode())
        return int(library().bpf_program__fd(found))

    def close(self) -> None:
        self._upgrade.give_up()
        self._kept.close()
        library().bpf_object__close(self._object)

    @property
    def is_upgrading(self) -> bool:
        """Whether an earlier program's maps are still to be merged in, after the attachment."""
        return self._upgrade.is_needed

    def finish_upgrade(self) -> None:
        """The program is attached everywhere."""
        self._upgrade.finish(self.program_fd)

    def keep(self) -> None:
        """For the next agent: all is attached, and no upgrade is to be finished."""
        fds = {name: self.program_fd(name) for name in self._wanted}
        self._kept.keep(fds, self._upgrade.pins.values())

    def _load_and_carry(self, log: list[str]) -> None:
        try:
            self._load(log)
            self._upgrade.begin()
        except TargetError:
            self._upgrade.give_up()
            raise

    def _load(self, log: list[str]) -> None:
        for name, pin in self._upgrade.pins.items():
            found = library().bpf_object__find_map_by_name(self._object, name.encode())
            if name in self._upgrade.entries:
                library().bpf_map__set_max_entries(found, self._upgrade.entries[name])
            library().bpf_map__set_pin_path(found, str(pin).encode())
        programs = dict(self._programs())
        self._wanted = programs.keys() - self._needless
        is_kept = self._kept.open(self._wanted, self._upgrade.pins.values())
        for name, program in programs.items():
            if is_kept or name in self._needless:
                library().bpf_program__set_autoload(program, False)
        failed = library().bpf_object__load(self._object)
        if not failed:
            return
        if -failed == errno.EPERM:
            raise TargetError("the kernel refuses to load BPF programs: run as root")
        raise TargetError(f"the kernel refuses the program: {reason(failed)}: {_tail(log)}")

    def _programs(self) -> Iterator[tuple[str, int]]:
        """Those that would be loaded, by their names."""
        found = None
        while found := library().bpf_object__next_program(self._object, found):
            if library().bpf_program__autoload(found):
                yield library().bpf_program__name(found).decode(), found

    def _fd(self, name: str) -> int:
        found = library().bpf_object__find_map_by_name(self._object, name.encode())
        return int(library().bpf_map__fd(found))

    def _map(self, name: str, copies: int = 1) -> Map:
        facts = self._facts[name]
        return Map(name, self._fd(name), facts.key_size, facts.value_size * copies)


def _tail(log: list[str]) -> str:
    said = [line for line in log if "pinned map" not in line]
    return " | ".join(said[-6:]) or "no reason given"
