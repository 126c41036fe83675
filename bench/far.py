# SPDX-License-Identifier: Apache-2.0
"""Clients that are far away: a spliced connection beside a direct one where segments are lost and late.

    sudo python bench/far.py [--seconds 10] [--rounds 5] [--connections 12] [--loss 0.01] [--round-trip-ms 100]

The network is that of bench/content.py; between the client and the device a process delays and drops TCP
segments (splitplane/lab/bad_link.py), the same ones by their number in each round.  How fast a connection
is then is decided by how its ends recover, which a device that changes numbers can spoil (SACK blocks,
timestamps, windows).
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from content import START_S, server, transfer
from content_middles import CONTENT, middles
from natives import compiled
from topology import CLIENT, SERVER, need, process, run, topology, wait_for_http

from splitplane.lab import bad_link
from splitplane.lab.namespaces import Namespace

LINK = "spb-link"
DEVICES = ("routing", "splitplane-plain", "splitplane")  # a proxy recovers by its own TCP
ADDRESSES = (
    "addr add 10.90.1.2/24 dev eth0", "link set eth0 up", "route add default via 10.90.1.1",
)  # fmt: skip


@contextmanager
def far_link() -> Iterator[tuple[str, str]]:
    """The client's link goes through a namespace of its own; the interfaces there."""
    client, link = Namespace(CLIENT), Namespace(LINK)
    link.delete()
    try:
        ends = bad_link.insert(client, link, ADDRESSES)
        for host in (client, Namespace(SERVER)):
            bad_link.finish_segments(host)
        # BBR, where it is the default, does not mind losses; Reno is in every kernel
        run("sysctl", "-qw", "net.ipv4.tcp_congestion_control=reno", namespace=SERVER)
        yield ends
    finally:
        link.delete()


def measure(name: str, scratch: Path, ends: tuple[str, str], options: argparse.Namespace) -> float:
    """Megabits per second of all connections together."""
    words = f"drop={options.loss},seed=1"
    moving = bad_link.command(ends, words, options.round_trip_ms / 2)
    with (
        process(*moving, namespace=LINK, log=scratch / "link.log"),
        middles()[name](scratch, CONTENT) as running,
    ):
        wait_for_http(running.address, running.port, namespace=CLIENT, log=scratch / "middle.log",
                      seconds=START_S)  # fmt: skip
        took = transfer(scratch, running, options.seconds, options.connections, "close")
    if took.failed:
        print(f"{name}: {took.failed} exchanges failed", file=sys.stderr)
    return took.gbit_per_s * 1000


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=12)
    parser.add_argument("--loss", type=float, default=0.01)
    parser.add_argument("--round-trip-ms", type=float, default=100)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    need("nginx", "curl", "clang", "ethtool")
    found: dict[str, list[float]] = {name: [] for name in DEVICES}
    with topology() as scratch, far_link() as ends:
        compiled("objects.c", scratch, "-pthread")
        with server(scratch):
            for _ in range(options.rounds):
                for name, rounds in found.items():
                    rounds.append(measure(name, scratch, ends, options))
                    print(f"{name}: {rounds[-1]:.2f} Mbit/s", file=sys.stderr)
    direct = found["routing"]
    print(f"\n{options.connections} connections, {options.loss:.1%} loss each way, {options.round_trip_ms:g} ms;"
          f" medians of {options.rounds}; load average {os.getloadavg()[1]:.0f}\n")  # fmt: skip
    print("| device under test | Mbit/s | of routing in its round |\n| --- | ---: | ---: |")
    for name, rounds in found.items():
        ratios = [one / other for one, other in zip(rounds, direct, strict=True)]
        print(f"| {name} | {statistics.median(rounds):.2f} | {statistics.median(ratios):.2f} |")


if __name__ == "__main__":
    main()
