# SPDX-License-Identifier: Apache-2.0
"""`splitplane init`: the first configuration of a deployment."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from admin.errors import MachineError

if TYPE_CHECKING:
    from splitplane.setup.plan import Plan
    from splitplane.setup.writing import Written

_BY: Final = "splitplane init"
_FOLDER: Final = click.Path(path_type=Path)


class _Address(click.ParamType[str]):
    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """An address of a host, as segments have it."""
        from pydantic import TypeAdapter, ValidationError

        from control_segment.fields import SegmentAddress

        try:
            return TypeAdapter(SegmentAddress).validate_python(value)
        except ValidationError as error:
            said = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
            return self.fail(said, param, ctx)


ADDRESS: Final = _Address()


@click.command()
@click.option("--folder", type=_FOLDER, default=Path("/etc/splitplane"), show_default=True,
              help="Where the files go.")  # fmt: skip
@click.option("--state", type=_FOLDER, default=Path("/var/lib/splitplane"), show_default=True,
              help="Where the API's database goes, in a folder `api`.")  # fmt: skip
@click.option("--address", type=ADDRESS, default="127.0.0.1", show_default=True,
              help="At which other machines reach the API.")  # fmt: skip
@click.option("--cs", "css", type=ADDRESS, multiple=True,
              help="Address of a Control Segment.  [default: --address]")  # fmt: skip
@click.option("--dfs", "dfss", type=ADDRESS, multiple=True,
              help="Address of a Data Flow Segment.  [default: --address]")  # fmt: skip
@click.option("--external", multiple=True, metavar="INTERFACE", help="Of the DFS, towards clients.")
@click.option("--internal", multiple=True, metavar="INTERFACE", help="Of the DFS, towards nodes.")
@click.option("--target", type=click.Choice(["bpf", "memory"]), default="bpf", show_default=True,
              help="Of the DFS; memory: to try it out, without packets.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Show what would be written, and write nothing.")
def init(folder: Path, state: Path, dry_run: bool, **wanted: Any) -> None:
    """Make keys, tokens and the first configuration.

    Without --cs and --dfs, everything is on this machine. For several machines it writes the files
    of all, and says which belong where. It overwrites nothing.
    """
    from splitplane.setup.plan import CannotPlan, Wanted, plan
    from splitplane.setup.writing import present, write

    try:
        made = plan(Wanted(folder=folder.absolute(), state=state.absolute(), **wanted))
    except CannotPlan as error:
        here = ", ".join(sorted(name for _, name in socket.if_nameindex()))
        more = f"; this machine has: {here}" if "--external" in str(error) else ""
        raise click.UsageError(f"{error}{more}") from None
    if dry_run:
        _show(made)
        for path in present(made):
            click.echo(f"{path} is there already: nothing would be written", err=True)
        return
    written = write(made, wanted["address"], _tokens)
    _tell(made, written)


def _tokens(api_file: Path, segments: tuple[str, ...]) -> tuple[dict[str, str], str]:
    """Made in the database, as `splitplane token create` does."""
    try:
        from api.access.keeper import Keeper
        from api.access.roles import Role
        from api.composition import opened, realtime
        from api.config import ApiConfig
    except ImportError as error:
        raise MachineError(
            f"the API needs {error.name}, which is not installed; run pip install 'splitplane[api]'"
        ) from None
    from splitplane.config import load

    settings = load(api_file, ApiConfig)
    with opened(settings.database, api_file.parent) as database:
        keeper = Keeper(database, realtime)
        tokens = {name: keeper.add_token(name, Role.SEGMENT, _BY)[1] for name in segments}
        return tokens, keeper.add_token("first admin", Role.ADMIN, _BY)[1]


def _show(made: Plan) -> None:
    for file in made.files:
        click.echo(f"--- {file.path} (mode 0600)")
        click.echo(file.text if file.secret is None else f"({file.secret}, made when written)\n")
    click.echo(f"--- {made.database}\n(the API's database, with a token for each segment)")


def _tell(made: Plan, written: Written) -> None:
    for file in made.files:
        click.echo(f"wrote {file.path}", err=True)
    click.echo(f"wrote {made.database}", err=True)
    if not written.owner:
        click.echo(
            "the units of the API and the CS run as user splitplane, to whom their files must"
            " belong: docs/operations.md, Installing",
            err=True,
        )
    for machine in made.machines:
        names = " ".join(str(path) for path in machine.files)
        click.echo(f"\non {machine.address}, in {made.api_file.parent}:\n  {names}", err=True)
        click.echo(f"  systemctl enable --now {' '.join(machine.runs)}", err=True)
    here = [
        "splitplane-api" if file.of == "api" else f"splitplane-{file.of}@{file.path.stem}"
        for file in made.files
        if file.path.suffix == ".yaml"
        and not any(file.path in machine.files for machine in made.machines)
    ]
    click.echo(f"\non this machine:\n  systemctl enable --now {' '.join(here)}", err=True)
    click.echo(f"  splitplane doctor --folder {made.api_file.parent}", err=True)
    click.echo(f"\nthe page is at {made.url}; for a link to sign in there:", err=True)
    click.echo(f"  splitplane sign-in --config {made.api_file}", err=True)
    click.echo("\na token of role admin, which is stored nowhere and shown once:", err=True)
    click.echo(written.admin_token)
