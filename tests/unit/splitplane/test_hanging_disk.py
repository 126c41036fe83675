# SPDX-License-Identifier: Apache-2.0
"""Files on disks that hang; a pipe to which nobody writes stands for one."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from admin import disk
from splitplane import config, keys


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when somebody was told that a file is waited for."""
    told = threading.Event()
    say = disk._say

    def note(path: Path, slow_s: float) -> None:
        say(path, slow_s)
        told.set()

    monkeypatch.setattr(disk, "SLOW_S", 0.01)
    monkeypatch.setattr(disk, "_say", note)
    return told


@pytest.mark.parametrize("read", [config.read, lambda path: keys.read_key(path).decode()])
def test_a_file_that_hangs_is_said_to_be_waited_for(
    tmp_path: Path,
    said: threading.Event,
    caplog: pytest.LogCaptureFixture,
    read: Callable[[Path], str],
) -> None:
    pipe = tmp_path / "hangs"
    os.mkfifo(pipe, 0o600)
    found: list[str] = []
    reading = threading.Thread(target=lambda: found.append(read(pipe)))
    reading.start()
    assert said.wait(60)
    assert f"{pipe} is not read after 0.01 s, and is waited for" in caplog.text
    pipe.write_text("a: text of more than sixteen octets\n")
    reading.join(60)
    assert found
    assert found[0].strip() == "a: text of more than sixteen octets"


def test_a_disk_that_answers_is_not_mentioned(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "file"
    file.write_text("x\n")
    assert disk.read_file(file, 10) == b"x\n"
    assert config.read(file) == "x\n"
    assert caplog.text == ""
    assert not [each for each in threading.enumerate() if isinstance(each, threading.Timer)]
