# SPDX-License-Identifier: Apache-2.0
"""How soon a standby CS is told of a new flow, by the times of a capture.

    sudo python bench/copies.py [--seconds 5] [--rates 100,1000,all] [--only granted,asked]

The network of bench/compare.py, with a DFS, an active CS and a standby.  What reaches the server and what
leaves for the standby is captured, with the kernel's time of each packet.  Every flow has three times: its
SYN is at the server, its first data are, and the copy that names it leaves for the standby (REPLY or TAKEN;
what is sealed is not encrypted).  The rates are connections per second, at fixed intervals; `all`: as many as 64 clients make one after another.  Clients are on the same machine: their data
follow 0.1 ms behind their SYN.
"""

from __future__ import annotations

import argparse
import statistics
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from compare import Clients, server
from middles import CONTROL_SEGMENTS, VARIANTS, Variant, splitplane
from scenarios import SCENARIOS
from topology import (
    CLIENT,
    MIDDLE,
    SERVER,
    SERVER_PORT,
    need,
    process,
    run,
    topology,
    wait_for_http,
)

from admin.answers import CS_STATUS
from admin.client import AdminClient
from splitplane.drill.measure import percentile
from ssmb.codec import size_of
from ssmb.constants import SEAL_SIZE, TAKEN_FLOWS_MAX, Flag, MessageType
from ssmb.grants import FLOW_SIZE

KINDS: Final = {
    "granted": VARIANTS["splitplane-standby"],
    "asked": Variant(standby=True, settings=", grants: false"),
}
GRANTED_WITHIN_MS: Final = 5.0
_SYN: Final = 0x02
_TAKEN, _REPLY = int(MessageType.TAKEN), int(MessageType.REPLY)
_TAKEN_HEAD: Final = size_of(MessageType.TAKEN, 2)
# Of the datagrams of a burst (UDP_SEGMENT), which a capture shows as one packet: all but the last
_SIZES: Final = {
    _TAKEN: _TAKEN_HEAD + TAKEN_FLOWS_MAX * FLOW_SIZE + SEAL_SIZE,
    _REPLY: size_of(MessageType.REPLY, 2) + SEAL_SIZE,
}
_IPV4, _UDP = b"\x08\x00", 17

Client = tuple[bytes, int]
"""Address as a signature has it, and port."""


class Times(NamedTuple):
    """Of one flow, in seconds; None: not seen."""

    syn: float
    data: float | None
    copy: float | None


class Seen(NamedTuple):
    """What the captures show of one client's port, in order of time."""

    at: float
    what: str


def packets(path: Path) -> Iterator[tuple[float, bytes]]:
    """Yield time and IPv4 packet of a capture with nanoseconds."""
    octets = path.read_bytes()
    (magic,) = struct.unpack_from("=I", octets)
    if magic != 0xA1B23C4D:
        raise SystemExit(f"{path.name}: not a capture with nanoseconds")
    place = 24
    while place + 16 <= len(octets):
        seconds, nanoseconds, kept, _ = struct.unpack_from("=IIII", octets, place)
        frame = octets[place + 16 : place + 16 + kept]
        place += 16 + kept
        if frame[12:14] == _IPV4:
            yield seconds + nanoseconds / 1e9, frame[14:]


def towards_server(path: Path) -> Iterator[tuple[Client, Seen]]:
    """Yield SYNs and segments with data."""
    for at, packet in packets(path):
        tcp = packet[(packet[0] & 15) * 4 :]
        has_data = int.from_bytes(packet[2:4], "big") > len(packet) - len(tcp) + (tcp[12] >> 4) * 4
        if tcp[13] & _SYN or has_data:
            client = bytes(10) + b"\xff\xff" + packet[12:16], int.from_bytes(tcp[:2], "big")
            yield client, Seen(at, "syn" if tcp[13] & _SYN else "data")


def towards_standby(path: Path) -> Iterator[tuple[Client, Seen]]:
    """Yield the flows that copies name."""
    for at, packet in packets(path):
        payload = packet[(packet[0] & 15) * 4 + 8 :]
        if packet[9] != _UDP or not payload or payload[0] not in _SIZES:
            continue
        size = _SIZES[payload[0]]
        for start in range(0, len(payload), size):
            datagram = payload[start : start + size]
            if not int.from_bytes(datagram[2:4], "big") & Flag.REPLICA:
                continue
            first = _TAKEN_HEAD if datagram[0] == _TAKEN else 0
            step = FLOW_SIZE if datagram[0] == _TAKEN else size
            for flow in range(first, len(datagram) - SEAL_SIZE, step):
                if not datagram[flow + 1]:  # error_code
                    port = int.from_bytes(datagram[flow + 40 : flow + 42], "big")
                    yield (datagram[flow + 8 : flow + 24], port), Seen(at, "copy")


