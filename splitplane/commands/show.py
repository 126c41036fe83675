# SPDX-License-Identifier: Apache-2.0
"""`splitplane show ...` and `splitplane trace`: what the segments know."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import click

from admin import answers
from admin.answers import Command
from admin.arguments import Arguments
from admin.client import AdminClient
from admin.errors import CommandError
from admin.limits import WEIGHT_MAX
from splitplane.commands.arguments import CLIENT
from splitplane.commands.sockets import control_segments_to_change, segments, socket_option
from splitplane.commands.tables import Decided, decided, print_json, print_tables
from splitplane.commands.where import Asked, Where, where_option

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")

# [2001:db8::1]:40000-203.0.113.10:80/udp
_END: Final = r"(?:\[[0-9A-Fa-f:.]+\]|[0-9.]+):[0-9]{1,5}"
_FLOW: Final = re.compile(rf"(?P<client>{_END})-(?P<vip>{_END})(?:/(?P<protocol>tcp|udp))?")


def _present(
    command: Command[Any] | Mapping[str, Command[Any]],
    chosen: Sequence[Asked],
    as_json: bool,
    **arguments: object,
) -> None:
    """*command*: the same for all, or one for each kind of segment."""
    said = [
        (
            segment,
            segment.ask(
                command if isinstance(command, Command) else command[segment.kind], **arguments
            ),
        )
        for segment in chosen
    ]
    (print_json if as_json else print_tables)(said)


@click.group()
def show() -> None:
    """Show the state of the segments on this machine, or with --api of all machines'."""


@show.command()
@click.option(
    "--limit",
    type=click.IntRange(1, max(answers.FLOWS_MAX.values())),
    default=1000,
    show_default=True,
    help="Show at most this many flows.",
)
@click.option("--client", type=CLIENT, help="Only flows of this client: ADDRESS or ADDRESS:PORT.")
@click.option("--vip", type=CLIENT, help="Only flows to this ADDRESS or ADDRESS:PORT.")
@click.option("--node", help="Only flows to this node: its name, ADDRESS or ADDRESS:PORT.")
@click.option("--virtual-server", help="Only flows of this virtual server.")
@click.option("--pool", help="Only flows to nodes of this pool.")
@click.option("--protocol", type=click.Choice(["tcp", "udp"]), help="Only such flows.")
@click.option(
    "--from", "kind", type=click.Choice(["cs", "dfs"]), help="Query this kind of segment."
)
@json_option
@where_option
def flows(limit: int, kind: str | None, as_json: bool, where: Where, **wanted: str | None) -> None:
    """Flows, with node and virtual server.

    They are those of the CS; without a CS on this machine, those of the DFS.
    """
    kinds = (kind,) if kind else ("cs", "dfs")
    chosen = where.segments(*kinds)
    for segment in chosen:
        if limit > (most := answers.FLOWS_MAX[segment.kind]):
            raise click.BadParameter(f"{segment.name} shows {most} at most", param_hint="--limit")
        for name in ("virtual_server", "pool"):
            if segment.kind == "dfs" and wanted[name] is not None:
                raise click.BadParameter(
                    f"{segment.name} does not know it; ask a CS",
                    param_hint=f"--{name.replace('_', '-')}",
                )
    given = {name: value for name, value in wanted.items() if value is not None}
    _present(answers.FLOWS, chosen, as_json, limit=limit, **given)


@show.command()
@json_option
@where_option
def virtual_servers(as_json: bool, where: Where) -> None:
    """Virtual servers of the CS; without a CS here, of the DFS."""
    _present(answers.VIRTUAL_SERVERS, where.segments("cs", "dfs"), as_json)


@show.command()
@click.argument("virtual_server", required=False)
@json_option
@where_option
def rules(virtual_server: str | None, as_json: bool, where: Where) -> None:
    """How many connections each rule has decided, at each CS.

    They are those of VIRTUAL_SERVER, or of all that have rules. A standby counts only what it
    decided itself.
    """
    said = [(segment, _decided(segment, virtual_server)) for segment in where.every("cs")]
    (print_json if as_json else print_tables)(said)


def _decided(segment: Asked, name: str | None) -> list[Decided]:
    servers = [
        server for server in segment.ask(answers.VIRTUAL_SERVERS) if name in (None, server.name)
    ]
    if name is not None and not servers:
        raise CommandError(f"{segment.name} has no virtual server {name!r}")
    if name is not None and not servers[0].rules:
        raise CommandError(
            f"virtual server {name} has no rules; it is of kind {servers[0].kind or 'plain'}"
        )
    return decided(servers)


def _offer(name: str, by_role: Mapping[str, Command[Any]], sentence: str) -> None:
    @show.command(name.replace("_", "-"), help=sentence)
    @json_option
    @where_option
    def shown(as_json: bool, where: Where) -> None:
        _present(by_role, where.every(*by_role), as_json)


def _offer_all() -> None:
    """All commands that only have to be asked and shown."""
    by_name: dict[str, dict[str, Command[Any]]] = {}
    for command in answers.COMMANDS:
        if command.shows:
            roles: Mapping[str, Command[Any]] = dict.fromkeys(command.roles, command)
            by_name.setdefault(command.name, {}).update(roles)
    for name, by_role in by_name.items():
        _offer(name, by_role, next(iter(by_role.values())).shows)


_offer_all()


