# SPDX-License-Identifier: Apache-2.0
"""`splitplane switchover`: let another CS of the group be the active one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import click

from admin.answers import CS_STATUS, SWITCHOVER
from admin.errors import CommandError
from splitplane.commands.sockets import Segment, control_segments_to_change, socket_option
from splitplane.handing_over import wait_until_handed_over


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
    another one. Otherwise the standby on this machine takes over. Waits until that is done; a
    standby that lacks flows has 30 s to get them. If CSs of several groups run here, give --socket.
    """
    found = control_segments_to_change(sockets)
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
    wait_until_handed_over(partial(asked.ask, CS_STATUS), chosen)
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
