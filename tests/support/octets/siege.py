# SPDX-License-Identifier: Apache-2.0
"""Hold a port's connections: a program of its own, without anything of the product.

    python siege.py ADDRESS PORT SOURCE COUNT OCTETS...

It keeps COUNT connections from SOURCE open, says one of the OCTETS (hexadecimal, "-" for nothing)
on each, opens another one for each that ends, and closes the oldest ones and opens them anew
without a pause.  It prints a line whenever it has opened COUNT more, until its standard input ends.
"""

from __future__ import annotations

import contextlib
import itertools
import resource
import select
import socket
import sys
from collections import deque

REOPENED_AT_ONCE = 20
_NO_LINGER = b"\1\0\0\0\0\0\0\0"


def main(address: str, port: int, source: str, count: int, octets: list[bytes]) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    poll = select.epoll()
    poll.register(sys.stdin.fileno(), select.EPOLLIN)
    held: dict[int, tuple[socket.socket, bytes]] = {}
    by_age: deque[int] = deque()
    says = itertools.cycle(octets)
    opened = 0
    while True:
        while len(held) < count:
            made = socket.socket()
            made.setblocking(False)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            made.bind((source, 0))
            with contextlib.suppress(BlockingIOError):
                made.connect((address, port))
            poll.register(made.fileno(), select.EPOLLOUT | select.EPOLLRDHUP)
            held[made.fileno()] = made, next(says)
            by_age.append(made.fileno())
            opened += 1
            if opened % count == 0:
                print(opened, flush=True)
        for number, event in poll.poll(0.01):
            if number == sys.stdin.fileno():
                return
            if number not in held:
                continue
            made, says_this = held[number]
            if event & (select.EPOLLHUP | select.EPOLLERR | select.EPOLLRDHUP):
                close(number, held, by_age)
            else:
                poll.modify(number, select.EPOLLRDHUP)
                with contextlib.suppress(OSError):
                    made.send(says_this)
        for _ in range(min(REOPENED_AT_ONCE, len(by_age))):
            close(by_age[0], held, by_age)


def close(number: int, held: dict[int, tuple[socket.socket, bytes]], by_age: deque[int]) -> None:
    by_age.remove(number)
    made, _ = held.pop(number)
    made.close()


if __name__ == "__main__":
    main(
        sys.argv[1],
        int(sys.argv[2]),
        sys.argv[3],
        int(sys.argv[4]),
        [bytes.fromhex(each.strip("-")) for each in sys.argv[5:]],
    )
