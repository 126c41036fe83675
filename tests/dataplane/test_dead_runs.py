# SPDX-License-Identifier: Apache-2.0
"""What a test run that was killed left is taken away by the next one, and nothing else is."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

import pytest

from support.require import require
from support.targets.veth_rig import BPF_FILESYSTEM, NAMESPACES, clear_dead, missing_for_bpf, run

pytestmark = pytest.mark.dataplane


def test_what_a_process_that_is_no_more_left_goes() -> None:
    require("dataplane", missing_for_bpf())
    with subprocess.Popen(["true"]) as ended:
        pass
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as goes_on:
        take_away_of(ended.pid, goes_on.pid)


def take_away_of(dead: int, living: int) -> None:
    pins = [BPF_FILESYSTEM / f"{kind}-{dead}-1" for kind in ("contract", "dataplane")]
    namespaces = [NAMESPACES / name for name in (f"ct{dead}-1-t", f"rv-{dead}-1-far")]
    staying = BPF_FILESYSTEM / f"dataplane-{living}-1", NAMESPACES / f"rv-{living}-1"
    try:
        for pin in (*pins, staying[0]):
            pin.mkdir()
        for namespace in (*namespaces, staying[1]):
            run("ip", "netns", "add", namespace.name)
        clear_dead()
        assert [path for path in (*pins, *namespaces) if path.exists()] == []
        assert all(path.exists() for path in staying)
    finally:
        for path in (*pins, *namespaces, *staying):
            take_away(path)


def take_away(path: Path) -> None:
    if not path.exists():
        return
    if path.parent == BPF_FILESYSTEM:
        path.rmdir()
    else:
        with contextlib.suppress(RuntimeError):
            run("ip", "netns", "delete", path.name)
