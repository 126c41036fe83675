# SPDX-License-Identifier: Apache-2.0
"""`splitplane switchover`: let another CS of the group be the active one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from admin.answers import CS_STATUS, SWITCHOVER
from admin.errors import CommandError
from splitplane.commands.sockets import Segment, segments, socket_option

WAIT_S: Final = 5.0
_LOOK_S: Final = 0.01


@click.command()
@click.option("--to", type=click.IntRange(1), help="Segment ID of the CS that is to be active.")
@click.option(
    "--force",
    is_flag=True,
    help="Let a standby claim although it lacks flows or reaches fewer than half of the DFSs.",
)
@socket_option
def switchover(to: int | None, force: bool, sockets: tuple[Path, ...]) -> None:
    """Make a standby CS the active one of its group, without losing a connection.

    If the active CS runs on this machine, it hands over to the standby that --to names, or to
    another one. Otherwise the standby on this machine takes over. Waits until that is done.
    """
    found = segments(sockets, "cs")
    if force:  # a standby's own decision
        found = [each for each in found if not is_active(each)]
        if not found:
            raise CommandError("--force is for a standby, and none runs here; give its --socket")
    asked = choose(found, to)
    was_active = is_active(asked)
    begun = time.monotonic()
    arguments: dict[str, object] = {} if to is None else {"to": to}
    chosen = asked.ask(SWITCHOVER, **arguments, **({"force": "yes"} if force else {})).segment_id
    if was_active and chosen == asked.segment_id:
        click.echo(f"cs-{chosen} is the active CS already")
        return
    while is_active(asked) == was_active:
        if time.monotonic() > begun + WAIT_S:
            raise CommandError(
                f"cs-{chosen} has not taken over after {WAIT_S:g} s; it may lack flows:"
                " see `splitplane show status` there. The active CS goes on as before"
            )
        time.sleep(_LOOK_S)
    click.echo(f"cs-{chosen} is the active CS, after {(time.monotonic() - begun) * 1000:.0f} ms")


def choose(found: Sequence[Segment], to: int | None) -> Segment:
    """The CS to ask: the active one if it is here, or the one that is to take over."""
    for segment in found:
        if is_active(segment):
            return segment
    for segment in found:
        if to in (None, segment.segment_id):
            return segment
    raise CommandError(
        f"neither the active CS nor cs-{to} runs on this machine; run this where one of them does"
    )


def is_active(segment: Segment) -> bool:
    """Whether a CS is the active one of its group."""
    return segment.ask(CS_STATUS).group_role == "active"
