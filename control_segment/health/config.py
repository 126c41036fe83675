# SPDX-License-Identifier: Apache-2.0
"""Health monitors in a CS's configuration, with the rules that one of them can break.

What only some kinds of monitors have is in a section of its own, named after what it is about.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal, Self, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from control_segment.fields import FilePath, Name, Port, Section, Whole
from control_segment.references import wrong

Kind: TypeAlias = Literal["tcp", "http", "https", "icmp", "udp", "script", "agent", "certificate"]

_SECTIONS: Final[dict[str, tuple[str, ...]]] = {
    "http": ("http", "https"),
    "tls": ("https", "certificate"),
    "udp": ("udp",),
    "script": ("script",),
    "certificate": ("certificate",),
}
"""The sections, each with the kinds that may have it."""

_REQUIRED: Final = {"udp": "udp", "script": "script", "agent": "port"}
_WITHOUT_PORT: Final = ("icmp", "script")
PATTERN_MAX: Final = 256
UDP_OCTETS_MAX: Final = 1024
_HOUR_MS: Final = 3_600_000
_PLAIN_NEVER: Final = ("authorization", "proxy-authorization", "cookie", "x-api-key")
_TOKEN: Final = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"  # RFC 9110 5.6.2


def _status_range(value: object) -> object:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str):
        return value
    first, dash, last = text.partition("-")
    if not (first.isdecimal() and (last.isdecimal() or not dash)):
        raise ValueError(f"{text!r} is no status or range of them; give one like 200 or 200-399")
    if not 100 <= int(first) <= int(last or first) <= 599:
        raise ValueError(f"{text!r}: statuses must ascend and be within 100 to 599")
    return text


def _pattern(text: str) -> str:
    try:
        re.compile(text.encode())
    except re.error as error:
        raise ValueError(f"{text!r} is no regular expression: {error}") from None
    return text


def _visible(text: str) -> str:
    if not text.isascii() or not text.isprintable():
        # Without the text, which may be a secret
        raise ValueError("it has characters that HTTP does not allow there; give printable ASCII")
    return text


def _path(text: str) -> str:
    if not text.startswith("/") or " " in text:
        raise ValueError(f"{text!r} is no path; give one that begins with / and has no space")
    return _visible(text)


def _hex(text: str) -> str:
    try:
        bytes.fromhex(text)
    except ValueError:
        raise ValueError(f"{text!r} is not hexadecimal; give an even number of digits") from None
    return text


def _file_name(text: str) -> str:
    if "/" in text or text in (".", "..") or not text.isprintable():
        raise ValueError(f"{text!r} is no file name; give that of a program in monitor_scripts")
    return text


def _secret_name(text: str) -> str:
    # Without the text: it may be the secret itself, by mistake
    if "/" in text or text.startswith(".") or " " in text or not text.isprintable():
        raise ValueError(
            "this cannot be the name of a secret; give that of a file in monitor_secrets, without"
            " / or space or . at its beginning"
        )
    return text


def _argument(text: str) -> str:
    if "\0" in text:
        raise ValueError("a program's argument cannot contain an octet of 0")
    return text


def _absolute(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError(f"{text!r} is not absolute; give a file path that begins with /")
    return text


AbsolutePath = Annotated[FilePath, AfterValidator(_absolute)]
StatusRange = Annotated[str, BeforeValidator(_status_range)]
Pattern = Annotated[str, Field(min_length=1, max_length=PATTERN_MAX), AfterValidator(_pattern)]
HeaderText = Annotated[str, Field(max_length=1024), AfterValidator(_visible)]
HeaderName = Annotated[str, Field(max_length=64, pattern=_TOKEN)]
VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
SecretName = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_secret_name)]
Argument = Annotated[str, Field(max_length=4096), AfterValidator(_argument)]
Milliseconds = Annotated[Whole, Field(ge=20, le=24 * _HOUR_MS)]
Probes = Annotated[Whole, Field(ge=1, le=100)]


class HttpSection(Section):
    """What is asked by HTTP, and which answers are right."""

    method: Annotated[str, Field(max_length=16, pattern=_TOKEN)] = "GET"
    path: Annotated[str, Field(max_length=2048), AfterValidator(_path)] = "/"
    host: HeaderText | None = None  # None: the node's address and port
    headers: dict[HeaderName, HeaderText] = Field(default_factory=dict, max_length=32)
    # Each with the file in the folder `monitor_secrets` that its value is in
    secret_headers: dict[HeaderName, SecretName] = Field(default_factory=dict, max_length=32)
    expect_status: Annotated[tuple[StatusRange, ...], Field(min_length=1)] = ("200-399",)
    expect_body: Pattern | None = None  # found in the first 16 KB; None: whatever there is

    @model_validator(mode="after")
    def _check_headers(self) -> Self:
        for name in self.headers:
            if name.lower() in _PLAIN_NEVER:
                raise wrong(
                    f"header {name} is a secret, which whoever reads the configuration would see;"
                    " put it into a file in the folder monitor_secrets, and name that in"
                    " secret_headers",
                    "headers", name,
                )  # fmt: skip
        names = [name.lower() for name in (*self.headers, *self.secret_headers)]
        for name in self.secret_headers:
            if names.count(name.lower()) > 1:
                raise wrong(f"header {name} is given twice", "secret_headers", name)
        return self


class TlsSection(Section):
    """How a certificate is looked at."""

    server_name: Annotated[str, Field(min_length=1, max_length=253)] | None = None
    verify: bool = False  # the certificate must be valid, and server_name's if there is one
    ca_file: AbsolutePath | None = None  # None: the system's authorities


class UdpSection(Section):
    """A datagram, and what has to come back; one of `send` and `send_hex`."""

    send: Annotated[str, Field(max_length=UDP_OCTETS_MAX)] | None = None
    send_hex: Annotated[str, Field(max_length=2 * UDP_OCTETS_MAX), AfterValidator(_hex)] | None = (
        None
    )
    expect: Pattern | None = None  # found in the reply; None: any reply

    @property
    def octets(self) -> bytes:
        """What is sent."""
        return (self.send or "").encode() if self.send_hex is None else bytes.fromhex(self.send_hex)

    @model_validator(mode="after")
    def _check_octets(self) -> Self:
        if (self.send is None) == (self.send_hex is None):
            raise wrong("give send or send_hex, and not both", "send")
        return self


class ScriptSection(Section):
    """A program in the folder `monitor_scripts`; a node passes if it exits with 0."""

    name: Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_file_name)]
    arguments: Annotated[tuple[Argument, ...], Field(max_length=64)] = ()
    environment: dict[VariableName, Argument] = Field(default_factory=dict, max_length=64)
    # Each with the file in the folder `monitor_secrets` that its value is in
    secret_environment: dict[VariableName, SecretName] = Field(default_factory=dict, max_length=64)

    @model_validator(mode="after")
    def _check_environment(self) -> Self:
        for name in self.secret_environment:
            if name in self.environment:
                raise wrong(f"variable {name} is given twice", "secret_environment", name)
        return self


class CertificateSection(Section):
    """How long a node's certificate must still be valid."""

    warn_days: Annotated[Whole, Field(ge=0, le=3650)] = 14  # an event says so from then on
    down_days: Annotated[Whole, Field(ge=0, le=3650)] | None = None  # None: it is never down


