# SPDX-License-Identifier: Apache-2.0
"""The small C programs beside the benchmarks, compiled when they are needed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from topology import CLIENT, MIDDLE, run

HERE = Path(__file__).resolve().parent
FIRST_SOURCE = 0x0B000000  # 11.0.0.0
WINDOW = 2048  # packets sent at once; what a ring buffer and an agent hold
ON_THE_WAY = 1024  # of them, when the next ones are sent
PATIENCE_S = 0.5  # without a new flow: the rest was lost
AGAIN_PER_S = 100_000  # when all are sent once more for those that were lost
TIMES = 20
UNCOUNTED = 16  # flows that ended meanwhile, of the request that showed that the middle is up


def compiled(source: str, scratch: Path, *flags: str) -> Path:
    """The program made of a C file of this folder."""
    program = scratch / Path(source).stem
    run("clang", "-O2", "-Wall", "-Werror", *flags, str(HERE / source), "-o", str(program))
    return program


def external_mac() -> str:
    """Where the client's frames go."""
    return str(
        json.loads(run("ip", "-json", "link", "show", "ext0", namespace=MIDDLE))[0]["address"]
    )


def fill(
    generator: Path, address: str, port: int, wanted: int, flow_count: Callable[[], int]
) -> None:
    """Make a flow of *wanted* clients each, by a datagram of each that really goes through."""
    mac = external_mac()

    def send(first: int, count: int, rate: int) -> None:
        source = ".".join(map(str, (FIRST_SOURCE + first).to_bytes(4, "big")))
        run(str(generator), "eth0", mac, "udp", address, str(port), source, str(count), str(rate),
            namespace=CLIENT)  # fmt: skip

    for first in range(0, wanted, WINDOW):
        there, size = flow_count(), min(WINDOW, wanted - first)
        send(first, size, 0)
        _reaches(there + size - ON_THE_WAY, flow_count)
    for _ in range(TIMES):
        if _reaches(wanted - UNCOUNTED, flow_count):
            return
        send(0, wanted, AGAIN_PER_S)
    raise SystemExit(f"the table has {flow_count():,} flows, not {wanted:,}")


def _reaches(wanted: int, flow_count: Callable[[], int]) -> bool:
    latest, rose = flow_count(), time.monotonic()
    while latest < wanted:
        if time.monotonic() - rose > PATIENCE_S:
            return False
        time.sleep(0.005)
        now = flow_count()
        if now > latest:
            latest, rose = now, time.monotonic()
    return True
