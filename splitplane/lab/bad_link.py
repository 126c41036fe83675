# SPDX-License-Identifier: Apache-2.0
"""A link that delays, drops, doubles and reorders TCP segments: a process between two interfaces.

Not every kernel has netem.  The process knows frames alone: hosts that talk over the link must
finish their segments and checksums themselves.  What is not TCP passes at once and whole, because a
lost ARP answer says nothing about TCP.

    python -m splitplane.lab.bad_link NEAR FAR --impair drop=0.02,reorder=0.02,seed=1 --delay-ms 50

The words are those of `splitplane.impair`, and each direction has the delay.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import json
import select
import socket
import sys
import time
from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

from packets.parse import MalformedPacket, parse
from splitplane import impair
from splitplane.lab.namespaces import Namespace, ip
from ssmb.constants import TCP

ALL_PROTOCOLS: Final = 0x0003  # ETH_P_ALL
_FRAME_MAX: Final = 65536
_AT_ONCE: Final = 64
_OFFLOADS: Final = ("tx", "off", "tso", "off", "gso", "off", "gro", "off")

Direction: TypeAlias = Literal["in", "out"]
Due: TypeAlias = tuple[float, int, Direction, bytes]
"""When a frame leaves, the order in which frames of one moment came, and where it goes."""


class Queue:
    """Frames that are on their way; it reads no clock."""

    def __init__(self, delay_s: float, impairment: impair.Impairment) -> None:
        self._delay_s = delay_s
        self._filter = impairment.filter()
        self._waiting: list[Due] = []
        self._came = 0

    def put(self, direction: Direction, frame: bytes, now: float) -> None:
        """A frame came; its copies wait, or there are none."""
        copies = [(0.0, frame)]
        delay_s = 0.0
        if is_tcp(frame):
            copies, delay_s = self._filter(direction, frame), self._delay_s
        for later_s, octets in copies:
            self._came += 1
            due = now + delay_s + later_s
            heapq.heappush(self._waiting, (due, self._came, direction, octets))

    def due(self, now: float) -> list[tuple[Direction, bytes]]:
        """What leaves now, in its order."""
        found = []
        while self._waiting and self._waiting[0][0] <= now:
            found.append(heapq.heappop(self._waiting)[2:])
        return found

    @property
    def next_s(self) -> float | None:
        """When something leaves."""
        return self._waiting[0][0] if self._waiting else None


def is_tcp(frame: bytes) -> bool:
    """Whether it is a TCP segment or a fragment of one."""
    try:
        return parse(frame).protocol == TCP
    except MalformedPacket:
        return False


def insert(host: Namespace, middle: Namespace, lines: Sequence[str]) -> tuple[str, str]:
    """Move the host's eth0 into a new namespace and give the host another one with its MAC address;
    *lines* of `ip` give the new one its addresses and routes.  The interfaces between which frames
    are to be moved; `finish_segments` at every host that uses the link."""
    mac = json.loads(host.run("ip", "-json", "link", "show", "eth0").stdout)[0]["address"]
    middle.create()
    middle.sysctl(net__ipv6__conf__all__disable_ipv6=1, net__ipv6__conf__default__disable_ipv6=1)
    host.ip(f"link set eth0 netns {middle.name} name far")
    ip(batch=[f"link add near netns {middle.name} type veth peer eth0 netns {host.name}"])
    host.ip(f"link set eth0 address {mac}", *lines)
    middle.ip("link set near up", "link set far up")
    return "near", "far"


def finish_segments(host: Namespace) -> None:
    """Leave nothing of a frame to the network card.  For who begins it: a DFS hands what it
    translates to the other end of a veth as it is."""
    host.run("ethtool", "-K", "eth0", *_OFFLOADS)


def command(interfaces: tuple[str, str], words: str, delay_ms: float) -> list[str]:
    """What moves frames between them."""
    module = [sys.executable, "-m", "splitplane.lab.bad_link", *interfaces]
    return [*module, "--impair", words, "--delay-ms", str(delay_ms)]


def _opened(interface: str) -> socket.socket:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_PROTOCOLS))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    sock.bind((interface, 0))
    sock.setblocking(False)
    return sock


def _receive(sock: socket.socket, direction: Direction, queue: Queue) -> None:
    for _ in range(_AT_ONCE):
        try:
            frame, address = sock.recvfrom(_FRAME_MAX)
        except BlockingIOError:
            return
        if address[2] != socket.PACKET_OUTGOING:
            queue.put(direction, frame, time.monotonic())


def main() -> None:
    """The command line; it runs until it is killed."""
    parser = argparse.ArgumentParser(description="A bad link between two interfaces.")
    parser.add_argument("near")
    parser.add_argument("far")
    parser.add_argument("--impair", default="seed=1")
    parser.add_argument("--delay-ms", type=float, default=0.0)
    arguments = parser.parse_args()
    near, far = _opened(arguments.near), _opened(arguments.far)
    towards: dict[Direction, socket.socket] = {"out": far, "in": near}
    came: list[tuple[socket.socket, Direction]] = [(near, "out"), (far, "in")]
    queue = Queue(arguments.delay_ms / 1000, impair.parse(arguments.impair))
    print("ready", flush=True)
    while True:
        at = queue.next_s
        wait = None if at is None else max(0.0, at - time.monotonic())
        ready = select.select([near, far], [], [], wait)[0]
        for sock, direction in came:
            if sock in ready:
                _receive(sock, direction, queue)
        for direction, frame in queue.due(time.monotonic()):
            with contextlib.suppress(BlockingIOError):  # a full queue drops, as a link does
                towards[direction].send(frame)


if __name__ == "__main__":
    main()
