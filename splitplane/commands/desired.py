# SPDX-License-Identifier: Apache-2.0
"""`splitplane import`, `export`, `apply`, `generations`, `diff`, `roll-back`: the whole desired
state, and its history."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from admin.documents.places import Place
from admin.errors import CommandError
from splitplane.api_client import YAML, Answer, ApiClient, RefusedError, api_options
from splitplane.config import document_of, wrong
from splitplane.differences import lines_of

if TYPE_CHECKING:
    from admin.errors import ConfigError

GROUP_FIELDS: Final = ("settings", "monitors", "pools", "virtual_servers")
FILE: Final = click.Path(path_type=Path)
group_option = click.option(
    "--group", type=click.IntRange(0, 65535), help="The group of CSs.  [default: 1]"
)
comment_option = click.option("--comment", default=None, help="Why; the history shows it.")
dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Check everything and print what would change; change nothing."
)


@click.command("import")
@click.argument("file", type=FILE)
@group_option
@comment_option
@dry_run_option
@click.option(
    "--config",
    type=FILE,
    help="Write to the database of this api.yaml directly; the API need not run.",
)
@api_options
def import_(
    api: ApiClient, file: Path, group: int | None, comment: str | None, dry_run: bool,
    config: Path | None,
) -> None:  # fmt: skip
    """Make the settings, monitors, pools and virtual servers of a cs.yaml the desired state.

    FILE's group_id is the group unless --group is given. What else FILE has stays with that CS.
    """
    data, place = document_of(file)
    document: dict[str, Any] = {name: data[name] for name in GROUP_FIELDS if name in data}
    if group is None:
        given = data.get("group_id", 1)
        if not isinstance(given, int) or isinstance(given, bool) or not 0 <= given <= 65535:
            raise wrong(str(file), place, [("/group_id", "give a whole number up to 65535")])
        group = given
    comment = f"import of {file.name}" if comment is None else comment
    try:
        if config is None:
            _apply(api, document, group, comment, dry_run)
        else:
            _apply_directly(config, document, group, comment, dry_run)
    except RefusedError as error:
        raise _of_file(error, file, place) from None


@click.command()
@click.argument("file", type=FILE)
@group_option
@comment_option
@dry_run_option
@api_options
def apply(
    api: ApiClient, file: Path, group: int | None, comment: str | None, dry_run: bool
) -> None:
    """Make the desired state exactly what FILE says.

    FILE is YAML with settings, monitors, pools and virtual_servers, as `splitplane export` prints
    it. What it does not have is removed. One generation is made, or nothing is changed.
    """
    data, place = document_of(file)
    try:
        _apply(api, data, 1 if group is None else group, comment, dry_run)
    except RefusedError as error:
        raise _of_file(error, file, place) from None


@click.command()
@group_option
@click.option("--generation", type=click.IntRange(0), help="As it was then.")
@api_options
def export(api: ApiClient, group: int | None, generation: int | None) -> None:
    """Print the desired state as YAML, which `splitplane apply` and a cs.yaml take."""
    query = {"group_id": 1 if group is None else group, "generation": generation}
    answer = api.request("GET", "/configuration", query=query, accept=YAML)
    click.echo(answer.text, nl=False)


@click.command()
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True,
              help="Print so many, the newest first.")  # fmt: skip
@api_options
def generations(api: ApiClient, limit: int) -> None:
    """List the changes of the desired state: when, who, how many resources, how, why."""
    found = api.request("GET", "/generations", query={"limit": limit}).data
    for each in found["items"]:
        when = datetime.datetime.fromtimestamp(each["at"]).isoformat(" ", "seconds")
        why = f": {each['comment']}" if each["comment"] else ""
        count = f"{each['count']} change{'' if each['count'] == 1 else 's'}"
        click.echo(f"{each['number']:>6}  {when}  {each['who']}  {count}  {each['how']}{why}")
    if not found["items"]:
        click.echo("no generation: nothing was ever configured", err=True)
    elif found["next"] is not None:
        click.echo(f"{found['total'] - len(found['items'])} older ones: --limit", err=True)


@click.command()
@click.argument("first", metavar="A", type=click.IntRange(0))
@click.argument("last", metavar="B", type=click.IntRange(0))
@api_options
def diff(api: ApiClient, first: int, last: int) -> None:
    """Print what is different between generations A and B.

    Generation 0 is the empty state.
    """
    found = api.request("GET", f"/generations/{last}/difference", query={"from": first}).data
    _print(found["changes"])
    if not found["changes"]:
        click.echo(f"generations {first} and {last} are equal", err=True)


@click.command("roll-back")
@click.argument("number", metavar="GENERATION", type=click.IntRange(0))
@comment_option
@dry_run_option
@api_options
def roll_back(api: ApiClient, number: int, comment: str | None, dry_run: bool) -> None:
    """Make the desired state of all groups what it was at GENERATION.

    That is a new generation: nothing of the history is lost.
    """
    query = {"comment": comment, "dry_run": dry_run}
    show(api.request("POST", f"/generations/{number}/roll-back", query=query).data)


def show(made: dict[str, Any]) -> None:
    """Print what a change has changed, or would, and its generation."""
    changes, number = made["changes"], made["number"]
    _print(changes)
    resources = f"{len(changes)} resource{'' if len(changes) == 1 else 's'}"
    if not changes:
        said = f"nothing is different from generation {number}"
    elif made["dry_run"]:
        said = f"dry run: {resources} would change; nothing has changed"
    else:
        said = f"generation {number}: {resources} changed"
    click.echo(said, err=True)


def apply_document(
    api: ApiClient, document: object, *, group: int, comment: str | None, dry_run: bool = False,
    if_match: str | None = None,
) -> None:  # fmt: skip
    """Make a group's state what *document* says, and print what changed; RefusedError."""
    query = {"group_id": group, "comment": comment, "dry_run": dry_run}
    made = api.request("PUT", "/configuration", document, query=query, if_match=if_match).data
    if made["changes"] and not dry_run:  # its own answer has no bodies
        made = api.request("GET", f"/generations/{made['number']}").data
    show(made)


def _apply(
    api: ApiClient, document: object, group: int, comment: str | None, dry_run: bool
) -> None:
    apply_document(api, document, group=group, comment=comment, dry_run=dry_run)


def _apply_directly(
    config: Path, document: dict[str, Any], group: int, comment: str, dry_run: bool
) -> None:
    """As `_apply`, without the API's process."""
    from splitplane.commands.api import load_config, user

    settings = load_config(config)
    from api.composition import opened, realtime
    from api.desired.store import DesiredState
    from api.errors import Problem
    from api.generations.models import shown
    from splitplane.api_client import Fault

    with opened(settings.database, config.parent) as database:
        try:
            made = DesiredState(database, realtime).apply(
                group, document, who=f"{user()} (command)", how="import",
                comment=comment, dry_run=dry_run,
            )  # fmt: skip
        except Problem as problem:
            faults = tuple(Fault(each.pointer, each.detail) for each in problem.errors)
            raise RefusedError(problem.status, problem.detail, faults) from None
        show(shown(made))


def _print(changes: list[dict[str, Any]]) -> None:
    for line in lines_of(changes):
        click.echo(line)


def generation_of(answer: Answer) -> int:
    """The newest one after a change."""
    return int(answer.headers["splitplane-generation"])


def _of_file(error: RefusedError, file: Path, place: Place) -> ConfigError | CommandError:
    """What the API says is wrong, as lines of the file."""
    if error.faults:
        return wrong(str(file), place, error.faults)
    return error
