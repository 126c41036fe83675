# SPDX-License-Identifier: Apache-2.0
"""Which segments a command is about: those of this machine, or all that have a link to an API."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click

from admin.answers import AnswerT, Command
from admin.client import decoded
from admin.errors import CommandError
from splitplane.commands import sockets
from splitplane.commands.sockets import KINDS

if TYPE_CHECKING:
    from splitplane.api_client import ApiClient

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


class Asked(Protocol):
    """A segment that answers."""

    @property
    def kind(self) -> str:
        """cs, dfs"""

    @property
    def segment_id(self) -> int: ...

    @property
    def name(self) -> str:
        """cs-1"""

    @property
    def place(self) -> dict[str, str]:
        """Where it was asked, for JSON."""

    def ask(self, command: Command[AnswerT], **arguments: object) -> AnswerT:
        """Its answer; CommandError."""


@dataclass(frozen=True, slots=True)
class Remote:
    """One that has a link to an API."""

    kind: str
    segment_id: int
    api: ApiClient

    @property
    def name(self) -> str:
        """cs-1"""
        return f"{self.kind}-{self.segment_id}"

    @property
    def place(self) -> dict[str, str]:
        """The API."""
        return {"api": self.api.url}

    def ask(self, command: Command[AnswerT], **arguments: object) -> AnswerT:
        """Ask it through the API."""
        path = f"/segments/{self.name}/answers/{command.name}"
        text = self.api.request("GET", path, query=arguments).text
        try:
            return decoded(command, f'{{"ok":true,"data":{text}}}'.encode())
        except CommandError as error:
            raise CommandError(f"{self.api.url}: {self.name}: {error}") from None


@dataclass(frozen=True, slots=True)
class Where:
    """What the command line says of it."""

    sockets: tuple[Path, ...]
    api: ApiClient | None

    def segments(self, *kinds: str) -> Sequence[Asked]:
        """Those of the first of *kinds* that is there; CommandError if none is."""
        if self.api is None:
            return sockets.segments(self.sockets, *kinds)
        found = self._linked(self.api)
        for kind in kinds:
            if chosen := [each for each in found if each.kind == kind]:
                return chosen
        raise self._none(self.api, *kinds)

    def every(self, *kinds: str) -> Sequence[Asked]:
        """All of *kinds*, CSs first; CommandError if there is none."""
        if self.api is None:
            return sockets.every_segment(self.sockets, *kinds)
        found = [each for each in self._linked(self.api) if each.kind in kinds]
        if not found:
            raise self._none(self.api, *kinds)
        return found

    def _linked(self, api: ApiClient) -> list[Remote]:
        items = api.get("/segments")["items"]
        return [
            Remote(item["role"], item["segment_id"], api) for item in items if item["connected"]
        ]

    def _none(self, api: ApiClient, *kinds: str) -> CommandError:
        wanted = " or ".join(KINDS[kind] for kind in kinds)
        return CommandError(
            f"{api.url}: no {wanted} has a link to this API; add the section api to its"
            " configuration, or look at its log"
        )


def where_option(function: FunctionT) -> FunctionT:
    """Add --socket, --api and what the latter needs; the command gets `where`."""

    @functools.wraps(function)
    def command(
        sockets: tuple[Path, ...],
        api: str | None,
        token_file: Path | None,
        ca_file: Path | None,
        **arguments: Any,
    ) -> Any:
        return function(where=_where(sockets, api, token_file, ca_file), **arguments)

    path = click.Path(path_type=Path)
    for option in (
        click.option(
            "--ca-file", type=path, envvar="SPLITPLANE_CA_FILE",
            help="Certificates to trust instead of the system's.",
        ),
        click.option(
            "--token-file", type=path, envvar="SPLITPLANE_TOKEN_FILE",
            help="The file with a token of the API (`splitplane token create`).",
        ),
        click.option(
            "--api", metavar="URL", envvar="SPLITPLANE_API",
            help="Ask all machines' segments, by this API: https://host:8404 or unix:/path.",
        ),
    ):  # fmt: skip
        command = option(command)
    shown: FunctionT = sockets.socket_option(command)  # type: ignore[assignment]
    return shown


def _where(
    given: tuple[Path, ...], api: str | None, token_file: Path | None, ca_file: Path | None
) -> Where:
    if given or api is None:
        return Where(given, None)
    if token_file is None:
        raise click.UsageError("--api needs a token: give --token-file, or SPLITPLANE_TOKEN_FILE")
    from admin.link.token import read_token
    from splitplane.api_client import ApiClient

    return Where((), ApiClient(api, read_token(token_file), ca_file))
