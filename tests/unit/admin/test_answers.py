# SPDX-License-Identifier: Apache-2.0
"""The client understands this release's answers, those with more fields, and says of others what
does not fit."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from admin import answers
from admin.answers import FLOWS, HELLO, RELOAD, Command, Identity
from admin.client import AdminClient, UnfitAnswer, ask, living_sockets
from admin.errors import CommandError
from admin.server import AdminServer
from support.segments.admin import flow


@contextmanager
def answering(path: Path, line: bytes) -> Iterator[None]:
    """Somebody who answers one client's every question with the same line."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as questions:
                for _ in questions:
                    connection.sendall(line)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join()


def asked(path: Path, ask_it: Callable[[], Any], answer: object) -> Any:
    async def run() -> Any:
        identity = Identity(role="cs", segment_id=1, release="0", pid=1)
        async with AdminServer(path, identity, lambda *_: answer):
            return await asyncio.to_thread(ask_it)

    return asyncio.run(run())


def test_flows_come_as_they_were_given(tmp_path: Path) -> None:
    flows = [flow(), flow(node=None, state="pending", idle_ms=None, packets_held=2)] * 600
    assert asked(tmp_path / "a", lambda: ask(tmp_path / "a", FLOWS), flows) == flows


def test_fields_of_a_newer_release_are_passed_over(tmp_path: Path) -> None:
    newer = {**asdict(flow()), "colour": "blue", "hops": [{"a": 1}]}
    assert asked(tmp_path / "a", lambda: ask(tmp_path / "a", FLOWS), [newer]) == [flow()]


def test_fields_with_a_default_may_be_absent(tmp_path: Path) -> None:
    older = {name: value for name, value in asdict(flow()).items() if value is not None}
    assert asked(tmp_path / "a", lambda: ask(tmp_path / "a", FLOWS), [older]) == [flow()]


def test_a_command_may_be_answered_with_nothing(tmp_path: Path) -> None:
    assert asked(tmp_path / "a", lambda: ask(tmp_path / "a", RELOAD), None) is None


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        ([{"source_address": "10.0.0.1"}], r"\[0\]\.client: is missing"),
        ([asdict(flow()), {**asdict(flow()), "serial": "0xff"}], r"\[1\]\.serial: input should be"),
        ([{**asdict(flow()), "opened_ms": 1.5}], r"\[0\]\.opened_ms: input should be"),
        ([{**asdict(flow()), "opened_ms": True}], r"\[0\]\.opened_ms: input should be"),
        ({"flows": []}, "the answer: input should be a valid array"),
        (None, "the answer: input should be a valid array"),
    ],
)
def test_what_does_not_fit_is_said_with_its_place_and_what_to_do(
    tmp_path: Path, answer: object, what: str
) -> None:
    path = tmp_path / "a"
    words = rf"a: the answer to flows does not fit .*\({what}.*\); .* restart it, or use"
    with pytest.raises(UnfitAnswer, match=words):
        asked(path, lambda: ask(path, FLOWS), answer)


@pytest.mark.parametrize("line", [b"\n", b"no\n", b"[]\n", b'{"data": []}\n', b'{"ok": false}\n'])
def test_a_line_that_is_no_answer_is_said(tmp_path: Path, line: bytes) -> None:
    with answering(tmp_path / "a", line), pytest.raises(UnfitAnswer, match="does not fit"):
        ask(tmp_path / "a", FLOWS)


def test_a_refusal_is_the_segments_sentence(tmp_path: Path) -> None:
    line = b'{"ok": false, "error": "not today"}\n'
    with answering(tmp_path / "a", line), AdminClient(tmp_path / "a") as client:
        for refused in (lambda: client.ask(FLOWS), lambda: client.call("flows")):
            with pytest.raises(CommandError, match="a: not today"):
                refused()


def test_a_living_segment_of_another_release_is_not_passed_over(tmp_path: Path) -> None:
    """It would look as if it did not run."""
    line = b'{"ok": true, "data": {"kind": "cs", "segment_id": 1, "pid": 5}}\n'
    with (
        answering(tmp_path / "old.sock", line),
        pytest.raises(UnfitAnswer, match=r"old\.sock: the answer to hello .*role: is missing"),
    ):
        list(living_sockets(tmp_path))


def commands() -> dict[str, Command[Any]]:
    return {name: it for name, it in vars(answers).items() if isinstance(it, Command)}


@pytest.mark.parametrize("name", commands())
def test_pydantic_takes_each_answer_over_with_its_meaning(name: str) -> None:
    """As an API that has these models for its responses will."""
    schema = TypeAdapter(commands()[name].answer).json_schema()
    for model in schema.get("$defs", {}).values():
        assert model["description"]


@pytest.mark.parametrize(
    "model",
    [it for it in vars(answers).values() if isinstance(it, type) and dataclasses.is_dataclass(it)],
)
def test_models_cannot_be_changed_and_say_what_they_are(model: Any) -> None:
    assert model.__dataclass_params__.frozen
    assert not model.__doc__.startswith(f"{model.__name__}(")


def test_hello_is_a_command_too() -> None:
    assert commands()["HELLO"] is HELLO