def parse_flow(text: str) -> dict[str, str]:
    """The arguments of the segments' `trace` from what a person wrote."""
    match = _FLOW.fullmatch(text)
    if match is None or not _are_endpoints(match.groupdict()):
        raise click.BadParameter(
            f"{text!r} is not a flow; write CLIENT:PORT-VIRTUAL:PORT, with /udp for UDP,"
            " for example 198.51.100.7:40000-203.0.113.10:80"
            " or [2001:db8::7]:40000-[2001:db8:113::10]:80"
        )
    return {**match.groupdict(), "protocol": match["protocol"] or "tcp"}


def _are_endpoints(parts: Mapping[str, object]) -> bool:
    try:
        return all(Arguments(parts).endpoint(name) for name in ("client", "vip"))
    except ValueError:
        return False


@click.command()
@click.argument("flow")
@json_option
@where_option
def trace(flow: str, as_json: bool, where: Where) -> None:
    """Show what was decided for FLOW and why, and what the DFS did.

    FLOW is CLIENT:PORT-VIRTUAL:PORT as the client sees it; append /udp for UDP, and put IPv6
    addresses in brackets.
    """
    arguments = parse_flow(flow)
    said = [
        (segment, segment.ask(answers.TRACE, **arguments))
        for segment in where.every(*answers.TRACE.roles)
    ]
    if as_json:
        print_json(said)
        return
    # several machines have the wall clock in common, one machine its monotonic one
    story = [
        (step.time if step.at is None else step.at, segment.name, step.what)
        for segment, steps in said
        for step in steps
    ]
    if not story:
        raise CommandError(
            f"{flow}: no segment has a record of this {arguments['protocol']} flow; it may be too"
            " old, or use another protocol (append /udp)"
        )
    story.sort(key=lambda step: step[0])
    for when, name, what in story:
        click.echo(f"{(when - story[0][0]) * 1000:12.3f} ms  {name:8}  {what}")


@click.command()
@click.argument("flow")
@where_option
def reap(flow: str, where: Where) -> None:
    """End FLOW now, active or not.

    FLOW is written as for trace. Both ends of a TCP connection get a reset.
    """
    arguments = parse_flow(flow)
    if where.api is not None:
        name = where.api.request("POST", "/flows/reap", arguments).data["segment"]
    else:
        name = _reaped(where.segments("cs"), flow, arguments)
    click.echo(f"{name}: reaped")


def _reaped(chosen: Sequence[Asked], flow: str, arguments: dict[str, str]) -> str:
    """The CS that has ended it: of several on this machine, the active one."""
    said: list[CommandError] = []
    for segment in chosen:
        try:
            segment.ask(answers.REAP_FLOW, **arguments)
        except CommandError as error:
            said.append(error)
        else:
            return segment.name
    raise CommandError("\n".join(f"{flow}: {error}" for error in said))


def _names(
    field: Literal["pool", "name"],
) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """Shell completion from the running CS's nodes."""

    def complete(context: click.Context, _: click.Parameter, typed: str) -> list[str]:
        try:
            rows = [
                row
                for segment in segments(context.params.get("sockets") or (), "cs")
                for row in segment.ask(answers.NODES)
            ]
        except (CommandError, OSError):
            return []
        pool = context.params.get("pool")
        names = {getattr(row, field) for row in rows if pool in (None, row.pool)}
        return sorted(name for name in names if name.startswith(typed))

    return complete


@click.command("set-node")
@click.argument("pool", shell_complete=_names("pool"))
@click.argument("nodes", metavar="NODE...", nargs=-1, required=True, shell_complete=_names("name"))
@click.option("--weight", type=click.IntRange(0, WEIGHT_MAX))
@click.option("--state", type=click.Choice(["enabled", "draining", "down"]))
@socket_option
def set_node(
    pool: str,
    nodes: tuple[str, ...],
    weight: int | None,
    state: str | None,
    sockets: tuple[Path, ...],
) -> None:
    """Change NODEs of a POOL until the next reload.

    Existing connections are not moved. If the pool lacks one of several nodes, none is changed.
    Where the CS follows an API, `splitplane node` changes one for good.
    All CSs of this machine are asked; if they are of several groups, give --socket.
    """
    changes: dict[str, object] = {}
    if weight is not None:
        changes["weight"] = weight
    if state is not None:
        changes["state"] = state
    if not changes:
        raise click.UsageError("give --weight, --state, or both")
    for segment in control_segments_to_change(sockets):
        if len(nodes) == 1:  # which a CS of an earlier release knows, too
            segment.ask(answers.SET_NODE, pool=pool, node=nodes[0], **changes)
        else:
            segment.ask(answers.SET_NODES, pool=pool, nodes=nodes, **changes)
        link = segment.ask(answers.CS_STATUS).api
        if link is not None:
            click.echo(
                f"{segment.name} follows the API at {link.url}: this holds until the next change"
                f" there; splitplane node {pool} {nodes[0]} sets it for good",
                err=True,
            )


@click.command()
@socket_option
def reload(sockets: tuple[Path, ...]) -> None:
    """Make every CS of this machine reload its configuration.

    Each has its own file, so CSs of several groups are all reloaded without --socket. A file with
    an error changes nothing. The command waits until the file is in force; what takes more than a
    second is reported to the standard error.
    """
    for segment in segments(sockets, "cs"):
        with AdminClient(segment.socket) as client:
            client.ask_and_wait(answers.RELOAD, partial(_say, segment.name))
        click.echo(f"{segment.name}: reloaded")


def _say(name: str, doing: str) -> None:
    click.echo(f"{name}: {doing} ...", err=True)
