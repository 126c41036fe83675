# SPDX-License-Identifier: Apache-2.0
"""Processes that a test starts, and what they say."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from splitplane.lab import Lab

_END_S = 60.0


class Running:
    """A daemon in the namespace of a laboratory's host, ended with the block."""

    def __init__(self, lab: Lab, host: str, *command: str, folder: Path | None = None) -> None:
        self._command = lab.namespaces[host].command(*command)
        self._folder = folder

    def __enter__(self) -> None:
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self._folder,
        )

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(_END_S)


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
