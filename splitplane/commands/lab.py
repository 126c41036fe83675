# SPDX-License-Identifier: Apache-2.0
"""`splitplane lab`: a laboratory to try things in by hand."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from typing import Any, Final, Literal, TypeVar

import click

from admin.errors import CommandError
from splitplane import machine
from splitplane.commands.arguments import LAB_NAME, METHOD, TARGET
from splitplane.interrupts import ending_once
from splitplane.lab import Lab, state
from splitplane.lab.namespaces import NETNS_FOLDER, existing
from splitplane.lab.topology import VIRTUAL_ADDRESS, prefix

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])
DEFAULT_NAME: Final = "lab"

_OPTIONS: Final = (
    click.option(
        "--name",
        type=LAB_NAME,
        default=DEFAULT_NAME,
        show_default=True,
        help="The laboratory's name, which is part of its namespaces' names.",
    ),
    click.option(
        "--clients",
        type=click.IntRange(1, 250),
        default=2,
        show_default=True,
        help="Number of clients.",
    ),
    click.option(
        "--servers",
        type=click.IntRange(1, 250),
        default=3,
        show_default=True,
        help="Number of servers.",
    ),
    click.option(
        "--method",
        type=METHOD,
        default="round_robin",
        show_default=True,
        help="Balancing method.",
    ),
    click.option(
        "--target",
        type=TARGET,
        default="bpf",
        show_default=True,
        help="The DFS's target; p4runtime: a P4 switch (BMv2).",
    ),
    click.option(
        "--attach",
        type=click.Choice(["auto", "xdp", "tc"]),
        default="auto",
        show_default=True,
        help="How the bpf target attaches its program.",
    ),
    click.option(
        "--ipv6/--no-ipv6",
        default=True,
        show_default=True,
        help="Whether there is IPv6 in addition to IPv4.",
    ),
)


def lab_options(function: FunctionT) -> FunctionT:
    """What a laboratory may look like."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def make_lab(
    *,
    name: str,
    clients: int,
    servers: int,
    method: str,
    target: str,
    attach: Literal["auto", "xdp", "tc"],
    ipv6: bool,
    api: bool = False,
) -> Lab:
    """The laboratory that the options say."""
    return Lab(
        name,
        clients=clients,
        servers=servers,
        method=method,
        target=target,
        dfs_attach=attach,
        ipv6=ipv6,
        content=target != "p4runtime",  # whose program has no held entries yet
        api=api,
    )


@click.group()
def lab() -> None:
    """Run a laboratory in network namespaces on this machine.

    A laboratory has clients, a DFS, a CS and servers.
    """


@lab.command()
@lab_options
def up(**options: Any) -> None:
    """Start a laboratory and keep it until Ctrl-C."""
    with ending_once(), contextlib.suppress(KeyboardInterrupt), make_lab(**options) as running:
        name = running.name
        click.echo(f"The laboratory {name!r} is up; Ctrl-C stops it.  In another terminal:")
        click.echo(
            f"  splitplane lab exec --name {name} client1 curl http://{VIRTUAL_ADDRESS}/name"
        )
        click.echo("  splitplane show nodes")
        click.echo(f"  splitplane lab exec --name {name} dfs bash")
        click.echo(f"Configurations, sockets and logs: {running.folder}")
        needed = [running.dfs(), running.cs()]
        if options["target"] == "p4runtime":
            needed.append(running.switch())
        while all(process.is_running for process in needed):
            time.sleep(0.5)
        ended = next(process for process in needed if not process.is_running)
        raise CommandError(f"{ended.name} exited with {ended.wait()}: {ended.last_words()}")


@lab.command("list")
def list_() -> None:
    """List laboratories and their namespaces."""
    for name in state.known_labs():
        click.echo(f"{name}: {' '.join(existing(prefix(name))) or 'no namespaces'}")


@lab.command("exec", context_settings={"ignore_unknown_options": True})
@click.option(
    "--name",
    type=LAB_NAME,
    default=DEFAULT_NAME,
    show_default=True,
    help="The laboratory's name.",
)
@click.argument("host")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_(name: str, host: str, command: tuple[str, ...]) -> None:
    """Run COMMAND on HOST, for example client1, server2, dfs or cs1."""
    namespace = f"{prefix(name)}{host}"
    if not (NETNS_FOLDER / namespace).exists():
        raise CommandError(_lacking(name, host))
    machine.require_root("entering a namespace")
    os.execvp("nsenter", ["nsenter", f"--net={NETNS_FOLDER / namespace}", "--", *command])


def _lacking(name: str, host: str) -> str:
    """What is there instead."""
    if here := [found.removeprefix(prefix(name)) for found in existing(prefix(name))]:
        return f"the laboratory {name!r} has no host {host!r}; it has: {' '.join(here)}"
    others = [other for other in state.known_labs() if existing(prefix(other))]
    instead = (
        f"give --name; there are: {' '.join(others)}" if others else "splitplane run starts it"
    )
    return f"no laboratory {name!r} is running; {instead}"


@lab.command()
@click.option("--name", type=LAB_NAME, help="Only the laboratory with this name.")
def clean(name: str | None) -> None:
    """Remove what killed laboratories left behind; running ones stay."""
    machine.require_root("removing namespaces")
    for left in [name] if name else state.known_labs():
        if not state.clean(left):
            click.echo(f"{left}: it is running, so it was not removed", err=True)
