# SPDX-License-Identifier: Apache-2.0
"""Generate the documentation that comes from the code, and check the documentation's links.

    python scripts/docs.py [--check]

`docs/commands.md` is the help of every command; the tables in `docs/metrics.md` are those of the
code.  With --check nothing is written and a stale file is an error, as is a link to a file or
heading that is not there.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from admin.metrics import cs, dfs
from admin.metrics.instruments import DECISIONS, delay
from admin.metrics.tables import AnyGroup
from api.metrics import alerts, collecting, requests
from splitplane.cli import cli

ROOT = Path(__file__).parents[1]
COMMANDS = ROOT / "docs/commands.md"
METRICS = ROOT / "docs/metrics.md"
GROUPS: dict[str, tuple[AnyGroup, ...]] = {
    "cs": cs.GROUPS,
    "dfs": dfs.GROUPS,
    "api": collecting.GROUPS,
}
INSTRUMENTS = {
    "cs": (DECISIONS, delay("cs")),
    "dfs": (delay("dfs"),),
    "api": (*requests.INSTRUMENTS, alerts.MESSAGES, delay("api")),
}
_TABLE = "<!-- table of {} -->\n"
_TABLE_END = "\n<!-- end of the table -->"
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
_CODE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def commands(command: click.Command, name: str, parent: click.Context | None) -> Iterator[str]:
    """The help of a command and of those below it, as Markdown."""
    settings = {**command.context_settings, "terminal_width": 100}
    context = click.Context(command, info_name=name, parent=parent, **settings)
    yield f"## `{context.command_path}`\n\n```\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            assert found is not None
            yield from commands(found, below, context)


def metrics(text: str) -> str:
    """docs/metrics.md with the tables of the code."""
    for component, groups in GROUPS.items():
        before, begin, rest = text.partition(_TABLE.format(component))
        _, end, after = rest.partition(_TABLE_END)
        if not (begin and end):
            raise ValueError(f"{METRICS}: no place for the table of {component}")
        text = before + begin + "\n".join(_rows(component, groups)) + end + after
    return text


def _rows(component: str, groups: tuple[AnyGroup, ...]) -> Iterator[str]:
    yield "| metric | type | of | labels | meaning |"
    yield "| --- | --- | --- | --- | --- |"
    for group in groups:
        for metric in group.metrics:
            name = metric.name + "_info" if metric.kind == "info" else metric.name
            yield _row(name, metric.kind, group.of, group.labels, metric.meaning)
    for each in INSTRUMENTS[component]:
        yield _row(each.name, each.kind, each.of, each.labels, each.meaning)


def _row(name: str, kind: str, of: str, labels: tuple[str, ...], meaning: str) -> str:
    names = ", ".join(f"`{label}`" for label in labels)
    return f"| `{name}` | {kind} | {of} | {names} | {meaning.replace('|', chr(92) + '|')} |"


def anchors(text: str) -> set[str]:
    """The anchors of a Markdown file's headings."""
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
        for heading in _HEADING.findall(_CODE.sub("", text))
    }


def dead_links(path: Path) -> Iterator[str]:
    """Links of one file to what is not in the repository."""
    for target in _LINK.findall(_CODE.sub("", path.read_text())):
        if "://" in target or target.startswith("mailto:"):
            continue
        file, _, anchor = target.partition("#")
        aim = (path.parent / file).resolve() if file else path
        where = f"{path.relative_to(ROOT)}: {target}"
        if not aim.exists():
            yield f"{where}: there is no such file"
        elif anchor and aim.suffix == ".md" and anchor not in anchors(aim.read_text()):
            yield f"{where}: there is no such heading"


def main() -> int:
    """Returns the exit code."""
    text = (
        "# Commands\n\nWritten by `make docs` from the program's own help. Exit codes and"
        " requirements: [operations.md](operations.md).\n\n"
        + "\n".join(commands(cli, "splitplane", None))
    )
    problems = []
    for path, fresh in ((COMMANDS, text), (METRICS, metrics(METRICS.read_text()))):
        if "--check" not in sys.argv:
            path.write_text(fresh)
        elif not path.exists() or path.read_text() != fresh:
            problems.append(f"{path.relative_to(ROOT)} is out of date: run `make docs`")
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        problems += dead_links(path)
    print("\n".join(problems), file=sys.stderr, end="\n" if problems else "")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
