# SPDX-License-Identifier: Apache-2.0
"""Whether a node accepts a TCP connection.

Made for many: no task, no stream, few system calls.  The connection is reset before the
handshake's last packet has left, as HAProxy does it, so the application is not bothered and no
socket is left waiting.
"""

from __future__ import annotations

import asyncio
import errno
import os
import select
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Final, TypeAlias

from control_segment.health.machine import Observed

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # SO_LINGER
_OWN: Final = frozenset(
    (
        errno.EACCES, errno.EADDRNOTAVAIL, errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM,
        errno.EPERM,
    )
)  # fmt: skip
_PASSED: Final = Observed(True, "")
NO_ANSWER: Final = Observed(False, "no answer")
_CONNECTED: Final = select.EPOLLOUT | select.EPOLLONESHOT
_AT_ONCE: Final = 256  # that have ended, before something else has its turn
_TICK_S: Final = 0.005  # between looks at what has not been answered

Done: TypeAlias = Callable[[Observed], None]


def failed(code: int | None, text: str) -> Observed:
    """What an error of the system means; that this machine lacks something says nothing of a node,
    and nothing must go down for it."""
    if code in _OWN:
        return Observed(None, f"this machine could not look: {text.lower()}")
    return Observed(False, text.lower())


class _Connect:
    """One attempt."""

    __slots__ = ("deadline", "done", "socket")

    def __init__(self, tcp: socket.socket, deadline: float, done: Done) -> None:
        self.socket = tcp
        self.deadline = deadline
        self.done = done


class Connects:
    """Attempts to connect, thousands at a time.

    They have an epoll of their own, which the event loop watches: that saves three system calls
    for each.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll = select.epoll()
        self._waiting: dict[int, _Connect] = {}
        # In the order of their deadlines, for each time-out
        self._deadlines: dict[float, deque[_Connect]] = {}
        self._timer: asyncio.TimerHandle | None = None
        loop.add_reader(self._epoll.fileno(), self._ready)

    def close(self) -> None:
        """Give up all attempts; nobody hears of them."""
        if self._timer is not None:
            self._timer.cancel()
        for each in self._waiting.values():
            each.socket.close()
        self._waiting.clear()
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def begin(self, address: str, port: int, timeout_s: float, done: Done) -> None:
        """Try once; *done* is called once, later.  OSError: this machine has no socket for it."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        tcp = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
            code = tcp.connect_ex((address, port))
            if code == errno.EINPROGRESS:
                self._epoll.register(tcp.fileno(), _CONNECTED)
        except OSError:
            tcp.close()
            raise
        if code != errno.EINPROGRESS:
            tcp.close()
            self._loop.call_soon(done, _meaning(code))
            return
        deadline = self._loop.time() + timeout_s
        connect = self._waiting[tcp.fileno()] = _Connect(tcp, deadline, done)
        self._deadlines.setdefault(timeout_s, deque()).append(connect)
        if self._timer is None or deadline < self._timer.when():
            self._set_timer(deadline)

    def _ready(self) -> None:
        for file, events in self._epoll.poll(0, _AT_ONCE):
            connect = self._waiting.pop(file)
            code = 0
            if events != select.EPOLLOUT:
                code = connect.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            connect.socket.close()
            connect.done(_meaning(code))

    def _set_timer(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(deadline, self._time_out)

    def _time_out(self) -> None:
        self._timer = None
        now = self._loop.time()
        for queue in self._deadlines.values():
            while queue and (queue[0].deadline <= now or queue[0].socket.fileno() < 0):
                connect = queue.popleft()
                if connect.socket.fileno() >= 0:
                    del self._waiting[connect.socket.fileno()]
                    connect.socket.close()
                    connect.done(NO_ANSWER)
        heads = [queue[0].deadline for queue in self._deadlines.values() if queue]
        if heads:
            self._set_timer(max(min(heads), now + _TICK_S))


def _meaning(code: int) -> Observed:
    if not code:
        return _PASSED
    return NO_ANSWER if code == errno.ETIMEDOUT else failed(code, os.strerror(code))
