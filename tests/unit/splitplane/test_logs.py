# SPDX-License-Identifier: Apache-2.0
"""The log is text for people, JSON for programs, and entries for systemd's journal."""

from __future__ import annotations

import json
import logging
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from admin.log_lines import Line, line
from admin.quiet_log import QuietLog
from splitplane.logs import VARIABLE, Journal, Json, Text, kind_of


def record(message: object, *args: object, **options: Any) -> logging.LogRecord:
    made = logging.LogRecord("x", logging.WARNING, "x.py", 1, message, args, None, **options)
    made.created = 1_800_000_000.0625
    return made


def test_auto_is_text_on_a_terminal_entries_for_the_journal_and_json_elsewhere(
    tmp_path: Path,
) -> None:
    with (tmp_path / "log").open("w") as file:
        status = os.fstat(file.fileno())
        ours = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        others = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino + 1}"}
        assert kind_of("auto", file, {}) == "json"
        assert kind_of("auto", file, ours) == "journal"
        assert kind_of("auto", file, others) == "json"
        assert kind_of("text", file, ours) == "text"
        assert kind_of("json", file, ours) == "json"
    ends = pty.openpty()
    with os.fdopen(ends[1], "w") as terminal, os.fdopen(ends[0]):
        assert kind_of("auto", terminal, {}) == "text"


def test_a_line_of_json_has_its_time_level_component_and_what_it_is_about() -> None:
    about = line("DFS 10.0.0.1 port 1: gone\nfor ever", peer="dfs-256", time="never")
    said = Json("cs-1").format(record("%s", about))
    assert "\n" not in said
    assert json.loads(said) == {
        "time": "2027-01-15T08:00:00.062Z",
        "level": "warning",
        "component": "cs-1",
        "message": "DFS 10.0.0.1 port 1: gone\nfor ever",
        "peer": "dfs-256",
    }


def test_a_trace_is_a_field_of_its_line() -> None:
    try:
        raise ValueError("é")
    except ValueError:
        made = record("failed")
        made.exc_info = sys.exc_info()
    said = json.loads(Json("cs").format(made))
    assert (said["message"], said["exception"].splitlines()[-1]) == ("failed", "ValueError: é")
    lines = Journal("cs").format(made).splitlines()
    assert (lines[0], lines[-1]) == ("<4>failed", "<4>ValueError: é")
    assert all(line.startswith("<4>") for line in lines)


def test_text_has_a_time_and_the_level() -> None:
    assert Text("cs").format(record("%d of %s", 2, "web")).endswith(" WARNING 2 of web")


def test_what_a_line_is_about_survives_a_limited_log() -> None:
    quiet = QuietLog()
    quiet.add("closed", line("closed", peer="cs-1"), 0.0)
    (said,) = quiet.take()
    assert isinstance(said, Line)
    assert said.about == {"peer": "cs-1"}


@pytest.mark.parametrize("way", ["option", "environment", "auto"])
def test_a_process_that_ends_says_why_in_json_where_its_log_is_json(
    tmp_path: Path, way: str
) -> None:
    options = ["--log-format", "json"] if way == "option" else []
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    if way == "environment":
        environment[VARIABLE] = "json"
    done = subprocess.run(
        [sys.executable, "-m", "splitplane", "cs", str(tmp_path / "none.yaml"), *options],
        capture_output=True, text=True, check=False, timeout=90, env=environment,
    )  # fmt: skip
    assert done.returncode == 3
    (said,) = [json.loads(each) for each in done.stderr.splitlines()]
    assert (said["level"], said["component"]) == ("error", "cs")
    assert said["message"].startswith(f"{tmp_path}/none.yaml: there is no such file")
