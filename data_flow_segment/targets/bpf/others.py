# SPDX-License-Identifier: Apache-2.0
"""Data paths of other agents.  Two on one interface would both handle every packet, and each agent
would believe that its program alone does: the second one is refused."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from data_flow_segment.targets.bpf.interfaces import Device
from data_flow_segment.targets.bpf.libbpf import descriptor_info, library
from data_flow_segment.targets.bpf.links import clsact_program, programs, tc_programs
from data_flow_segment.targets.bpf.pinned import program_name
from data_flow_segment.targets.bpf.pins import CLSACT_MARK, is_of_another_namespace
from data_flow_segment.targets.contract import TargetError

_NAMES: Final = frozenset(("dfs_tc", "dfs_xdp"))  # of bpf/dfs.bpf.c


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Of all agents in this network namespace, one looks and attaches at a time."""
    fd = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def refuse_others(devices: Iterable[Device], pin_path: Path) -> None:
    """Raise TargetError if a data path of another pin path is on one of the interfaces."""
    own: set[int] | None = None
    for device in devices:
        for number in sorted(tc_programs(device.ifindex) | {device.xdp_program}):
            if not number or program_name(number) not in _NAMES:
                continue
            if own is None:
                own = programs(pin_path)
            if number not in own:
                raise TargetError(_complaint(device, number))


def _complaint(device: Device, number: int) -> str:
    owner = _pin_path_of(number, device.ifindex)
    if owner is None:
        return (
            f"interface {device.name}: program {number}, {program_name(number)}, is attached there,"
            " another data path of splitplane whose pins are not below a BPF file system that is"
            " mounted here.  Detach it first: `bpftool net` lists it"
        )
    return (
        f"interface {device.name}: the data path of another DFS is attached there, with pin_path"
        f" {owner}.  Use that pin_path to adopt it, stop that DFS and run `splitplane dfs --detach`"
        " with its configuration, or choose other interfaces"
    )


def _pin_path_of(number: int, ifindex: int) -> Path | None:
    for folder, pin in _pins():
        if pin.startswith("link-"):
            fd = library().bpf_obj_get(os.fsencode(folder / pin))
            if fd < 0:
                continue
            runs = descriptor_info(fd).get("prog_id")
            os.close(fd)
            if runs == str(number):
                return folder
        elif (
            pin == f"{CLSACT_MARK}{ifindex}"
            and not is_of_another_namespace(folder)
            and number in clsact_program(ifindex)
        ):
            return folder
    return None


def _pins() -> Iterator[tuple[Path, str]]:
    """Every agent's; what goes away meanwhile is passed over, as os.walk does."""
    for mount in _bpf_file_systems():
        for folder, marks, pins in os.walk(mount):
            for pin in marks + pins:
                yield Path(folder), pin


def _bpf_file_systems() -> list[Path]:
    lines = Path("/proc/self/mounts").read_text().splitlines()
    fields = (line.split() for line in lines)
    return [Path(place) for _, place, kind, *_ in fields if kind == "bpf"]