class DampingSection(Section):
    """A node that goes down often is held down until it has passed for a while."""

    downs: Annotated[Whole, Field(ge=2, le=100)] = 3  # so many times
    window_s: Annotated[Whole, Field(ge=1, le=86400)] = 60  # within so long
    hold_s: Annotated[Whole, Field(ge=1, le=86400)] = 60  # without a failure, before it is up


class MonitorConfig(Section):
    """How nodes are found to be up or down."""

    name: Name
    kind: Kind
    interval_ms: Milliseconds = 2000  # from the beginning of a probe to that of the next
    fast_interval_ms: Milliseconds | None = None  # while a state is changing; None: the same
    timeout_ms: Annotated[Whole, Field(ge=10, le=60_000)] = 1000
    rise: Probes = 2  # probes that a node that is down must pass one after the other to be up
    fall: Probes = 3  # and fail, to be down
    port: Port | None = None  # None: the node's
    http: HttpSection | None = None
    tls: TlsSection | None = None
    udp: UdpSection | None = None
    script: ScriptSection | None = None
    certificate: CertificateSection | None = None
    damping: DampingSection | None = None  # None: a node may change as often as it does

    @property
    def needs_port(self) -> bool:
        """Whether it asks a port, and has none of its own."""
        return self.port is None and self.kind not in _WITHOUT_PORT

    @property
    def needs_secrets(self) -> bool:
        """Whether it names files in the folder `monitor_secrets`."""
        of_http = self.http is not None and bool(self.http.secret_headers)
        return of_http or (self.script is not None and bool(self.script.secret_environment))

    @model_validator(mode="before")
    @classmethod
    def _set_interval(cls, value: Any) -> Any:
        """A certificate changes seldom."""
        if isinstance(value, dict) and value.get("kind") == "certificate":
            return {"interval_ms": _HOUR_MS, **value}
        return value

    @model_validator(mode="after")
    def _check_sections(self) -> Self:
        where = f"monitor {self.name}"
        for field, kinds in _SECTIONS.items():
            if getattr(self, field) is not None and self.kind not in kinds:
                raise wrong(
                    f"{where}: {field} is for kind {' or '.join(kinds)}, not {self.kind};"
                    " remove it",
                    field,
                )
        needed = _REQUIRED.get(self.kind)
        if needed is not None and getattr(self, needed) is None:
            raise wrong(f"{where}: kind {self.kind} needs {needed}; add it", "kind")
        if self.kind == "icmp" and self.port is not None:
            raise wrong(f"{where}: kind icmp asks no port; remove it", "port")
        return self

    @model_validator(mode="after")
    def _check_times(self) -> Self:
        fast = self.fast_interval_ms
        if fast is not None and fast > self.interval_ms:
            raise wrong(
                f"monitor {self.name}: fast_interval_ms {fast} is more than interval_ms"
                f" {self.interval_ms}; give less",
                "fast_interval_ms",
            )
        return self
