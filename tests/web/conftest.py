# SPDX-License-Identifier: Apache-2.0
"""A real browser, and a laboratory whose API serves the page to it."""

from __future__ import annotations

import functools
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Final, Literal

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

from splitplane.lab import Lab, state
from splitplane.lab.api import LabApi
from support.browser import ARGUMENTS, TIMEOUT_MS, Signed
from support.cluster.laboratory import require_laboratory
from support.ports import free_port
from support.require import require

_REFUSED: Final = re.compile(
    r"Failed to load resource: the server responded with a status of 4\d\d"
)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Two CSs, two servers, one client; the CSs have their configuration from the API."""
    require_laboratory()
    name = f"page{os.getpid() % 100_000}"
    with ExitStack() as stack:
        stack.callback(state.clean, name)
        yield stack.enter_context(
            Lab(
                name,
                clients=1,
                servers=2,
                cs_count=2,
                ipv6=False,
                content=True,
                api=True,
                api_port=free_port(),
            )
        )


@pytest.fixture(scope="module")
def api(lab: Lab) -> LabApi:
    """That of the laboratory."""
    assert lab.api is not None
    return lab.api


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, as Debian packages it."""
    path = shutil.which("chromium")
    require("page", None if path else "not installed: chromium")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=path, headless=True, args=list(ARGUMENTS)
        )
        yield running
        running.close()


@pytest.fixture(scope="module")
def windows(browser: Browser, api: LabApi) -> Iterator[Callable[[str, str], BrowserContext]]:
    """Windows of a browser, by role and colours, in which somebody has signed in by a link."""
    with ExitStack() as stack:

        @functools.cache
        def window(role: str, scheme: Literal["light", "dark"]) -> BrowserContext:
            made = browser.new_context(
                viewport={"width": 1280, "height": 900},
                color_scheme=scheme,
                reduced_motion="reduce",
            )
            stack.callback(made.close)
            made.set_default_timeout(TIMEOUT_MS)
            page = made.new_page()
            page.goto(api.sign_in_link(role))
            page.get_by_role("button", name="Sign out").wait_for()
            page.close()
            return made

        yield window


@pytest.fixture
def signed(windows: Callable[[str, str], BrowserContext], api: LabApi) -> Iterator[Signed]:
    """Opens the page, signed in.

    A test fails if the page said anything on the console, but what the browser says of an answer
    that refuses something.
    """
    said: list[str] = []
    with ExitStack() as stack:

        def open_page(view: str = "", role: str = "admin", scheme: str = "light") -> Page:
            page = windows(role, scheme).new_page()
            stack.callback(page.close)
            page.on("console", lambda message: said.extend(_said(message)))
            page.on("pageerror", lambda error: said.append(f"{error}\n{error.stack}"))
            page.goto(f"{api.url}#/{view}")
            page.get_by_role("button", name="Sign out").wait_for()
            return page

        yield open_page
    assert said == []


def _said(message: ConsoleMessage) -> list[str]:
    return [] if _REFUSED.match(message.text) else [f"{message.type}: {message.text}"]
