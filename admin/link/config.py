# SPDX-License-Identifier: Apache-2.0
"""The section `api` of cs.yaml and dfs.yaml: where the API is, and how a segment proves itself."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Final, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

LINK_PATH: Final = "/api/v1/link"
_EXAMPLES: Final = "https://splitplane.example.net:8404 or unix:/run/splitplane/api.sock"


def _url(text: str) -> str:
    if text.startswith("unix:"):
        if not text.startswith("unix:/") or not text.isprintable():
            raise ValueError(f"{text!r}: give the whole path, like unix:/run/splitplane/api.sock")
        return text
    try:
        parts = urlsplit(text)
        _ = parts.port  # raises if it is none
    except ValueError:
        raise ValueError(f"{text!r} is not the URL of an API; give one like {_EXAMPLES}") from None
    if parts.scheme not in ("https", "http") or not parts.hostname or not text.isprintable():
        raise ValueError(f"{text!r} is not the URL of an API; give one like {_EXAMPLES}")
    if parts.username or parts.password:
        raise ValueError("no user or password here; give the token's file in token_file")
    if parts.query or parts.fragment:
        raise ValueError(f"{text!r}: remove what follows the path")
    return text.rstrip("/")


def _file(text: str) -> str:
    if not text or not text.isprintable():
        raise ValueError(f"{text!r} cannot be a file path; give one")
    return text


_FilePath = Annotated[str, AfterValidator(_file)]


class ApiLinkConfig(BaseModel):
    """The API that a segment links itself to.  Files are relative to the configuration's folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Annotated[str, AfterValidator(_url)]  # https://..., http://... or unix:/path
    token_file: _FilePath  # a token of role `segment`
    ca_file: _FilePath | None = None  # None: the system's authorities
    # http:// sends the token as plain text: to another machine only if this is true
    plain_text: Annotated[bool, Field(strict=True)] = False

    @property
    def socket(self) -> str | None:
        """The path of a Unix socket."""
        return self.url.removeprefix("unix:") if self.url.startswith("unix:") else None

    @property
    def endpoint(self) -> str:
        """The URL of the WebSocket."""
        if self.socket is not None:
            return f"ws://localhost{LINK_PATH}"
        return f"ws{self.url.removeprefix('http')}{LINK_PATH}"

    @model_validator(mode="after")
    def _check_ways(self) -> Self:
        if self.ca_file is not None and not self.url.startswith("https:"):
            raise _wrong("ca_file", "only https:// has certificates; remove ca_file, or use https")
        if self.url.startswith("http:") and not self.plain_text and not _is_here(self.url):
            raise _wrong(
                "url",
                "http:// to another machine sends the token as plain text; use https://, or add"
                " plain_text: true where nobody else is on the way",
            )
        return self


def _is_here(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _wrong(field: str, sentence: str) -> PydanticCustomError:
    return PydanticCustomError("rule", "{sentence}", {"sentence": sentence, "at": (field,)})
