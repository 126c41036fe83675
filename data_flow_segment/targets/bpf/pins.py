# SPDX-License-Identifier: Apache-2.0
"""The folder where maps and links are pinned, and the agent that it belongs to."""

from __future__ import annotations

import ctypes
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from data_flow_segment.targets.contract import TargetError

UPGRADE_FOLDER: Final = "upgrade"  # in the pin path, while an upgrade lasts
CLSACT_MARK: Final = "clsact-"  # and an interface's number: a folder, where a link cannot be pinned
NETNS_MARK: Final = "netns-"  # and the inode of the network namespace that the data path is in
_BPF_FS_MAGIC: Final = 0xCAFE4A11


def prepare_pin_path(path: Path) -> None:
    """Make the folder for the pins, or say why it cannot be."""
    if os.geteuid() != 0:
        raise TargetError("the bpf target needs root (CAP_BPF and CAP_NET_ADMIN): use sudo")
    parent = path
    while not os.path.lexists(parent) and "." not in parent.name:
        parent = parent.parent
    if not os.path.lexists(parent) and _file_system_magic(parent.parent) == _BPF_FS_MAGIC:
        raise TargetError(f"pin_path {path}: a BPF file system allows no dot in a name")
    if _file_system_magic(parent) != _BPF_FS_MAGIC:
        raise TargetError(
            f"pin_path {path} is not on a BPF file system: mount one with"
            " `mount -t bpf bpf /sys/fs/bpf`, or choose a path below one"
        )
    if path.is_mount():
        raise TargetError(
            f"pin_path {path} is a whole BPF file system: give this DFS a folder of its own in it,"
            f" such as {path}/splitplane/dfs"
        )
    path.mkdir(parents=True, exist_ok=True)
    # `remove_folder` would take it away, and with it whatever another DFS or program has pinned
    strangers = [pin.name for pin in path.iterdir() if pin.is_dir() and not _is_ours(pin.name)]
    if strangers:
        raise TargetError(
            f"pin_path {path} has the folder {min(strangers)} in it, which is none of this DFS's:"
            " give this DFS a folder of its own"
        )


def _is_ours(folder: str) -> bool:
    return folder == UPGRADE_FOLDER or folder.startswith((CLSACT_MARK, NETNS_MARK))


def refuse_another_namespace(path: Path, is_attached: Callable[[], bool]) -> None:
    """Raise TargetError if the pins are those of a data path that still runs in another network
    namespace: adopted, its table would serve two places, and its links would be dropped.
    `is_attached`: whether a link that is pinned here has an interface."""
    others = [mark for mark in path.glob(f"{NETNS_MARK}*") if mark.name != _own_mark()]
    if others and (is_attached() or any(map(_lives, others))):
        raise TargetError(
            f"pin_path {path} has the data path of a DFS in another network namespace"
            f" ({others[0].name.removeprefix(NETNS_MARK)}), which goes on without its agent: give"
            " this DFS another pin_path, or run `splitplane dfs --detach` there"
        )


def mark_namespace(path: Path) -> None:
    """The data path is in this one."""
    for mark in path.glob(f"{NETNS_MARK}*"):
        if mark.name != _own_mark():
            mark.rmdir()
    (path / _own_mark()).mkdir(exist_ok=True)


def is_of_another_namespace(path: Path) -> bool:
    """Whether the data path of these pins is in another network namespace than this one, where
    interfaces have the same numbers; an earlier release's pins do not say."""
    marks = [mark.name for mark in path.glob(f"{NETNS_MARK}*")]
    return bool(marks) and _own_mark() not in marks


def _own_mark() -> str:
    return f"{NETNS_MARK}{Path('/proc/self/ns/net').stat().st_ino}"


def _lives(mark: Path) -> bool:
    """Whether a namespace has a name here: of a filter (clsact) no link says where it is."""
    if not any(mark.parent.glob(f"{CLSACT_MARK}*")):
        return False
    number = int(mark.name.removeprefix(NETNS_MARK))
    named = Path("/run/netns")
    return named.is_dir() and any(each.stat().st_ino == number for each in named.iterdir())


def remove_if_empty(path: Path) -> None:
    """After a start that failed before it pinned anything."""
    if path.is_dir() and not any(path.iterdir()):
        path.rmdir()


def remove_folder(path: Path) -> None:
    """And all pins in it."""
    # without `meta` what is left is no table that a next agent would adopt
    pins = sorted(path.iterdir(), key=lambda pin: pin.name != "meta") if path.is_dir() else []
    for pin in pins:
        if pin.is_dir():
            remove_folder(pin)
        else:
            pin.unlink()
    if path.is_dir():
        path.rmdir()


class Lock:
    """One agent a pin path, in whichever network namespace: the kernel holds the lock of a
    descriptor exactly as long as its process lives."""

    def __init__(self, pin_path: Path) -> None:
        self._fd = os.open(pin_path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._fd)
            raise TargetError(
                f"another agent runs with pin_path {pin_path}: stop it, or give this one another"
            ) from error

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


def _file_system_magic(path: Path) -> int:
    buffer = ctypes.create_string_buffer(256)
    if ctypes.CDLL(None).statfs(str(path).encode(), buffer):
        return 0
    return int.from_bytes(buffer.raw[:4], "little")
