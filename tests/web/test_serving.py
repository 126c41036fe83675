# SPDX-License-Identifier: Apache-2.0
"""The page's files: which are given, how, and that they ask for nothing from elsewhere."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from api.web.serving import page_files, page_routes

FOLDER = Path(__file__).parents[2] / "api/web"
POLICY = "default-src 'none'"


def get(path: str, headers: dict[str, str] | None = None) -> httpx.Response:
    """From an application that has nothing but the page."""

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(Starlette(routes=page_routes(POLICY)))
        async with httpx.AsyncClient(transport=transport, base_url="http://page") as client:
            return await client.get(path, headers=headers)

    return asyncio.run(ask())


def test_the_page_and_every_file_that_it_names_are_given() -> None:
    page = get("/")
    assert page.headers["Content-Type"].startswith("text/html")
    named = re.findall(r'(?:href|src)="([^"]+)"', page.text)
    assert "web/js/main.js" in named
    for path in named:
        assert get(f"/{path}").status_code == 200, path


def test_every_module_that_a_module_imports_is_given() -> None:
    known = page_files()
    for name, file in known.items():
        for target in re.findall(r'^import [^;]*?from "([^"]+)";', file.octets.decode(), re.M):
            path = (FOLDER / name).parent.joinpath(target).resolve().relative_to(FOLDER)
            assert str(path) in known, f"{name} imports {target}"


def test_each_answer_has_the_policy_and_is_asked_for_again() -> None:
    first = get("/web/js/main.js")
    assert first.headers["Content-Security-Policy"] == POLICY
    assert first.headers["Cache-Control"] == "no-cache"
    assert first.headers["Content-Type"].startswith("text/javascript")
    again = get("/web/js/main.js", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "path",
    [
        "serving.py",
        "__init__.py",
        "..%2fconfig.py",
        "%2e%2e/config.py",
        "vendor/preact.d.ts",
        "no.js",
    ],
)
def test_nothing_else_is_given(path: str) -> None:
    assert get(f"/web/{path}").status_code == 404


def test_the_page_needs_nothing_from_elsewhere_and_nothing_that_the_policy_forbids() -> None:
    for name, file in page_files().items():
        text = file.octets.decode()
        if name.startswith("vendor/"):
            continue
        elsewhere = [
            url for url in re.findall(r"https?://[^\s\"']+", text) if "www.w3.org" not in url
        ]
        assert elsewhere == [], name
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=\"", text), name
        assert not re.search(r"\beval\(|new Function\(|innerHTML", text), name


def test_the_libraries_are_what_their_list_says() -> None:
    sources = json.loads((FOLDER / "vendor/SOURCES.json").read_text())
    listed = {file: digest for each in sources for file, digest in each["files"].items()}
    scripts = {path.name: path for path in (FOLDER / "vendor").glob("*.js")}
    assert set(listed) == set(scripts)
    for name, digest in listed.items():
        assert hashlib.sha256(scripts[name].read_bytes()).hexdigest() == digest
    for each in sources:
        assert (FOLDER / f"vendor/{each['name']}.LICENSE").read_text()


def test_the_lock_of_the_libraries_names_no_package_host() -> None:
    lock = (Path(__file__).parent / "package-lock.json").read_text()
    assert '"resolved"' not in lock
    assert not re.search(r"registry|tarball|\.tgz", lock)
