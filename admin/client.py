# SPDX-License-Identifier: Apache-2.0
"""Query a running segment over its admin socket; `admin.server` describes the format."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Generic, Literal, get_origin

from admin.answers import HELLO, AnswerT, Command, Identity
from admin.errors import CommandError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

SOCKET_FOLDER: Final = Path("/run/splitplane")
_PROGRESS: Final = b'{"progress":'
CLIENT_TIMEOUT_S: Final = 10.0  # a million flows take a few seconds to list


class UnfitAnswer(CommandError):
    """A segment answered what this release does not understand."""


class AdminClient:
    """Ask one segment; a context manager."""

    def __init__(self, path: Path, timeout_s: float = CLIENT_TIMEOUT_S) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout_s)
        try:
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            raise CommandError(
                f"{path}: no segment answers here ({error.strerror or error}); is it running?"
            ) from None
        self._lines = self._socket.makefile("rb")

    def __enter__(self) -> AdminClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._socket.close()

    def ask(self, command: Command[AnswerT], **arguments: object) -> AnswerT:
        """The answer; CommandError with the segment's sentence, or UnfitAnswer."""
        return self._decoded(command, self._exchange(command.name, arguments))

    def ask_and_wait(
        self, command: Command[AnswerT], on_progress: Callable[[str], None]
    ) -> AnswerT:
        """The same, for as long as the segment says, again and again, what it does."""
        line = self._exchange(command.name, {"progress": True})
        while line.startswith(_PROGRESS):
            on_progress(str(json.loads(line)["progress"]))
            line = self._read(command.name)
        return self._decoded(command, line)

    def _decoded(self, command: Command[AnswerT], line: bytes) -> AnswerT:
        try:
            return decoded(command, line)
        except UnfitAnswer as error:
            raise UnfitAnswer(f"{self.path}: {error}") from None
        except CommandError as error:
            raise CommandError(f"{self.path}: {error}") from None

    def call(self, command: str, **arguments: object) -> Any:
        """The answer's data as JSON has it, also to a command that is not in `answers`."""
        return self._data(command, self._exchange(command, arguments))

    def _exchange(self, command: str, arguments: dict[str, object]) -> bytes:
        request = json.dumps({"command": command, **arguments})
        try:
            self._socket.sendall(request.encode() + b"\n")
        except OSError as error:
            raise CommandError(f"{self.path}: {command}: {error.strerror}") from None
        return self._read(command)

    def _read(self, command: str) -> bytes:
        try:
            line = self._lines.readline()
        except TimeoutError:
            raise CommandError(f"{self.path}: no answer to {command} in time") from None
        except OSError as error:
            raise CommandError(f"{self.path}: {command}: {error.strerror}") from None
        if not line:
            raise CommandError(f"{self.path}: the segment exited before it answered {command}")
        return line

    def _data(self, command: str, line: bytes) -> Any:
        try:
            return _data(command, line)
        except UnfitAnswer as error:
            raise UnfitAnswer(f"{self.path}: {error}") from None
        except CommandError as error:
            raise CommandError(f"{self.path}: {error}") from None


def decoded(command: Command[AnswerT], line: bytes) -> AnswerT:
    """What a segment's line says; CommandError with the segment's sentence, or UnfitAnswer."""
    from pydantic import ValidationError  # only who asks waits for it to load

    try:
        data: AnswerT = _decoder(command).validate_json(line, strict=True).data
    except ValidationError as error:
        _data(command.name, line)  # it says so if the segment refused
        first = error.errors(include_url=False)[0]
        what = "is missing" if first["type"] == "missing" else first["msg"].lower()
        raise _unfit(command.name, f"{_place(first['loc'])}: {what}") from None
    return data


def _data(command: str, line: bytes) -> Any:
    try:
        answer = json.loads(line)
        if answer["ok"]:
            return answer["data"]
        sentence = answer["error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _unfit(command, f"{line[:60]!r}") from None
    raise CommandError(sentence)


def _unfit(command: str, what: str) -> UnfitAnswer:
    return UnfitAnswer(
        f"the answer to {command} does not fit this release of splitplane ({what}); the segment is"
        " of another release: restart it, or use that release's command"
    )


@dataclass(frozen=True)
class _Answered(Generic[AnswerT]):
    """The line of an answer that is no refusal."""

    ok: Literal[True]
    data: AnswerT


@cache
def _decoder(command: Command[AnswerT]) -> TypeAdapter[_Answered[AnswerT]]:
    from pydantic import FailFast, TypeAdapter

    answer: Any = command.answer
    if get_origin(answer) is list:
        answer = Annotated[answer, FailFast()]  # one error says enough, a million take memory
    return TypeAdapter(_Answered[answer])


def _place(location: tuple[int | str, ...]) -> str:
    """Where in the data: `[0].client`."""
    steps = [f"[{step}]" if isinstance(step, int) else f".{step}" for step in location[1:]]
    return "".join(steps).removeprefix(".") or "the answer"


def ask(path: Path, command: Command[AnswerT], **arguments: object) -> AnswerT:
    """One question to one segment."""
    with AdminClient(path) as client:
        return client.ask(command, **arguments)


def call(path: Path, command: str, **arguments: object) -> Any:
    """The same, as `AdminClient.call`."""
    with AdminClient(path) as client:
        return client.call(command, **arguments)


def living_sockets(folder: Path = SOCKET_FOLDER) -> Iterator[tuple[Path, Identity]]:
    """Every admin socket below *folder* at which a segment answers, with the segment's identity."""
    for path in sorted(folder.glob("**/*.sock")):
        try:
            identity = ask(path, HELLO)
        except UnfitAnswer:
            raise
        except CommandError:
            continue  # left over by a killed process, or another user's
        yield path, identity
