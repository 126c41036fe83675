# SPDX-License-Identifier: Apache-2.0
"""The list `alerts` of api.yaml and cs.yaml: who is told what, and on which way.

Files are relative to the configuration's folder.  Secrets are in files only, which are read anew
for every message, so that another one needs no restart.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from admin.happened import Happened

ALERTS_MAX: Final = 16
_KIND: Final = r"^[a-z][a-z0-9_]{0,63}$"
_MAILBOX: Final = re.compile(r"[!-?A-~]+@[A-Za-z0-9.\[\]:-]+")  # no space, one @
_SEVERITIES: Final = ("info", "warning", "error")
_PORTS: Final = {"starttls": 587, "tls": 465, "none": 25}


def _file(text: str) -> str:
    if not text or not text.isprintable():
        raise ValueError(f"{text!r} cannot be a file path; give one")
    return text


def _mailbox(text: str) -> str:
    if not text.isascii() or _MAILBOX.fullmatch(text) is None or set(text) & set(',;<>()\\"'):
        raise ValueError(f"{text!r} is not an e-mail address; give one like ops@example.net")
    return text


def _host(text: str) -> str:
    if not text.isascii() or not text.isprintable() or set(text) & set(" /@"):
        raise ValueError(f"{text!r} is not the name or address of a host; give one")
    return text


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        _ = parts.port  # raises if it is none
    except ValueError:
        raise ValueError("this is not a URL; give one like https://hooks.example.net/lb") from None
    is_plain = text.isascii() and text.isprintable() and " " not in text
    if parts.scheme not in ("https", "http") or not parts.hostname or not is_plain:
        raise ValueError("this is not a URL; give one like https://hooks.example.net/lb")
    if parts.username or parts.password:
        raise ValueError("no user or password in a URL; give an Authorization line in headers_file")
    if parts.fragment:
        raise ValueError("remove what follows the # in the URL: it is never sent")
    return text


_FilePath = Annotated[str, AfterValidator(_file)]
_Mailbox = Annotated[str, Field(max_length=254), AfterValidator(_mailbox)]
_Kind = Annotated[str, Field(pattern=_KIND)]
_Whole = Annotated[int, Field(strict=True)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class EmailConfig(_Model):
    """By SMTP."""

    host: Annotated[str, Field(min_length=1, max_length=253), AfterValidator(_host)]
    port: Annotated[_Whole, Field(ge=1, le=65535)] | None = None  # None: as usual for `tls`
    # starttls: encrypted after a greeting; tls: at once; none: anybody on the way reads it
    tls: Literal["starttls", "tls", "none"] = "starttls"
    ca_file: _FilePath | None = None  # None: the system's authorities
    sender: Annotated[_Mailbox, Field(alias="from")]
    to: Annotated[tuple[_Mailbox, ...], Field(min_length=1, max_length=64)]
    user: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    password_file: _FilePath | None = None

    @property
    def port_used(self) -> int:
        """The configured port, or the usual one."""
        return _PORTS[self.tls] if self.port is None else self.port

    @model_validator(mode="after")
    def _check_password(self) -> Self:
        if (self.user is None) != (self.password_file is None):
            raise _wrong("user", "give user and password_file, or neither")
        if self.tls == "none":
            if self.ca_file is not None:
                raise _wrong("ca_file", "tls: none looks at no certificate; remove ca_file")
            if self.user is not None and not is_here(self.host):
                raise _wrong(
                    "tls", "the password would cross the network readable; use starttls or tls"
                )
        return self


class WebhookConfig(_Model):
    """By HTTP: POST with JSON."""

    # No log has what follows its host: that may be a secret
    url: Annotated[str, Field(max_length=2048), AfterValidator(_url)]
    ca_file: _FilePath | None = None  # None: the system's authorities
    headers_file: _FilePath | None = None  # lines like `Authorization: Bearer ...`
    secret_file: _FilePath | None = None  # what the body is signed with (HMAC-SHA-256)

    @property
    def place(self) -> str:
        """Scheme, host and port, for people: the rest may be a secret."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    @model_validator(mode="after")
    def _check_ways(self) -> Self:
        if self.url.startswith("https:"):
            return self
        if self.ca_file is not None:
            raise _wrong("ca_file", "only https:// has certificates; remove ca_file, or use https")
        if self.headers_file is not None and not is_here(urlsplit(self.url).hostname or ""):
            raise _wrong("url", "http:// would send what is in headers_file readable; use https://")
        return self


class AlertConfig(_Model):
    """Somebody who is told of some events; one of `email` and `webhook`."""

    name: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.:-]+$")]
    severity: Literal["info", "warning", "error"] = "warning"  # and what is worse
    kinds: Annotated[tuple[_Kind, ...], Field(max_length=100)] = ()  # of events; empty: all
    without: Annotated[tuple[_Kind, ...], Field(max_length=100)] = ()  # kinds that are left out
    email: EmailConfig | None = None
    webhook: WebhookConfig | None = None
    batch_s: Annotated[_Whole, Field(ge=0, le=3600)] = 10  # what comes within is one message
    max_per_hour: Annotated[_Whole, Field(ge=1, le=3600)] = 30  # messages; then they wait
    give_up_s: Annotated[_Whole, Field(ge=60, le=86400)] = 3600  # of tries to send

    @model_validator(mode="after")
    def _check_ways(self) -> Self:
        if (self.email is None) == (self.webhook is None):
            raise _wrong("name", f"alert {self.name}: give email or webhook, and not both")
        return self

    @property
    def place(self) -> str:
        """Where messages go, for people."""
        if self.email is not None:
            return f"{self.email.host} port {self.email.port_used}"
        return "" if self.webhook is None else self.webhook.place

    def wants(self, event: Happened) -> bool:
        """Whether it is told of this."""
        if _SEVERITIES.index(event.severity) < _SEVERITIES.index(self.severity):
            return False
        return event.kind not in self.without and (not self.kinds or event.kind in self.kinds)


def _check_names(alerts: tuple[AlertConfig, ...]) -> tuple[AlertConfig, ...]:
    names = [each.name for each in alerts]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise ValueError(f"alert name {name!r} is given twice")
    return alerts


AlertList = Annotated[
    tuple[AlertConfig, ...], Field(max_length=ALERTS_MAX), AfterValidator(_check_names)
]


def is_here(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _wrong(field: str, sentence: str) -> PydanticCustomError:
    return PydanticCustomError("rule", "{sentence}", {"sentence": sentence, "at": (field,)})
