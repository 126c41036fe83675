# SPDX-License-Identifier: Apache-2.0
"""What this machine must have before a DFS or a laboratory starts; each lack is one clear line."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from admin.errors import ConfigError, MachineError

BPFFS: Final = Path("/sys/fs/bpf")
PROC: Final = Path("/proc")
KERNEL_BTF: Final = Path("/sys/kernel/btf/vmlinux")
KERNEL_MINIMUM: Final = (5, 15)
_BPF_FS_MAGIC: Final = "cafe4a11"


def require_root(why: str) -> None:
    """End with a clear line unless this is root."""
    if os.geteuid() != 0:
        raise MachineError(f"{why} needs root: run it with sudo")


def require_programs(packages: dict[str, str]) -> None:
    """*packages*: program -> the package of Debian and Ubuntu that brings it."""
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    missing = [program for program in packages if shutil.which(program, path=path) is None]
    if missing:
        names = " ".join(sorted({packages[program] for program in missing}))
        raise MachineError(f"not installed: {', '.join(missing)}; apt-get install {names}")


def require_bpf() -> None:
    """A kernel that is new enough and has BTF, and a mounted bpffs (which root gets mounted)."""
    release = os.uname().release
    numbers = re.match(r"(\d+)\.(\d+)", release)
    if numbers is not None and (int(numbers[1]), int(numbers[2])) < KERNEL_MINIMUM:
        least = ".".join(map(str, KERNEL_MINIMUM))
        raise MachineError(
            f"Linux {release} is too old for the bpf target; it needs {least} or later"
        )
    if not KERNEL_BTF.exists():
        raise MachineError(
            f"{KERNEL_BTF} does not exist; boot a kernel with CONFIG_DEBUG_INFO_BTF=y, or use"
            " target: memory"
        )
    if is_bpffs(BPFFS):
        return
    require_root(f"mounting {BPFFS}")
    done = subprocess.run(
        ["mount", "-t", "bpf", "bpf", str(BPFFS)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        said = done.stderr.strip().partition("\n")[0]
        raise MachineError(
            f"{BPFFS} is not a bpf file system and could not be mounted: {said};"
            f" run mount -t bpf bpf {BPFFS} (in a container: share the host's)"
        )


def is_bpffs(path: Path) -> bool:
    """Whether a bpf file system is mounted at *path*."""
    done = subprocess.run(
        ["stat", "--file-system", "--format=%t", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() == _BPF_FS_MAGIC


def present_interfaces(names: Iterable[str]) -> tuple[str, ...]:
    """Those of *names* that are here."""
    here = {name for _, name in socket.if_nameindex()}
    return tuple(name for name in names if name in here)


def require_interfaces(names: Iterable[str], config: Path) -> None:
    """Interfaces that the configuration names must be here."""
    here = sorted(name for _, name in socket.if_nameindex())
    missing = [name for name in dict.fromkeys(names) if name not in here]
    if missing:
        raise ConfigError(
            [
                f"{config}: this machine has no interface {name}; it has: {', '.join(here)}"
                for name in missing
            ]
        )


def forwarding_advice() -> list[str]:
    """What is to be set so that the kernel routes; empty when it does."""
    wanted = {
        "net.ipv4.ip_forward": Path("/proc/sys/net/ipv4/ip_forward"),
        "net.ipv6.conf.all.forwarding": Path("/proc/sys/net/ipv6/conf/all/forwarding"),
    }
    return [
        f"{name} is 0: the kernel does not route packets; run sysctl -w {name}=1"
        for name, path in wanted.items()
        if path.exists() and path.read_text().strip() == "0"
    ]


def pin_advice(pin_path: Path) -> list[str]:
    """What is to be done so that pins outlive this process; empty when they do.

    They do not on a file system that no process has which this one comes from: it goes with the
    mount namespace that one of them made.
    """
    pin_path = pin_path.absolute()
    folder = next(path for path in (pin_path, *pin_path.parents) if path.exists())
    mine = folder.stat().st_dev
    for pid in _ancestors():
        try:
            device = (PROC / str(pid) / "root" / folder.relative_to("/")).stat().st_dev
        except FileNotFoundError:
            device = None
        except OSError:
            continue  # another user's
        if device != mine:
            return [
                f"{folder} is a file system of a mount namespace of its own (`ip netns exec` makes"
                " one): the data path ends with this agent. To keep it, enter the network namespace"
                " with nsenter --net=/run/netns/NAME"
            ]
    return []


def _ancestors() -> Iterator[int]:
    """The processes that this one comes from, as far as can be seen."""
    pid = os.getppid()
    while pid:
        yield pid
        try:
            status = (PROC / str(pid) / "status").read_text()
        except OSError:
            return
        found = re.search(r"^PPid:\s*(\d+)$", status, re.MULTILINE)
        pid = int(found[1]) if found else 0