def flows_of(*captures: Iterator[tuple[Client, Seen]]) -> list[Times]:
    """Return the times of every flow whose SYN was seen; a port serves one after another."""
    by_client: dict[Client, list[Seen]] = {}
    for capture in captures:
        for client, seen in capture:
            by_client.setdefault(client, []).append(seen)
    flows = []
    for events in by_client.values():
        times: Times | None = None
        for at, what in sorted(events):
            if what == "syn" and (times is None or times.data is not None):
                if times is not None:
                    flows.append(times)
                times = Times(at, None, None)
            elif times is not None and what == "data" and times.data is None:
                times = times._replace(data=at)
            elif times is not None and what == "copy" and times.copy is None:
                times = times._replace(copy=at)
        if times is not None:
            flows.append(times)
    return flows


@contextmanager
def captured(namespace: str, device: str, expression: str, path: Path) -> Iterator[None]:
    """Capture while the block runs."""
    said = path.with_suffix(".log")
    command = ["tcpdump", "-i", device, "-w", str(path), "-U", "-s", "0", "-B", "65536",
               "--time-stamp-precision=nano", expression]  # fmt: skip
    with process(*command, namespace=namespace, log=said):
        deadline = time.monotonic() + 10
        while not path.exists() or not path.stat().st_size:
            if time.monotonic() > deadline:
                raise SystemExit(said.read_text())
            time.sleep(0.05)
        yield
        time.sleep(1)  # the kernel hands over what it holds


def load(address: str, port: int, rate: str, seconds: int, scratch: Path) -> None:
    """New connections, each with a request."""
    if rate == "all":
        Clients(SCENARIOS["plain"], scratch).connections(address, port, seconds)
    else:
        script = Path(__file__).with_name("legitimate.py")
        run(sys.executable, str(script), address, str(port), rate, str(seconds), namespace=CLIENT)


def row(kind: str, rate: str, flows: list[Times], seconds: int) -> str:
    """A line of the table; flows of the last moment, whose copy may not be captured, are left out."""
    last = max(flow.syn for flow in flows) - 0.1
    counted = [flow for flow in flows if flow.syn < last]
    after_ms = sorted((flow.copy - flow.syn) * 1000 for flow in counted if flow.copy is not None)
    ordered = [flow for flow in counted if flow.copy is not None and flow.data is not None]
    before = sum(flow.copy < flow.data for flow in ordered if flow.copy and flow.data)
    within = sum(each <= GRANTED_WITHIN_MS for each in after_ms)

    def at(share: float) -> str:
        return f"{percentile(after_ms, share):.2f}"

    return (
        f"| {kind} | {rate} | {len(counted) / seconds:,.0f} | {len(counted):,} | "
        f"{len(counted) - len(after_ms):,} | {statistics.median(after_ms):.2f}, {at(0.9)}, "
        f"{at(0.99)}, {after_ms[-1]:.2f} | {within / len(after_ms):.2%} | "
        f"{before / len(ordered):.1%} |"
    )


def is_standby(scratch: Path) -> bool:
    """Whether the second CS still is one, and has every flow."""
    with AdminClient(scratch / "standby.sock") as client:
        (dfs,) = client.ask(CS_STATUS).data_flow_segments
    return dfs.group_role == "standby" and dfs.copy is not None and dfs.copy.complete


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rates", default="100,1000,all")
    parser.add_argument("--only", default=",".join(KINDS))
    options = parser.parse_args()
    options.rates = options.rates.split(",")
    options.only = options.only.split(",")
    unknown = set(options.only) - set(KINDS)
    if unknown:
        sys.exit(f"--only: there is no {', '.join(unknown)}; there are {', '.join(KINDS)}")
    return options


def main() -> None:
    options = arguments()
    need("wrk", "nginx", "curl", "tcpdump")
    rows = []
    _, port = CONTROL_SEGMENTS["standby"]
    with topology() as scratch, server(scratch):
        for kind in options.only:
            with splitplane(KINDS[kind], scratch, SCENARIOS["plain"]) as running:
                log = scratch / "middle.log"
                wait_for_http(running.address, running.port, namespace=CLIENT, log=log)
                time.sleep(3)  # the standby's SYNC
                for rate in options.rates:
                    load(running.address, running.port, rate, 1, scratch)
                    forward, copies = scratch / "forward.pcap", scratch / "copies.pcap"
                    to_server = f"tcp dst port {SERVER_PORT}"
                    with (
                        captured(SERVER, "eth0", to_server, forward),
                        captured(MIDDLE, "ctl0", f"udp dst port {port}", copies),
                    ):
                        load(running.address, running.port, rate, options.seconds, scratch)
                    if not is_standby(scratch):
                        sys.exit("the standby has taken over: the machine is too busy for this")
                    flows = flows_of(towards_server(forward), towards_standby(copies))
                    rows.append(row(kind, rate, flows, options.seconds))
                    print(rows[-1], file=sys.stderr)
                    forward.unlink()
                    copies.unlink()
    print("\n| decision | rate | connections/s | flows | without a copy | copy behind the SYN ms: median, "
          "90 %, 99 %, longest | within 5 ms | copy before the first data |\n"
          "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |", *rows, sep="\n")  # fmt: skip


if __name__ == "__main__":
    main()
