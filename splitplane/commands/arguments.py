# SPDX-License-Identifier: Apache-2.0
"""What the command line may say in an argument; what it may not say is wrong use (exit code 2), and
is known before anything is started or asked."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

from admin.arguments import Arguments


def _targets() -> Sequence[str]:
    from data_flow_segment.targets.registry import TARGETS

    return tuple(TARGETS)


def _methods() -> Sequence[str]:
    from control_segment.methods import METHODS

    return tuple(METHODS)


class LateChoice(click.ParamType):  # type: ignore[type-arg] # generic in new releases only
    """As click.Choice, without loading a segment for every command."""

    def __init__(self, name: str, known: Callable[[], Sequence[str]]) -> None:
        self.name = name
        self._known = known

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name, or click's error."""
        if value not in self._known():
            self.fail(f"{value!r} is not one of {', '.join(self._known())}.", param, ctx)
        return str(value)

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """As `--help` shows it."""
        return f"[{'|'.join(self._known())}]"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """What may follow."""
        return [CompletionItem(name) for name in self._known() if name.startswith(incomplete)]


TARGET: Final = LateChoice("target", _targets)
METHOD: Final = LateChoice("method", _methods)


class FiniteRange(click.FloatRange):
    """As click.FloatRange, which lets `nan` pass: it is neither below nor above any bound."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number, or click's error."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


class _Checked(click.ParamType):  # type: ignore[type-arg] # generic in new releases only
    """A text that is passed on as it is if `check` raises no ValueError about it."""

    def __init__(self, name: str, check: Callable[[str], object]) -> None:
        self.name = name
        self._check = check

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text, or click's error."""
        try:
            self._check(str(value))
        except ValueError as error:
            self.fail(f"{str(error).removeprefix('it: ')}.", param, ctx)
        return str(value)


def _client(text: str) -> None:
    Arguments({"it": text}).address_or_endpoint("it")


def _lab_name(text: str) -> None:
    from splitplane.lab.state import check_name

    check_name(text)


CLIENT: Final = _Checked("address", _client)
LAB_NAME: Final = _Checked("name", _lab_name)
