# SPDX-License-Identifier: Apache-2.0
"""The API as the commands use it: one request, one answer, refusals as the command's own errors."""

from __future__ import annotations

import functools
import http.client
import ipaddress
import json
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import SplitResult, quote, urlencode, urlsplit

import click

from admin.errors import CommandError, ConfigError
from admin.link.token import read_token

DEFAULT_URL: Final = "http://127.0.0.1:8404"
JSON: Final = "application/json"
YAML: Final = "application/yaml"
MERGE_PATCH: Final = "application/merge-patch+json"
# the API checks and writes the largest document in some twenty seconds
TIMEOUT_S: Final = 120.0
FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


class Fault(NamedTuple):
    """One thing that is wrong with a document: where (RFC 6901), and what to do."""

    pointer: str
    detail: str


class RefusedError(CommandError):
    """The API refused a request; the text is its `detail`."""

    def __init__(self, status: int, detail: str, faults: tuple[Fault, ...]) -> None:
        super().__init__(detail)
        self.status = status
        self.faults = faults


@dataclass(frozen=True, slots=True)
class Answer:
    """Of a request that was not refused."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def data(self) -> Any:
        """The body, which is JSON."""
        return json.loads(self.text)


class ApiClient:
    """Each request is a connection of its own: a command makes a few."""

    def __init__(self, url: str, token: str | None = None, ca_file: Path | None = None) -> None:
        """*url*: http(s)://host[:port] or unix:/path; ConfigError: not one of them, one to which a
        token would go as plain text, or *ca_file* is no certificate."""
        self.url = url.rstrip("/")
        self._token = token
        self._parts = _parts(self.url)
        self._tls: ssl.SSLContext | None = None
        if self._parts.scheme == "http" and token is not None and not _is_here(self._parts):
            raise ConfigError(
                [f"--api: {self.url} would get the token as plain text; use https://"]
            )
        if self._parts.scheme == "https":
            try:
                self._tls = ssl.create_default_context(cafile=ca_file)
            except OSError as error:
                raise ConfigError(
                    [f"{ca_file}: no certificates can be read ({error.strerror or error})"]
                ) from None

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Mapping[str, object] | None = None,
        content_type: str = JSON,
        accept: str = JSON,
        if_match: str | None = None,
    ) -> Answer:
        """*path*: below /api/v1.  *query*: None and False are left out.  RefusedError: what the
        API says; CommandError: there is none that can be asked."""
        parameters = {
            name: "true" if value is True else value
            for name, value in (query or {}).items()
            if value is not None and value is not False
        }
        prefix = "" if self._parts.scheme == "unix" else self._parts.path  # of a proxy
        target = f"{prefix}/api/v1{path}" + (f"?{urlencode(parameters)}" if parameters else "")
        headers = {"Accept": accept}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        if if_match is not None:
            headers["If-Match"] = if_match
        octets = None
        if body is not None:
            headers["Content-Type"] = content_type
            octets = json.dumps(body).encode()
        status, found, text = self._exchange(method, target, octets, headers)
        if status >= 400:
            raise _refusal(status, text)
        return Answer(status, found, text)

    def get(self, path: str, **query: object) -> Any:
        """What an endpoint answers; as `request`."""
        return self.request("GET", path, query=query).data

    def _exchange(
        self, method: str, target: str, octets: bytes | None, headers: dict[str, str]
    ) -> tuple[int, dict[str, str], str]:
        connection = self._connection()
        try:
            connection.request(method, target, octets, headers)
            response = connection.getresponse()
            text = response.read().decode()
        except (OSError, http.client.HTTPException, UnicodeDecodeError) as error:
            raise CommandError(self._unreachable(error)) from None
        finally:
            connection.close()
        return response.status, {name.lower(): each for name, each in response.getheaders()}, text

    def _connection(self) -> http.client.HTTPConnection:
        parts = self._parts
        if parts.scheme == "unix":
            return _UnixConnection(parts.path)
        host, port = parts.hostname or "", parts.port
        if self._tls is not None:
            return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=self._tls)
        return http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)

    def _unreachable(self, error: Exception) -> str:
        if isinstance(error, ssl.SSLCertVerificationError):
            return (
                f"{self.url}: its certificate is not trusted ({error.verify_message}); give the"
                " one that signed it by --ca-file"
            )
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return (
            f"{self.url}: no API answers there ({said}); start one (splitplane api), or give"
            " --api or SPLITPLANE_API"
        )


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises if it is none
    except ValueError:
        parts = urlsplit("")
    is_unix = parts.scheme == "unix" and not parts.netloc and parts.path.startswith("/")
    if not is_unix and (parts.scheme not in ("http", "https") or not parts.hostname):
        raise ConfigError(
            [f"--api: {url!r} is not the URL of an API; give https://host:8404 or unix:/path"]
        )
    return parts


def _is_here(parts: SplitResult) -> bool:
    host = parts.hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        """To the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        try:
            self.sock.settimeout(TIMEOUT_S)
            self.sock.connect(self._path)
        except OSError:
            self.sock.close()
            raise


def segment(name: str) -> str:
    """A name as one part of a path."""
    return quote(name, safe="")


def _refusal(status: int, text: str) -> RefusedError:
    """Of problem+json; or of what something between here and the API says."""
    try:
        problem = json.loads(text)
        detail = str(problem["detail"])
        faults = tuple(
            Fault(str(each["pointer"]), str(each["detail"])) for each in problem.get("errors", ())
        )
    except (ValueError, KeyError, TypeError):
        reason = http.client.responses.get(status, "")
        return RefusedError(status, f"what answered is no API of splitplane: {status} {reason}", ())
    if status == 401:
        detail += " (--token-file or SPLITPLANE_TOKEN_FILE names the file with the token)"
    return RefusedError(status, detail, faults)


_OPTIONS: Final = (
    click.option("--api", "url", metavar="URL", envvar="SPLITPLANE_API", default=DEFAULT_URL,
                 show_default=True, help="The API: https://host:8404 or unix:/path."),
    click.option("--token-file", type=click.Path(path_type=Path), envvar="SPLITPLANE_TOKEN_FILE",
                 help="The file with a token of the API (`splitplane token create`)."),
    click.option("--ca-file", type=click.Path(path_type=Path), envvar="SPLITPLANE_CA_FILE",
                 help="Certificates to trust instead of the system's."),
)  # fmt: skip


def api_options(function: FunctionT) -> FunctionT:
    """Add --api, --token-file and --ca-file; the command gets one parameter, `api`."""

    @functools.wraps(function)
    def with_client(
        *arguments: Any, url: str, token_file: Path | None, ca_file: Path | None, **named: Any
    ) -> Any:
        token = None if token_file is None else read_token(token_file)
        return function(*arguments, api=ApiClient(url, token, ca_file), **named)

    for option in reversed(_OPTIONS):
        with_client = option(with_client)
    return with_client  # type: ignore[return-value]
