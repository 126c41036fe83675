# SPDX-License-Identifier: Apache-2.0
"""The commands of one kind of segment: each with the function that answers it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Generic, ParamSpec, TypeAlias, TypeVar

from admin.answers import Command

AnswerT = TypeVar("AnswerT")
P = ParamSpec("P")
# the answer, or its pieces (of a list), between which other work may be done
Answering: TypeAlias = Callable[P, AnswerT | Iterator[AnswerT]]


class Commands(Generic[P]):
    """Filled by `answers`; mypy holds each function to its command's answer."""

    def __init__(self, segment: str) -> None:
        """*segment*: who has these commands, for people."""
        self._segment = segment
        self._by_name: dict[str, tuple[Command[Any], Callable[P, object]]] = {}

    def answers(
        self, command: Command[AnswerT]
    ) -> Callable[[Answering[P, AnswerT]], Answering[P, AnswerT]]:
        """Decorate the function that answers *command*."""

        def enter(function: Answering[P, AnswerT]) -> Answering[P, AnswerT]:
            self._by_name[command.name] = (command, function)
            return function

        return enter

    def __iter__(self) -> Iterator[Command[Any]]:
        return (command for command, _ in self._by_name.values())

    def answer(self, name: str, *args: P.args, **kwargs: P.kwargs) -> object:
        """Answer the command of this name; ValueError if there is none."""
        found = self._by_name.get(name)
        if found is None:
            known = ", ".join(self._by_name)
            raise ValueError(f"{self._segment} has no command {name!r}; it has: {known}")
        return found[1](*args, **kwargs)
