# SPDX-License-Identifier: Apache-2.0
"""`splitplane drill`: failures on purpose, under load, and a report of what they cost."""

from __future__ import annotations

import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from admin.errors import CommandError
from splitplane.commands.arguments import LAB_NAME, TARGET, FiniteRange
from splitplane.interrupts import ending_once

if TYPE_CHECKING:
    from splitplane.drill.results import Drill

RATE: Final = 100.0
_WIDTH: Final = 110  # what the table needs; a narrower terminal breaks its lines


@click.group()
def drill() -> None:
    """Cause failures on purpose, and measure what clients notice."""


@drill.command()
@click.option("--scenario", "names", multiple=True, metavar="NAME",
              help="Run this scenario; may be repeated. Default: all of them.")  # fmt: skip
@click.option("--list", "lists", is_flag=True, help="List the scenarios and exit.")
@click.option("--rounds", type=click.IntRange(1, 1000), default=1, show_default=True,
              help="How many times to run each scenario.")  # fmt: skip
@click.option("--report", "folder", type=click.Path(path_type=Path, file_okay=False),
              help="Folder for the report.  [default: drill-DATE-TIME, here]")  # fmt: skip
@click.option("--timings", type=click.Choice(["default", "aggressive"]), default="default",
              show_default=True,
              help="How soon a standby takes over; aggressive: five times as soon.")  # fmt: skip
@click.option("--config", "config", type=click.Path(path_type=Path, dir_okay=False),
              help="Test the running deployment of this file, not a laboratory.")  # fmt: skip
@click.option("--rate", type=FiniteRange(1, 5000), default=RATE, show_default=True,
              help="New connections per second, of all clients together.")  # fmt: skip
@click.option("--timeout", type=FiniteRange(0.1, 120), default=10.0, show_default=True,
              help="Seconds after which a new connection without an answer is lost.")  # fmt: skip
@click.option("--settle", type=FiniteRange(2, 600), default=4.0, show_default=True,
              help="Seconds of load before the failure.")  # fmt: skip
@click.option("--outage", type=FiniteRange(0.5, 3600), default=5.0, show_default=True,
              help="Seconds from the failure until it is repaired.")  # fmt: skip
@click.option("--after", type=FiniteRange(1.5, 3600), default=5.0, show_default=True,
              help="Seconds of load after the repair.")  # fmt: skip
@click.option("--in-a-row", "failures", type=click.IntRange(1, 1000), default=1, show_default=True,
              help="How often each round causes its failure under one load.")  # fmt: skip
@click.option("--cs", "cs_count", type=click.IntRange(1, 3), default=2, show_default=True,
              help="CSs in the laboratory; with 1 there is no standby.")  # fmt: skip
@click.option("--target", type=TARGET, default="bpf", show_default=True,
              help="The target of the laboratory's DFS.")  # fmt: skip
@click.option("--name", type=LAB_NAME, default="drill", show_default=True,
              help="The laboratory's name.")  # fmt: skip
@click.option("--plots/--no-plots", default=True,
              help="Whether to draw plots, for which matplotlib is needed.")  # fmt: skip
def failover(
    names: tuple[str, ...],
    lists: bool,
    rounds: int,
    folder: Path | None,
    timings: str,
    config: Path | None,
    rate: float,
    timeout: float,
    settle: float,
    outage: float,
    after: float,
    failures: int,
    cs_count: int,
    target: str,
    name: str,
    plots: bool,
) -> None:
    """Cause failures under load, and report what clients noticed.

    Each scenario starts a laboratory on this machine (root; network namespaces, real processes),
    opens HTTP connections at a fixed rate, and keeps downloads, uploads, idle connections and UDP
    flows open. Then it causes the failure (for example kill -9 of the active CS), repairs it, and
    waits for everything to end. Every octet is compared.

    The report is DIR/report.html (one file, with plots), DIR/*.png and DIR/result.json; what each
    client process saw is in DIR/SCENARIO-ROUND/*.jsonl.

    With --in-a-row the same flows live through many failures: the next one comes --after seconds
    after the repair, or once a standby could take over again, if that is later.

    The exit code is 0 only if nothing was lost: no connection broke or failed, no octet was wrong,
    and at the end the CS was active that should be. A pause alone is no failure; the report shows
    how long it was.

    With --config, the load goes to a deployment that is already running, and the failures are
    commands of your own. docs/operations.md describes the file.
    """
    from splitplane import config as files
    from splitplane.drill import drill as drills
    from splitplane.drill.operators import OperatorsFile
    from splitplane.drill.plots import require_matplotlib
    from splitplane.drill.runner import Times
    from splitplane.drill.scenarios import SCENARIOS

    file = files.load(config, OperatorsFile) if config else None
    if lists:
        known = file.scenarios if file else SCENARIOS
        for each, scenario in known.items():
            click.echo(f"{each:20}{scenario.title}")
        return
    if plots:
        require_matplotlib()
    folder = folder or Path(time.strftime("drill-%Y%m%d-%H%M%S"))
    folder.mkdir(parents=True, exist_ok=True)
    options = drills.Options(
        rounds=rounds,
        times=Times(settle_s=settle, outage_s=outage, after_s=after, failures=failures),
        rate=rate,
        timeout_s=timeout,
        folder=folder,
        timings=timings,
        cs_count=cs_count,
        name=name,
        target=target,
    )
    with ending_once():
        try:
            if file:
                done = drills.of_operator(file, names, options, click.echo)
            else:
                done = drills.in_laboratory(names, options, click.echo)
        except KeyboardInterrupt:
            raise CommandError("interrupted; there is no report") from None
    _report(done, folder, plots=plots)
    if not done.passed:
        raise CommandError(f"the drill failed; {folder}/report.html shows where")


def _report(done: Drill, folder: Path, *, plots: bool) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from splitplane.drill import report, results

    report.write_json(done, folder)
    path = report.write_html(done, folder, plots=plots)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for number, heading in enumerate(report.SUMMARY):
        table.add_column(heading, justify="left" if number == 0 else "right", no_wrap=True)
    for row in report.summary_rows(done):
        table.add_row(*row)
    click.echo("")
    console = Console()
    console = Console(width=max(console.width, _WIDTH))
    console.print(table)
    click.echo("\nWhat was measured, and how:")
    for sentence in results.method(done.plan, done.loads):
        click.echo(textwrap.fill(sentence, 98, initial_indent="  * ", subsequent_indent="    "))
    click.echo(f"\nreport: {path}")
