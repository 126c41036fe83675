# SPDX-License-Identifier: Apache-2.0
"""Runs the application: its sockets, TLS, and an end that cuts nobody off in the middle."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import uvicorn
from fastapi import FastAPI

from admin.errors import ConfigError, from_os_error
from admin.link.messages import FRAME_OCTETS_MAX
from admin.listening import unix_listener
from admin.quiet_log import QuietLog
from api.config import ListenConfig, TlsConfig
from api.housekeeping import Housekeeping
from api.patience import PatientProtocol
from api.watch.watchers import Watchers

log = logging.getLogger("splitplane.api")
GRACE_S: Final = 10  # for answers that are under way
BACKLOG: Final = 1024
KEEP_ALIVE_S: Final = 65  # more than a proxy in front keeps its connections, usually 60
HEADERS_MAX: Final = 64 * 1024
LINK_PING_S: Final = 5.0  # a segment whose machine is gone is noticed after twice this


class Listeners:
    """Bound before anything else is begun, so that a port that is taken is known at once."""

    def __init__(self, listen: ListenConfig, folder: Path) -> None:
        """ConfigError: TLS; AddressError, MachineError: the sockets."""
        self._listen = listen
        self.tls = None if listen.tls is None else tls_context(listen.tls, folder)
        self.path = None if listen.socket is None else folder / listen.socket
        self.tcp: socket.socket | None = None
        self.unix: socket.socket | None = None
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        listen = self._listen
        if listen.address is not None:
            self.tcp = _tcp(listen.address, listen.port)
        if self.path is not None:
            try:
                self.unix = unix_listener(self.path, "API socket", "listen.socket")
            except OSError as error:
                raise from_os_error(
                    error, f"socket {self.path}", "use another listen.socket"
                ) from None

    def close(self) -> None:
        """Both, and the Unix socket's file."""
        for each in (self.tcp, self.unix):
            if each is not None:
                each.close()
        if self.unix is not None and self.path is not None:
            self.path.unlink(missing_ok=True)

    @property
    def urls(self) -> list[str]:
        """Where the API is, for people."""
        found = []
        if self.tcp is not None:
            found.append(base_url(self._listen))
        if self.path is not None:
            found.append(f"unix:{self.path}")
        return found


def base_url(listen: ListenConfig) -> str:
    """https://192.0.2.10:8404"""
    scheme = "http" if listen.tls is None else "https"
    host = listen.address or "127.0.0.1"
    if host in ("0.0.0.0", "::"):
        host = socket.getfqdn()
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{listen.port}"


def tls_context(tls: TlsConfig, folder: Path) -> ssl.SSLContext:
    """TLS 1.2 or newer, with the certificate; ConfigError."""
    certificate, key = folder / tls.certificate_file, folder / tls.key_file
    for path in (certificate, key):
        try:
            path.open("rb").close()
        except OSError as error:
            raise ConfigError(
                [
                    f"{path}: cannot be read ({error.strerror}); give a PEM file that this user may"
                    " read"
                ]
            ) from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2

    def no_password() -> str:
        raise ValueError

    try:
        context.load_cert_chain(certificate, key, no_password)
    except ValueError:
        raise ConfigError([f"{key}: the key has a passphrase; give one without"]) from None
    except ssl.SSLError as error:
        raise ConfigError(
            [
                f"{certificate}: not a certificate with the key in {key} ({error.reason}); give"
                " both as PEM, the certificate with its chain"
            ]
        ) from None
    return context


def _tcp(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((address, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise from_os_error(error, f"listen {address} port {port}", "give another one") from None
    return listener


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The command handles signals."""
        yield


class _Quietly(logging.Filter):
    """Strangers can cause lines without end: a few of them are written."""

    def __init__(self) -> None:
        super().__init__()
        self._quiet = QuietLog()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is written."""
        self._quiet.add(
            "HTTP that nobody with a token stands behind", record.getMessage(), time.monotonic()
        )
        return bool(self._quiet.take())


class Serving:
    """Serves an application on both sockets until `stop`."""

    def __init__(
        self, app: FastAPI, listeners: Listeners, housekeeping: Housekeeping | None = None
    ) -> None:
        self._watchers: Watchers = app.state.watchers
        self._hub = app.state.api.hub
        self._housekeeping = housekeeping
        self._listeners = listeners
        self._servers: list[tuple[_Server, socket.socket]] = []
        if listeners.tcp is not None:
            self._servers.append((_server(app, listeners.tls), listeners.tcp))
        if listeners.unix is not None:
            self._servers.append((_server(app, None), listeners.unix))

    def stop(self) -> None:
        """Let `run` return when what is under way has been answered; from the event loop."""
        self._watchers.stop()
        self._hub.stop()
        for server, _ in self._servers:
            server.should_exit = True

    async def run(self) -> None:
        """The sockets listen already: who connects before this is served, too."""
        quietly = _Quietly()
        logger = logging.getLogger("uvicorn.error")
        logger.addFilter(quietly)
        try:
            async with asyncio.TaskGroup() as tasks:
                keeping = None
                if self._housekeeping is not None:
                    keeping = tasks.create_task(self._housekeeping.run())
                async with asyncio.TaskGroup() as serving:
                    for server, listener in self._servers:
                        serving.create_task(server.serve(sockets=[listener]))
                if keeping is not None:
                    keeping.cancel()
        finally:
            logger.removeFilter(quietly)


def _server(app: Any, tls: ssl.SSLContext | None) -> _Server:
    more: dict[str, Any] = {}
    if tls is not None:
        more["ssl_context_factory"] = lambda *_: tls
    return _Server(
        uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            # who asks is who connects: a header that anybody can send says nothing
            proxy_headers=False,
            server_header=False,
            http=PatientProtocol,
            ws="websockets-sansio",
            ws_max_size=FRAME_OCTETS_MAX,
            ws_ping_interval=LINK_PING_S,
            ws_ping_timeout=LINK_PING_S,
            ws_per_message_deflate=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=GRACE_S,
            h11_max_incomplete_event_size=HEADERS_MAX,
            **more,
        )
    )
