# SPDX-License-Identifier: Apache-2.0
"""Sends one message, by SMTP or by HTTP: blocking, for a thread of its own.

Whoever waits for the thread may close what it waits for (`close`), from another thread.
"""

from __future__ import annotations

import contextlib
import http.client
import smtplib
import socket
import ssl
import time
from email.utils import make_msgid
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit

from admin.alerts import texts
from admin.alerts.config import EmailConfig, WebhookConfig
from admin.alerts.outbox import Batch
from admin.alerts.secret_files import read_headers, read_secret
from admin.errors import ConfigError

TIMEOUT_S: Final = 20.0  # of each step
_ANSWER_MAX: Final = 64 * 1024  # octets of an answer that are read


class NotSent(Exception):
    """Why, without a secret in it; the other side may have said when to try again."""

    def __init__(self, reason: str, retry_s: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_s = retry_s


class Way(Protocol):
    """Of one message."""

    def send(self, batch: Batch) -> None:
        """Until the other side has taken it; NotSent."""

    def close(self) -> None:
        """Let `send` fail."""


class ByEmail:
    """`EmailConfig`."""

    def __init__(self, config: EmailConfig, folder: Path) -> None:
        self._config = config
        self._folder = folder
        self._server: smtplib.SMTP | None = None

    def send(self, batch: Batch) -> None:
        """Until the server has taken it for every recipient; NotSent."""
        config = self._config
        try:
            with self._connected() as server:
                if config.user is not None and config.password_file is not None:
                    server.login(config.user, read_secret(self._folder / config.password_file))
                domain = config.sender.rpartition("@")[2]
                at = time.clock_gettime(time.CLOCK_REALTIME)
                message = texts.email(config, batch, make_msgid(domain=domain), at)
                refused = server.send_message(message)
        except smtplib.SMTPResponseException as error:
            said = error.smtp_error
            text = said.decode(errors="replace") if isinstance(said, bytes) else said
            raise NotSent(f"the mail server says {error.smtp_code} {_line(text)}") from None
        except smtplib.SMTPRecipientsRefused:
            raise NotSent("the mail server refuses every recipient") from None
        except (OSError, smtplib.SMTPException, ConfigError) as error:
            raise NotSent(_line(str(error)) or type(error).__name__) from None
        finally:
            self._server = None
        if refused:
            raise NotSent(f"the mail server refuses {', '.join(refused)}")

    def _connected(self) -> smtplib.SMTP:
        config = self._config
        # Not the name that DNS knows for this host: finding it may take long
        name = config.sender.rpartition("@")[2]
        if config.tls == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                config.host, config.port_used, name, timeout=TIMEOUT_S,
                context=_tls(self._folder, config.ca_file),
            )  # fmt: skip
        else:
            server = smtplib.SMTP(config.host, config.port_used, name, timeout=TIMEOUT_S)
        self._server = server
        if config.tls == "starttls":
            try:
                server.starttls(context=_tls(self._folder, config.ca_file))
            except BaseException:
                server.close()
                raise
        return server

    def close(self) -> None:
        """Let `send` fail."""
        server = self._server
        _shut(None if server is None else server.sock)


class ByWebhook:
    """`WebhookConfig`."""

    def __init__(self, config: WebhookConfig, folder: Path) -> None:
        self._config = config
        self._folder = folder
        self._connection: http.client.HTTPConnection | None = None

    def send(self, batch: Batch) -> None:
        """Until the server has answered 2xx; redirections are not followed; NotSent."""
        body = texts.document(batch)
        try:
            headers = self._headers(body)
            self._connection = connection = self._connected()
            try:
                parts = urlsplit(self._config.url)
                target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
                connection.request("POST", target, body, headers)
                answer = connection.getresponse()
                answer.read(_ANSWER_MAX)
            finally:
                connection.close()
                self._connection = None
        except (OSError, http.client.HTTPException, ConfigError) as error:
            raise NotSent(_line(str(error)) or type(error).__name__) from None
        if not 200 <= answer.status < 300:
            retry_after = answer.headers.get("Retry-After", "")
            retry_s = float(retry_after) if retry_after.isdecimal() else 0.0
            raise NotSent(f"the server answers with status {answer.status}", retry_s)

    def _headers(self, body: bytes) -> dict[str, str]:
        config = self._config
        headers = {"Content-Type": "application/json", "User-Agent": "splitplane"}
        if config.headers_file is not None:
            headers |= read_headers(self._folder / config.headers_file)
        if config.secret_file is not None:
            secret = read_secret(self._folder / config.secret_file).encode()
            timestamp = str(int(time.clock_gettime(time.CLOCK_REALTIME)))
            headers[texts.TIMESTAMP_HEADER] = timestamp
            headers[texts.SIGNATURE_HEADER] = texts.signature(secret, timestamp, body)
        return headers

    def _connected(self) -> http.client.HTTPConnection:
        parts = urlsplit(self._config.url)
        assert parts.hostname is not None, "the configuration has been checked"
        if parts.scheme == "http":
            return http.client.HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT_S)
        context = _tls(self._folder, self._config.ca_file)
        return http.client.HTTPSConnection(
            parts.hostname, parts.port, timeout=TIMEOUT_S, context=context
        )

    def close(self) -> None:
        """Let `send` fail."""
        connection = self._connection
        _shut(None if connection is None else connection.sock)


def _tls(folder: Path, ca_file: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=None if ca_file is None else folder / ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _shut(sock: socket.socket | None) -> None:
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


def _line(text: str) -> str:
    """What a server says, fit for a log."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())[:300]
