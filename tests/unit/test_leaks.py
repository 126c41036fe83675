# SPDX-License-Identifier: Apache-2.0
"""A test that leaves something behind fails itself, by name; its neighbours do not."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from support.cluster.laboratory import require_laboratory

SUPPORT: Final = Path(__file__).resolve().parents[1]

CONFTEST: Final = """
from support.leaks import LeakDetector

def pytest_configure(config):
    config.pluginmanager.register(LeakDetector(end_s=0.1))
"""

LEAKS: Final = """
import asyncio, os, pathlib, socket, subprocess, threading
import pytest

kept = []

def cycle(thing):
    around = [thing]
    around.append(around)

def test_socket_that_is_kept():
    kept.append(socket.socket())

def test_socket_in_a_cycle():
    cycle(socket.socket())

def test_transport(tmp_path):
    async def serve(reader, writer):
        pass

    async def main():
        server = await asyncio.start_unix_server(serve, tmp_path / "socket")
        kept.append(await asyncio.open_unix_connection(tmp_path / "socket"))
        server.close()

    asyncio.run(main())

def test_task():
    async def main():
        kept.append(asyncio.get_running_loop().create_task(asyncio.sleep(60), name="sleeper"))

    asyncio.run(main())

def test_loop():
    cycle(asyncio.new_event_loop())

def test_coroutine():
    async def never():
        pass

    cycle(never())

def test_file(tmp_path):
    kept.append((tmp_path / "file.txt").open("w"))

def test_thread():
    ended = threading.Event()
    kept.append(ended)
    threading.Thread(target=ended.wait, name="left-1", daemon=True).start()

def test_process():
    kept.append(subprocess.Popen(["cat"], stdin=subprocess.PIPE))

def test_process_that_nobody_waited_for():
    if (pid := os.fork()) == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

def test_nothing():
    with socket.socket(), socket.socket():
        pass

@pytest.fixture(scope="module")
def lasting():
    with socket.socket() as made:
        yield made

def test_fixture_of_the_module(lasting):
    pass

def test_fixture_of_the_module_again(lasting):
    pass

def test_socket_beside_the_modules(lasting):
    kept.append(socket.socket())

@pytest.fixture(scope="module")
def careless():
    kept.append(os.pipe())

def test_fixture_that_does_not_clean_up(careless):
    pass

def test_thread_that_is_about_to_end():
    threading.Timer(0.01, lambda: None).start()
"""

EXPECTED: Final = {
    "test_socket_that_is_kept": "open: socket",
    "test_socket_in_a_cycle": "unclosed <socket.socket",
    "test_transport": "open: socket",
    "test_task": "task: <coroutine object sleep",
    "test_loop": "unclosed event loop",
    "test_coroutine": "coroutine 'test_coroutine.<locals>.never' was never awaited",
    "test_file": "file.txt",
    "test_thread": "thread: left-N",
    "test_process": "process: cat",
    "test_process_that_nobody_waited_for": "process: one that nobody waited for",
    "test_socket_beside_the_modules": "open: socket",
    # the last test of the module that it could belong to
    "test_thread_that_is_about_to_end": "open: pipe",
}

MACHINE: Final = """
import os, pathlib, subprocess

NAME = f"leak-{os.getpid()}"
OTHER = f"leak-1{os.getpid()}-{os.getpid()}"  # what another process made, which counts
PIN = pathlib.Path("/sys/fs/bpf", NAME)
FILE = pathlib.Path("/run/splitplane", NAME)

def test_namespace():
    subprocess.run(["ip", "netns", "add", NAME], check=True)

def test_pin():
    PIN.mkdir()

def test_file_of_a_laboratory():
    FILE.parent.mkdir(exist_ok=True)
    FILE.touch()

def test_another_process_may_have_some():
    subprocess.run(["ip", "netns", "delete", NAME], check=True)
    PIN.rmdir()
    FILE.unlink()
    subprocess.run(["ip", "netns", "add", OTHER], check=True)

def test_nothing():
    subprocess.run(["ip", "netns", "delete", OTHER], check=True)
"""


def run(folder: Path, tests: str, *options: str) -> Mapping[str, str]:
    """Why each test failed at its teardown, "" if it did not."""
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_it.py").write_text(tests)
    (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--junitxml=said.xml"]
    environment = os.environ | {"PYTHONPATH": f"{SUPPORT}:{SUPPORT.parent}"}
    subprocess.run(
        [*command, *options], cwd=folder, env=environment, capture_output=True, check=False
    )
    found: dict[str, str] = {}
    for case in ElementTree.parse(folder / "said.xml").iter("testcase"):
        assert case.find("failure") is None, case.get("name")
        error = case.find("error")
        said = "" if error is None else error.get("message", "")
        name = case.get("name", "")
        found[name] = found.get(name, "") + said
    return found


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    return run(tmp_path_factory.mktemp("leaks"), LEAKS, "-p", "no:randomly")


@pytest.mark.parametrize(("name", "said"), EXPECTED.items())
def test_a_leak_fails_the_test_that_made_it(found: Mapping[str, str], name: str, said: str) -> None:
    assert "left behind" in found[name]
    assert said in found[name]


def test_nobody_else_fails(found: Mapping[str, str]) -> None:
    assert {name for name, said in found.items() if said} == set(EXPECTED)
    assert len(found) == len(EXPECTED) + 4


@pytest.mark.network
@pytest.mark.dataplane
def test_what_has_this_processs_number_on_the_machine_is_a_leak(tmp_path: Path) -> None:
    require_laboratory()
    found = run(tmp_path, MACHINE, "-p", "no:randomly")
    left = {name: said for name, said in found.items() if said}
    assert set(left) == {"test_namespace", "test_pin", "test_file_of_a_laboratory"}
    assert "network namespace: leak-" in left["test_namespace"]
    assert "pin: leak-" in left["test_pin"]
    assert "file of a laboratory: leak-" in left["test_file_of_a_laboratory"]
