# SPDX-License-Identifier: Apache-2.0
"""`splitplane run`: the laboratory, under load, live."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import Any, Final

import click
from rich.console import Console
from rich.live import Live

from admin.errors import CommandError
from splitplane.commands import live
from splitplane.commands.arguments import FiniteRange
from splitplane.commands.lab import lab_options, make_lab
from splitplane.interrupts import cancelling_once, ending_once
from splitplane.lab import Lab
from splitplane.lab.load import Load

ONCE_S: Final = 5
# new connections per second: easy for a small machine; BMv2 is a software model of a switch
RATE: Final = 60.0
RATES: Final = {"p4runtime": 4.0}
_INTERVAL_S: Final = 1.0


@click.command()
@lab_options
@click.option("--rate", type=FiniteRange(1, 2000),
              help="New connections per second.  [default: 60; with p4runtime 4]")  # fmt: skip
@click.option("--seconds", type=FiniteRange(1), help="Stop after this many seconds.")
@click.option("--once", is_flag=True, help=f"Run for {ONCE_S} s, print the screen once, and exit.")
@click.option("--api/--no-api", default=None,
              help="Whether there is a web page.  [default: not with --once]")  # fmt: skip
def run(
    rate: float | None, seconds: float | None, once: bool, api: bool | None, **options: Any
) -> None:
    """Run a laboratory under real HTTP load, with a live view and a web page.

    It runs until Ctrl-C. Every octet that the clients receive is checked; the exit code is 1 if any
    request failed. The page's address and a link to sign in with, once, are printed.
    """
    options["api"] = not once if api is None else api
    if sys.stderr.isatty():
        click.echo("starting the laboratory ...", err=True)
    load = None  # Ctrl-C may come before there is one
    with ending_once(), contextlib.suppress(KeyboardInterrupt), make_lab(**options) as lab:
        if lab.api is not None:
            link = lab.api.sign_in_link()
            click.echo(
                f"page {lab.api.url}  sign in, once and within ten minutes: {link}", err=True
            )
        load = Load(lab, connections_per_second=rate or RATES.get(options["target"], RATE))
        try:
            with contextlib.suppress(asyncio.CancelledError):  # by a signal
                asyncio.run(_run(lab, load, ONCE_S if once else seconds, once=once))
        finally:
            _say_how_it_was(load)
    if load is not None and load.tally.failures:
        raise CommandError(
            f"{load.tally.failures} requests failed; the last: {load.tally.last_failure}"
        )


def _say_how_it_was(load: Load) -> None:
    tally = load.tally
    shares = ", ".join(f"{name} {tally.by_server[name]}" for name in sorted(tally.by_server))
    click.echo(
        f"{tally.requests} requests on {tally.connections} connections and UDP exchanges,"
        f" {tally.octets} octets, all checked; {tally.failures} failures;"
        f" requests per server: {shares or 'none'}"
    )


async def _run(lab: Lab, load: Load, seconds: float | None, *, once: bool) -> None:
    with cancelling_once():
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(load.run())
            try:
                await _watch(lab, load, seconds, once=once)
            finally:
                load.stop()


async def _watch(lab: Lab, load: Load, seconds: float | None, *, once: bool) -> None:
    loop = asyncio.get_running_loop()
    sampler = live.Sampler(lab, load.tally)
    started = loop.time()
    console = Console()
    before = now = await asyncio.to_thread(sampler.sample, started)
    screen = Live(console=console, auto_refresh=False, screen=True, transient=True)
    with screen if console.is_terminal and not once else contextlib.nullcontext():
        while seconds is None or now.now - started < seconds:
            await asyncio.sleep(_INTERVAL_S)
            before, now = now, await asyncio.to_thread(sampler.sample, loop.time())
            if once:
                continue
            if console.is_terminal:
                drawn = live.draw(
                    lab, before, now, now.now - started, console.height, console.width
                )
                screen.update(drawn, refresh=True)
            else:
                click.echo(live.line(before, now))
    if once:
        console.print(live.draw(lab, before, now, now.now - started, width=console.width))
