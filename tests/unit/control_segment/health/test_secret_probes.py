# SPDX-License-Identifier: Apache-2.0
"""Secrets of monitors: nodes and scripts get them, and nobody else sees them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from control_segment.health.config import MonitorConfig
from control_segment.health.machine import Said
from control_segment.health.targets import Target
from control_segment.runtime.probes.runner import Runner

HOST = "127.0.0.1"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
REFUSED = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n"
HTTP = {"kind": "http", "http": {"secret_headers": {"Authorization": "token"}}}
SCRIPT = {"kind": "script", "script": {"name": "check", "secret_environment": {"PW": "token"}}}


def secret(folder: Path, text: str, mode: int = 0o600) -> None:
    path = folder / "token"
    path.write_text(text)
    path.chmod(mode)


def script(folder: Path, text: str) -> None:
    path = folder / "check"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


class Heard:
    """What is said of a target, one after the other."""

    def __init__(self) -> None:
        self.said: asyncio.Queue[Said] = asyncio.Queue()

    def tell(self, target: Target, said: Said) -> None:
        self.said.put_nowait(said)

    async def next(self) -> Said:
        """The next one; half a minute at most."""
        return await asyncio.wait_for(self.said.get(), 30)


@contextlib.asynccontextmanager
async def probing(
    body: dict[str, Any], port: int, folder: Path, secrets: Path | None
) -> AsyncIterator[Heard]:
    times = {"rise": 1, "fall": 1, "interval_ms": 20, "timeout_ms": 10_000}
    monitor = MonitorConfig.model_validate({"name": "m", **times, **body})
    heard, target = Heard(), Target("m", HOST, port)
    async with asyncio.TaskGroup() as tasks:
        runner = Runner(tasks, heard.tell, scripts=folder, secrets=secrets)
        runner.schedule.add(target, monitor, Said(), asyncio.get_running_loop().time())
        runner.go_on()
        yield heard
        runner.schedule.remove(target)
        runner.close()


@contextlib.asynccontextmanager
async def server(wanted: bytes, wrong: bytes = REFUSED) -> AsyncIterator[int]:
    """Answers OK to who sends this header, and *wrong* with the request in it to others."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            asked = await reader.readuntil(b"\r\n\r\n")
            lines = asked.lower().split(b"\r\n")
            writer.write(OK if wanted in lines else wrong.replace(b"%s", asked.splitlines()[-2]))
            await writer.drain()
        writer.close()

    listening = await asyncio.start_server(handle, HOST, 0)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        await listening.wait_closed()


def one(body: dict[str, Any], folder: Path, secrets: Path | None, port: int = 80) -> Said:
    """What is said first."""

    async def story() -> Said:
        async with probing(body, port, folder, secrets) as heard:
            return await heard.next()

    return asyncio.run(story())


def test_a_node_gets_the_secret_header_and_a_new_one_without_a_restart(tmp_path: Path) -> None:
    async def story() -> None:
        secret(tmp_path, "Bearer hunter1\n")
        async with (
            server(b"authorization: bearer hunter2") as port,
            probing(HTTP, port, tmp_path, tmp_path) as heard,
        ):
            assert await heard.next() == Said("down", reason="it answers status 401")
            secret(tmp_path, "Bearer hunter2\n")
            assert await heard.next() == Said("up")

    asyncio.run(story())


def test_a_node_that_sends_the_secret_back_does_not_bring_it_into_the_reason(
    tmp_path: Path,
) -> None:
    secret(tmp_path, "hunter2")

    async def story() -> Said:
        nonsense = b"HTTP/1.1 200 OK\r\n bad %s\r\n\r\n"
        async with (
            server(b"nobody", nonsense) as port,
            probing(HTTP, port, tmp_path, tmp_path) as heard,
        ):
            return await heard.next()

    assert asyncio.run(story()) == Said("down", reason="what it answers is no HTTP")


@pytest.mark.parametrize("body", [HTTP, SCRIPT])
@pytest.mark.parametrize(
    ("text", "mode", "why"),
    [
        (None, 0, "there is no such file; create it, with mode 600"),
        ("hunter2", 0o644, "other users may read this secret; run chmod 600"),
        ("hunter2", 0o640, "other users may read this secret; run chmod 600"),
        ("hunter2" * 5000, 0o600, "this is no small file of text"),
        ("hunter2\nhunter2", 0o600, "give one line of text"),
        ("\n", 0o600, "give one line of text"),
    ],
)
def test_a_secret_that_cannot_be_had_takes_no_node_down_and_is_warned_of(
    tmp_path: Path, body: dict[str, Any], text: str | None, mode: int, why: str
) -> None:
    script(tmp_path, "exit 1")
    if text is not None:
        secret(tmp_path, text, mode)
    said = one(body, tmp_path, tmp_path)
    assert said.health == "unknown"
    assert f"{tmp_path}/token: {why}" in said.warning
    assert "hunter2" not in repr(said)


def test_a_secret_that_no_header_can_have_is_warned_of_without_it(tmp_path: Path) -> None:
    for text in ("hunter2\x01", "hunt\u00e9r2", " hunter2", "hunter2 \n", "a\rhunter2"):
        secret(tmp_path, text)
        said = one(HTTP, tmp_path, tmp_path)
        assert said.warning.startswith("token: this secret cannot be the value of header Authoriz")
        assert "hunt" not in repr(said)


def test_a_secret_that_makes_no_valid_request_is_warned_of_without_it(tmp_path: Path) -> None:
    secret(tmp_path, "hunter2")
    body = {"kind": "http", "http": {"secret_headers": {"Content-Length": "token"}}}
    said = one(body, tmp_path, tmp_path)
    assert said == Said(warning="its secret_headers and headers make no valid request")


@pytest.mark.parametrize("body", [HTTP, SCRIPT])
def test_a_cs_that_was_started_without_the_folder_says_so(
    tmp_path: Path, body: dict[str, Any]
) -> None:
    said = one(body, tmp_path, None)
    assert (
        said.warning == "this CS was started without monitor_secrets; give it, and restart the CS"
    )


def test_a_script_gets_the_secret_in_its_environment(tmp_path: Path) -> None:
    secret(tmp_path, "hunt\u00e9r 2\n")
    script(tmp_path, '[ "$PW" = "hunt\u00e9r 2" ]')
    assert one(SCRIPT, tmp_path, tmp_path) == Said("up")


def test_what_a_script_says_of_its_secret_is_not_shown(tmp_path: Path) -> None:
    secret(tmp_path, "hunter2")
    script(tmp_path, 'echo "no $PW, nor $PW$PW."; exit 1')
    said = one(SCRIPT, tmp_path, tmp_path)
    assert said == Said("down", reason="check exits with 1: no ***, nor ***.")


@pytest.mark.parametrize("before", range(0, 12, 2))
def test_no_part_of_a_secret_is_shown_where_the_output_is_cut(tmp_path: Path, before: int) -> None:
    secret(tmp_path, "hunter2hunter3")
    script(tmp_path, f"printf '%0{190 + before}d' 0; printf %s%s%s $PW $PW $PW; exit 1")
    said = one(SCRIPT, tmp_path, tmp_path)
    zeros = "0" * min(190 + before, 200)
    assert said.reason == f"check exits with 1: {zeros}" + ("***" if before < 10 else "")
