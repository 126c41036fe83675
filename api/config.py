# SPDX-License-Identifier: Apache-2.0
"""The API's configuration file, api.yaml."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from admin.alerts.config import AlertList
from control_segment.fields import FilePath, ListeningAddress, Port, Whole
from control_segment.references import wrong


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TlsConfig(_Model):
    """The API's certificate, with its chain, and the private key; PEM."""

    certificate_file: FilePath
    key_file: FilePath


class ListenConfig(_Model):
    """Where the API takes HTTP: an address, a Unix socket, or both."""

    address: ListeningAddress | None = "127.0.0.1"
    port: Port = 8404
    socket: FilePath | None = None
    tls: TlsConfig | None = None
    # Without TLS the address must be this machine's own, unless this is true
    plain_text: bool = False

    @model_validator(mode="after")
    def _check_secrecy(self) -> Self:
        if self.address is None or self.tls is not None or self.plain_text:
            return self
        if not ipaddress.ip_address(self.address).is_loopback:
            raise wrong(
                f"tokens would cross the network readable: {self.address} is not this machine's own"
                " and there is no tls; add tls, give 127.0.0.1, or say plain_text: true",
                "address",
            )
        return self


class RetentionConfig(_Model):
    """How long what nobody needs for serving is kept."""

    events_days: Annotated[Whole, Field(ge=1, le=3650)] = 30
    generations: Annotated[Whole, Field(ge=0)] = 0  # 0: all
    audit_days: Annotated[Whole, Field(ge=1, le=3650)] = 365


class MetricsConfig(_Model):
    """Where Prometheus reads; whoever reaches it may."""

    address: ListeningAddress = "127.0.0.1"
    port: Port


class ApiConfig(_Model):
    """The whole file."""

    listen: ListenConfig = ListenConfig()
    # sqlite:///relative/to/this/file.db, sqlite:////absolute.db, postgresql://user@host/name; a
    # password belongs into ~/.pgpass or PGPASSFILE
    database: str = "sqlite:///splitplane.db"
    retention: RetentionConfig = RetentionConfig()
    metrics: MetricsConfig | None = None  # None: it has none
    alerts: AlertList = ()  # who is told of events

    @model_validator(mode="after")
    def _check_listen(self) -> Self:
        listen = self.listen
        if listen.address is None and listen.socket is None:
            raise wrong("give listen.address, listen.socket, or both", "listen")
        return self
