# SPDX-License-Identifier: Apache-2.0
"""The UDP flows of a load: numbered datagrams, each of which must come back once and unchanged."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Final

from splitplane.drill.flows import Flow
from splitplane.lab.responses import WrongOctets
from splitplane.lab.web import pattern

AGAIN_S: Final = 2.0  # after which the first one is repeated, as resolvers do (RFC 1035 4.2.1)
LOST_S: Final = 2.0  # an answer that comes later is as good as none
_NUMBER_OCTETS: Final = 8
_CONTENT_OCTETS: Final = 100


class Datagrams(Flow):
    """One UDP flow."""

    kind = "udp"

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        answers = _Answers()
        transport, _ = await loop.create_datagram_endpoint(
            lambda: answers, remote_addr=(self._address, self._plan.udp_port)
        )
        try:
            await self._begin(transport, answers)
            first = time.monotonic()
            number = 0
            while (due := first + number / self._plan.udp_rate) < self._schedule.end_s:
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                number += 1
                self._send(transport, answers, number)
                self._see(answers)
            await asyncio.sleep(LOST_S)
            self._see(answers)
        finally:
            transport.close()
        if answers.missing:
            # the kind of loss that a retransmission hides in TCP
            when = min(answers.missing.values()) - self._schedule.failure_s
            raise ConnectionError(
                f"{len(answers.missing)} of {self._datagrams} datagrams were not answered within"
                f" {LOST_S:g} s, the first one {when:+.2f} s from the planned failure"
            )

    async def _begin(self, transport: asyncio.DatagramTransport, answers: _Answers) -> None:
        """The first datagram, until it is answered."""
        while not answers.server:
            self._send(transport, answers, 0)
            try:
                async with asyncio.timeout(AGAIN_S):
                    await answers.came.wait()
            except TimeoutError:
                continue
            self._see(answers)
        self._server = answers.server
        self.under_way.set()

    def _send(self, transport: asyncio.DatagramTransport, answers: _Answers, number: int) -> None:
        answers.sent(number)
        self._datagrams += 1
        transport.sendto(content(number))

    def _see(self, answers: _Answers) -> None:
        """Take over what has come since the last look; raise what was wrong with it."""
        if answers.error is not None:
            raise answers.error
        self.octets = answers.octets
        self._slowest = answers.slowest


def content(number: int) -> bytes:
    """What datagram *number* of a flow consists of."""
    return number.to_bytes(_NUMBER_OCTETS) + pattern(number, _CONTENT_OCTETS)


class _Answers(asyncio.DatagramProtocol):
    """What comes back."""

    def __init__(self) -> None:
        self.came = asyncio.Event()
        self.server = ""
        self.octets = 0
        self.slowest = (0.0, 0.0)
        self.missing: dict[int, float] = {}  # number -> when it was sent first
        self.error: Exception | None = None
        self._repeats: Counter[int] = Counter()  # answers that may come once more

    def sent(self, number: int) -> None:
        """This one is on its way (again)."""
        if number in self.missing:
            self._repeats[number] += 1
        self.missing.setdefault(number, time.monotonic())

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """asyncio's."""
        server, _, echoed = data.partition(b" ")
        number = int.from_bytes(echoed[:_NUMBER_OCTETS])
        if echoed != content(number):
            self._wrong(f"wrong octets in an answer of {len(data)}")
            return
        if self.server and server.decode("latin-1") != self.server:
            self._wrong(f"the flow moved from {self.server} to {server.decode('latin-1')}")
        sent = self.missing.pop(number, None)
        if sent is not None:
            now = time.monotonic()
            if now - sent > LOST_S and number:  # the first one may wait: its flow is not there yet
                self.missing[number] = sent
            self.slowest = max(self.slowest, (now - sent, sent))
            self.octets += len(echoed)
        elif self._repeats[number]:
            self._repeats[number] -= 1
        else:
            self._wrong(f"datagram {number} was answered twice")
        self.server = server.decode("latin-1")
        self.came.set()

    def error_received(self, exc: Exception) -> None:
        """asyncio's: an ICMP error."""
        self.error = self.error or exc

    def _wrong(self, what: str) -> None:
        self.error = self.error or WrongOctets(what)
