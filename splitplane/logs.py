# SPDX-License-Identifier: Apache-2.0
"""The log of a process, at standard error: for people at a terminal, for programs elsewhere.

text     2026-11-30 01:02:03,004 INFO the configuration was reloaded
json     {"time": "2026-11-30T01:02:03.004Z", "level": "info", "component": "cs-1", ...}
journal  <6>the configuration was reloaded         what systemd's journal makes entries of
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal, TextIO

import click

from admin.log_lines import Line

VARIABLE: Final = "SPLITPLANE_LOG_FORMAT"
Choice = Literal["auto", "text", "json"]
Kind = Literal["text", "json", "journal"]

OPTION = click.option(
    "--log-format", type=click.Choice(["auto", "text", "json"]), default="auto", envvar=VARIABLE,
    show_envvar=True,
    help="auto: text on a terminal and for systemd's journal, otherwise a JSON object per line.",
)  # fmt: skip

# of syslog (sd-daemon(3)), from which journalctl -p chooses
_PRIORITIES: Final = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG: Final = 7


def kind_of(choice: Choice, stream: TextIO, environment: Mapping[str, str]) -> Kind:
    """How lines are written to a stream."""
    if choice != "auto":
        return choice
    try:
        is_terminal, status = stream.isatty(), os.fstat(stream.fileno())
    except (OSError, ValueError):  # it has no descriptor
        return "text"
    if is_terminal:
        return "text"
    # systemd says so to what it starts; a child's own files and pipes have other numbers
    return "journal" if environment.get("JOURNAL_STREAM") == _name(status) else "json"


def _name(status: os.stat_result) -> str:
    return f"{status.st_dev}:{status.st_ino}"


class Log:
    """The lines of one process."""

    def __init__(self, component: str, choice: Choice) -> None:
        """`component`: "cs", "dfs" or "api" until more is known (`is_of`)."""
        kind = kind_of(choice, sys.stderr, os.environ)
        self._formatter = _FORMATTERS[kind](component)
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(self._formatter)
        logging.basicConfig(level=logging.INFO, handlers=[handler])

    def is_of(self, component: str) -> None:
        """Who it is: "cs-1"."""
        self._formatter.component = component


def tells_as_json(sentence: str) -> bool:
    """Put what ends the process into its log, if that is JSON: among objects a line of text is one
    that cannot be read.  Otherwise the caller tells it to people."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, Json):
            logging.getLogger("splitplane").error("%s", sentence)
            return True
    return False


class _Formatter(logging.Formatter):
    def __init__(self, component: str) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")
        self.component = component


class Text(_Formatter):
    """For people."""


class Json(_Formatter):
    """One object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        said: dict[str, Any] = {
            "time": time.removesuffix("+00:00") + "Z",
            "level": record.levelname.lower(),
            "component": self.component,
            "message": record.getMessage(),
        }
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return json.dumps({**said, **_about(record), **said}, ensure_ascii=False)


class Journal(_Formatter):
    """For systemd's journal, which has its own clock and knows the unit: each line with its
    priority, also those of a trace, for each is an entry."""

    def format(self, record: logging.LogRecord) -> str:
        """The lines."""
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        priority = next((name for level, name in _PRIORITIES if record.levelno >= level), _DEBUG)
        return "\n".join(f"<{priority}>{line}" for line in text.splitlines())


_FORMATTERS: Final[dict[Kind, type[_Formatter]]] = {"text": Text, "json": Json, "journal": Journal}


def _about(record: logging.LogRecord) -> dict[str, Any]:
    """What a line is about."""
    arguments = record.args if isinstance(record.args, tuple) else ()
    about: dict[str, Any] = {}
    for argument in (record.msg, *arguments):
        if isinstance(argument, Line):
            about |= argument.about
    return about
