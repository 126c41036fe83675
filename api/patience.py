# SPDX-License-Identifier: Apache-2.0
"""HTTP connections that do not wait for ever for who says or takes nothing, as uvicorn's own would.

Whoever reaches the port can open connections: each has some seconds for the head of a request, a
least speed for its body, must take what it asked for, and there are no more than the process has
descriptors for.
"""

from __future__ import annotations

import asyncio
import resource
from typing import Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

CONNECTIONS_MAX: Final = 4096
BODY_OCTETS_PER_S: Final = 16 * 1024


def _descriptors() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


class PatientProtocol(H11Protocol):
    """A connection."""

    PATIENCE_S = 10.0  # for a request's head, from its first octet or the connection
    BODY_S = 30.0  # for its body, and as long again for each BODY_S * BODY_OCTETS_PER_S of it
    TAKING_S = 30.0  # in which some of an answer is taken
    connections_max = min(CONNECTIONS_MAX, _descriptors() // 2)  # half are for the rest

    _patience: asyncio.TimerHandle | None = None
    _body: asyncio.TimerHandle | None = None
    _is_upgraded = False
    _octets = 0  # of the body, since its timer began
    _taking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, unless there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.connections_max:
            transport.abort()
            return
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Octets of a request; a whole head ends the wait for it, and begins that for the body."""
        if self._patience is None:
            self._wait()
        self._octets += len(data)
        super().data_received(data)
        if self._is_upgraded:
            return
        if self.conn.their_state is not h11.IDLE:
            self._stop_waiting()
        if self.conn.their_state is not h11.SEND_BODY:
            self._stop_body()
        elif self._body is None:
            self._wait_for_body()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """It is a WebSocket's from now on, whose pings find out whether the other end is there.
        h11 has not read the request to its end, and never will."""
        super().handle_websocket_upgrade(event)
        self._is_upgraded = True
        self._stop_all()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._stop_all()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The other end takes nothing for now."""
        super().pause_writing()
        if self._taking is None:
            self._wait_for_taking()

    def resume_writing(self) -> None:
        """It has taken nearly all."""
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None
        super().resume_writing()

    def _stop_all(self) -> None:
        self._stop_waiting()
        self._stop_body()
        self.resume_writing()

    def _wait(self) -> None:
        self._patience = self.loop.call_later(self.PATIENCE_S, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _wait_for_body(self) -> None:
        self._octets = 0
        self._body = self.loop.call_later(self.BODY_S, self._look_at_body)

    def _look_at_body(self) -> None:
        # what is not read by this program is not late
        is_late = self._octets < self.BODY_S * BODY_OCTETS_PER_S and not self.flow.read_paused
        if is_late and self.conn.their_state is h11.SEND_BODY:
            self.transport.abort()
        elif self.conn.their_state is h11.SEND_BODY:
            self._wait_for_body()
        else:
            self._body = None

    def _stop_body(self) -> None:
        if self._body is not None:
            self._body.cancel()
            self._body = None

    def _wait_for_taking(self) -> None:
        left = self.transport.get_write_buffer_size()
        self._taking = self.loop.call_later(self.TAKING_S, self._look_at_taking, left)

    def _look_at_taking(self, before: int) -> None:
        if self.transport.get_write_buffer_size() >= before:
            self.transport.abort()
        else:
            self._wait_for_taking()
