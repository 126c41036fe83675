# SPDX-License-Identifier: Apache-2.0
"""`splitplane doctor`: what a host lacks, and what to do."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from admin.errors import MachineError
from splitplane.commands.serving import CONFIG_FILE

if TYPE_CHECKING:
    from splitplane.doctor.evaluation import Finding

_COLOURS: Final = {"ok": "green", "warning": "yellow", "error": "red"}


@click.command()
@click.argument("configs", nargs=-1, type=CONFIG_FILE, metavar="[CONFIG]...")
@click.option("--folder", type=CONFIG_FILE, default=Path("/etc/splitplane"), show_default=True,
              help="Whose configurations are looked at, if none is given.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object with all findings.")
@click.option("--quiet", is_flag=True, help="Only what is not as it should be.")
@click.pass_context
def doctor(
    context: click.Context, configs: tuple[Path, ...], folder: Path, as_json: bool, quiet: bool
) -> None:
    """Check whether this host can do what its configurations say.

    It looks at the kernel, permissions, interfaces, sysctls, ports, files, the clock, and at
    whether other processes are reached, and says what to do about each finding. It changes nothing.

    Exit codes: 0 nothing is wrong (there may be warnings), 1 something is.
    """
    try:
        from splitplane.doctor.evaluation import evaluate, is_fit
        from splitplane.doctor.gathering import gather
    except ImportError as error:
        raise MachineError(
            f"doctor needs {error.name}, which is not installed; run pip install 'splitplane[api]'"
        ) from None

    findings = evaluate(gather(folder, configs))
    fit = is_fit(findings)
    if as_json:
        click.echo(json.dumps({"fit": fit, "findings": [asdict(each) for each in findings]}))
    else:
        _show(findings, quiet)
    context.exit(0 if fit else 1)


def _show(findings: list[Finding], quiet: bool) -> None:
    for finding in findings:
        if quiet and finding.level == "ok":
            continue
        level = click.style(f"{finding.level:<8}", fg=_COLOURS[finding.level])
        for number, line in enumerate(finding.what.splitlines()):
            click.echo(f"{level if not number else ' ' * 8} {finding.subject}: {line}")
        if finding.do:
            click.echo(f"{'':9}-> {finding.do}")
    counts = Counter(finding.level for finding in findings)
    click.echo(f"errors: {counts['error']}, warnings: {counts['warning']}, ok: {counts['ok']}")
