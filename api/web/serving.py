# SPDX-License-Identifier: Apache-2.0
"""Gives browsers the page's files, which are read once: no request names a path of the machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

BELOW: Final = "/web/"
_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""What a browser may have; nothing else in the folder is given."""


@dataclass(frozen=True, slots=True)
class PageFile:
    """One file of the page."""

    octets: bytes
    media_type: str
    etag: str


def page_files(folder: Traversable | None = None) -> dict[str, PageFile]:
    """All files by their paths: "index.html", "js/main.js"."""
    return dict(_within(folder or files("api.web"), ""))


def _within(folder: Traversable, prefix: str) -> Iterator[tuple[str, PageFile]]:
    for each in folder.iterdir():
        suffix = each.name[each.name.rfind(".") :]
        if each.is_dir():
            yield from _within(each, f"{prefix}{each.name}/")
        elif suffix in _TYPES:
            octets = each.read_bytes()
            etag = f'"{hashlib.sha256(octets).hexdigest()[:32]}"'
            yield prefix + each.name, PageFile(octets, _TYPES[suffix], etag)


def page_routes(policy: str) -> list[Route]:
    """The page at `/` and its files below `/web/`; *policy*: its Content-Security-Policy."""
    known = page_files()

    def serve(name: str, request: Request) -> Response:
        found = known.get(name)
        if found is None:
            raise HTTPException(404)
        headers = {
            "Cache-Control": "no-cache",  # asked for again each time, and 304 if it is the same
            "Content-Security-Policy": policy,
            "ETag": found.etag,
        }
        if request.headers.get("If-None-Match") == found.etag:
            return Response(status_code=304, headers=headers)
        return Response(found.octets, headers=headers, media_type=found.media_type)

    async def page(request: Request) -> Response:
        return serve("index.html", request)

    async def file(request: Request) -> Response:
        return serve(request.path_params["name"], request)

    return [Route("/", page), Route(BELOW + "{name:path}", file)]
