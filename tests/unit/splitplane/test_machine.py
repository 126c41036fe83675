# SPDX-License-Identifier: Apache-2.0
"""What a machine lacks is one line that says what to do, and exit code 4."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from admin.errors import ConfigError, MachineError
from splitplane import machine
from support.require import require


class Uname:
    """As os.uname answers."""

    def __init__(self, release: str) -> None:
        self.release = release


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not root, whoever runs the tests."""
    monkeypatch.setattr(os, "geteuid", lambda: 65534)


@pytest.mark.usefixtures("nobody")
def test_not_root_says_what_for_and_what_to_do() -> None:
    with pytest.raises(MachineError, match="a laboratory needs root: run it with sudo") as caught:
        machine.require_root("a laboratory")
    assert caught.value.exit_code == 4


def test_missing_programs_are_named_with_their_packages() -> None:
    with pytest.raises(MachineError, match=r"not installed: nosuch; apt-get install nosuch-tools$"):
        machine.require_programs({"nosuch": "nosuch-tools", "sh": "dash"})
    machine.require_programs({"sh": "dash"})


@pytest.mark.parametrize("release", ["5.14.0-1-amd64", "4.19.0", "3.10"])
def test_an_old_kernel_is_refused(monkeypatch: pytest.MonkeyPatch, release: str) -> None:
    monkeypatch.setattr(os, "uname", lambda: Uname(release))
    with pytest.raises(MachineError, match=r"for the bpf target; it needs 5\.15 or later$"):
        machine.require_bpf()


@pytest.mark.parametrize("release", ["5.15.0", "6.1.0-37-amd64", "6.18-rc1", "6.6+", "10.0"])
def test_a_kernel_without_btf_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, release: str
) -> None:
    monkeypatch.setattr(os, "uname", lambda: Uname(release))
    monkeypatch.setattr(machine, "KERNEL_BTF", tmp_path / "vmlinux")
    with pytest.raises(MachineError, match="CONFIG_DEBUG_INFO_BTF=y"):
        machine.require_bpf()


@pytest.mark.usefixtures("nobody")
def test_no_bpffs_and_not_root_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "KERNEL_BTF", tmp_path)
    monkeypatch.setattr(machine, "BPFFS", tmp_path)
    with pytest.raises(MachineError, match=r"mounting .* needs root"):
        machine.require_bpf()


def test_a_plain_folder_is_no_bpffs(tmp_path: Path) -> None:
    assert machine.is_bpffs(tmp_path) is False
    assert machine.is_bpffs(tmp_path / "none") is False


def test_interfaces_that_are_not_here_are_all_named() -> None:
    machine.require_interfaces(["lo", "lo"], Path("dfs.yaml"))
    with pytest.raises(ConfigError) as caught:
        machine.require_interfaces(["nosuch0", "lo", "nosuch1"], Path("dfs.yaml"))
    first, second = caught.value.problems
    assert first.startswith("dfs.yaml: this machine has no interface nosuch0; it has: ")
    assert "nosuch1" in second


def test_interfaces_that_are_gone_are_left_out() -> None:
    assert machine.present_interfaces(["gone0", "lo", "gone1"]) == ("lo",)


def test_pins_on_a_file_system_of_this_mount_namespace_alone_are_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert machine.pin_advice(tmp_path / "splitplane" / "dfs") == []
    assert machine.pin_advice(Path("relative") / "dfs") == []
    # as another process sees it: the folder is elsewhere, or on another file system
    monkeypatch.setattr(machine, "_ancestors", lambda: iter((os.getpid(),)))
    monkeypatch.setattr(machine, "PROC", tmp_path)
    (advice,) = machine.pin_advice(Path("/proc/sys/none"))
    assert advice.startswith("/proc/sys is a file system of a mount namespace of its own")
    (tmp_path / str(os.getpid()) / "root" / "proc" / "sys").mkdir(parents=True)
    assert len(machine.pin_advice(Path("/proc/sys/none"))) == 1


@pytest.mark.parametrize("wanted", [0, 1])
def test_a_process_that_made_its_own_bpf_file_system_is_told(wanted: int) -> None:
    if os.geteuid() != 0 or not machine.is_bpffs(machine.BPFFS):
        require("dataplane", "needs root and a mounted BPF file system")
    ask = "import pathlib, splitplane.machine as m; print(len(m.pin_advice(m.BPFFS / 'a' / 'b')))"
    mount = f"mount -t bpf bpf {machine.BPFFS} && " * wanted
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", f'{mount}"$0" -c "$1"; true', sys.executable, ask],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{wanted}\n", done.stderr
