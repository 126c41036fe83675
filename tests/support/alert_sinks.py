# SPDX-License-Identifier: Apache-2.0
"""A mail server and an HTTP server that keep what they are sent, for one test each."""

from __future__ import annotations

import asyncio
import base64
import email
import email.policy
import ssl
from collections.abc import Sequence
from contextlib import suppress
from email.message import EmailMessage
from types import TracebackType
from typing import NamedTuple, Self

HOST = "127.0.0.1"


class _Sink:
    """Serves each connection until it ends, or the test does."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self.port = 0
        self.connections = 0
        self._tls_at_once = tls
        self._serving = set[asyncio.Task[None]]()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._served, HOST, 0, ssl=self._tls_at_once)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        for task in tuple(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await self._server.wait_closed()

    async def _served(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        self.connections += 1
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self.serve(reader, writer)
        finally:
            self._serving.discard(task)
            writer.close()
            with suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise NotImplementedError


class Mail(NamedTuple):
    """A message, its envelope, and how it came."""

    sender: str
    recipients: list[str]
    message: EmailMessage
    encrypted: bool
    user: str | None


class MailSink(_Sink):
    """An SMTP server.  `refusals`: what it says to MAIL, one after the other, before it takes one;
    `hangs`: it says nothing at all."""

    def __init__(
        self,
        tls: ssl.SSLContext | None = None,
        *,
        starttls: ssl.SSLContext | None = None,
        password: str | None = None,
        refusals: Sequence[str] = (),
        hangs: bool = False,
    ) -> None:
        super().__init__(tls)
        self.mails: list[Mail] = []
        self.refused = 0
        self._starttls = starttls
        self._password = password
        self._refusals = list(refusals)
        self._hangs = hangs

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._hangs:
            await reader.read()
            return
        talk = _Talk(self, encrypted=self._tls_at_once is not None)
        writer.write(b"220 sink\r\n")
        while line := (await reader.readline()).decode().strip():
            word, _, rest = line.partition(" ")
            if word == "STARTTLS":
                assert self._starttls is not None
                writer.write(b"220 go on\r\n")
                await writer.drain()
                await writer.start_tls(self._starttls)
                talk.encrypted = True
                continue
            writer.write(talk.answer(word.upper(), rest).encode())
            if word.upper() == "DATA":
                talk.take(await reader.readuntil(b"\r\n.\r\n"))
                writer.write(b"250 taken\r\n")
            if word.upper() == "QUIT":
                return

    def greeting(self, *, encrypted: bool) -> str:
        """What it can."""
        can_encrypt = self._starttls is not None and not encrypted
        return "250-sink\r\n" + ("250-STARTTLS\r\n" if can_encrypt else "") + "250 AUTH PLAIN\r\n"

    def is_right(self, password: str) -> bool:
        return password == self._password

    def next_refusal(self) -> str | None:
        if not self._refusals:
            return None
        self.refused += 1
        return self._refusals.pop(0)


class _Talk:
    """One connection's."""

    def __init__(self, sink: MailSink, *, encrypted: bool) -> None:
        self.encrypted = encrypted
        self._sink = sink
        self._user: str | None = None
        self._sender = ""
        self._recipients: list[str] = []

    def answer(self, word: str, rest: str) -> str:
        known = {"EHLO": self._ehlo, "AUTH": self._auth, "MAIL": self._mail, "RCPT": self._rcpt}
        if word in known:
            return known[word](rest)
        return {"DATA": "354 go on", "QUIT": "221 bye"}.get(word, "250 ok") + "\r\n"

    def _ehlo(self, rest: str) -> str:
        return self._sink.greeting(encrypted=self.encrypted)

    def _auth(self, rest: str) -> str:
        _, self._user, password = base64.b64decode(rest.split()[1]).decode().split("\0")
        right = self._sink.is_right(password)
        return "235 welcome\r\n" if right else "535 5.7.8 no such user or password\r\n"

    def _mail(self, rest: str) -> str:
        refusal = self._sink.next_refusal()
        if refusal is not None:
            return f"{refusal}\r\n"
        self._sender, self._recipients = rest.partition("<")[2].partition(">")[0], []
        return "250 ok\r\n"

    def _rcpt(self, rest: str) -> str:
        self._recipients.append(rest.partition("<")[2].partition(">")[0])
        return "250 ok\r\n"

    def take(self, octets: bytes) -> None:
        """A message, with the dot behind it."""
        text = octets[:-3].replace(b"\r\n", b"\n")
        message = email.message_from_bytes(text, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        self._sink.mails.append(
            Mail(self._sender, self._recipients, message, self.encrypted, self._user)
        )


class Request(NamedTuple):
    """What an HTTP server was asked."""

    line: str
    headers: dict[str, str]  # names in lower case
    body: bytes


class HttpSink(_Sink):
    """Answers with the statuses of `answers`, one after the other, and then with 204."""

    def __init__(self, tls: ssl.SSLContext | None = None, answers: Sequence[str] = ()) -> None:
        super().__init__(tls)
        self.requests: list[Request] = []
        self._answers = list(answers)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        headers = {}
        for line in head[1:-1]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.requests.append(Request(head[0], headers, body))
        status = self._answers.pop(0) if self._answers else "204 No Content"
        writer.write(
            f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
        )
        await writer.drain()
