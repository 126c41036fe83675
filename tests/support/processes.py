# SPDX-License-Identifier: Apache-2.0
"""Processes that a test starts, and what they say."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO


@contextmanager
def killed_after(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """It does not outlive the block."""
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def line_of(stream: IO[str] | None) -> str:
    """The next line that it writes there; "" at its end."""
    assert stream is not None
    return stream.readline()


def said_until(process: subprocess.Popen[str], text: str) -> str:
    """Its standard error up to the line that has this."""
    log = ""
    while line := line_of(process.stderr):
        log += line
        if text in line:
            return log
    raise AssertionError(f"it ended, and did not say {text!r}: {log}")
