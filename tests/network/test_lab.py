# SPDX-License-Identifier: Apache-2.0
"""The laboratory comes up whole, and leaves nothing behind, however its owner ends."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from admin.answers import CS_STATUS, NODES, RELOAD, VIRTUAL_SERVERS
from admin.errors import CommandError
from splitplane.lab import Lab, state
from splitplane.lab.lab import PROGRAMS
from splitplane.lab.namespaces import existing
from splitplane.lab.processes import wait_for
from splitplane.lab.topology import SERVER_HTTP_PORT, SERVER_UDP_PORT, prefix
from splitplane.lab.web import pattern
from support.cluster.laboratory import require_laboratory
from support.require import require

pytestmark = pytest.mark.network

NAME = f"t{os.getpid()}"  # runs beside the laboratories of others

_OWNER = """
import sys, time
from splitplane.lab import Lab
with Lab(sys.argv[1], clients=1, servers=2, target="memory") as lab:
    print("up", lab.dfs().pid, lab.cs().pid, lab.process("server1").pid, flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def _machine() -> Iterator[None]:
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    require("network", f"not installed: {missing}" if missing else None)
    require("network", None if os.geteuid() == 0 else "not root")
    yield
    state.clean(NAME)


def remains() -> list[str]:
    """Whatever has the laboratory's name."""
    files = [*Path("/run/splitplane").glob(f"lab-{NAME}*"), state.pins(NAME)]
    return [*existing(prefix(NAME)), *(str(path) for path in files if path.exists())]


def owner() -> tuple[subprocess.Popen[str], list[int]]:
    """Another process with a laboratory of this name, and the pids of its children."""
    process = subprocess.Popen(
        [sys.executable, "-c", _OWNER, NAME], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    word, *pids = process.stdout.readline().split()
    assert word == "up"
    return process, [int(pid) for pid in pids]


def end(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    process.stdout.close()
    process.wait(60)


@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
def test_every_server_answers_every_client_over(family: str) -> None:
    with Lab(NAME, clients=2, servers=2, segments=False) as lab:
        for client in lab.topology.of("client"):
            for server in lab.topology.of("server"):
                address = server.address if family == "IPv4" else server.address_6
                seen = client.address if family == "IPv4" else client.address_6
                with lab.connect(client.name, address=address, port=SERVER_HTTP_PORT) as http:
                    assert http.get("/name") == (200, server.name.encode())
                    assert http.get("/client").body.split()[0] == seen.encode()
    assert remains() == []


def test_bodies_are_the_known_octets_and_connections_are_kept_alive() -> None:
    with Lab(NAME, clients=1, servers=1, segments=False) as lab:
        address = lab.host("server1").address
        with lab.connect("client1", address=address, port=SERVER_HTTP_PORT) as http:
            for size in (0, 1, 65521, 65536, 1_000_003):
                body = http.get(f"/bytes/{size}").body
                assert len(body) == size
                parts = range(0, size, 50_000)
                assert body == b"".join(pattern(part, min(50_000, size - part)) for part in parts)
            assert http.get("/none").status == 404


def test_udp_is_echoed_with_the_servers_name() -> None:
    with (
        Lab(NAME, clients=1, servers=2, segments=False) as lab,
        lab.socket("client1", kind=socket.SOCK_DGRAM) as udp,
    ):
        udp.settimeout(60)
        udp.sendto(b"hello", (lab.host("server2").address, SERVER_UDP_PORT))
        assert udp.recv(100) == b"server2 hello"


def test_a_program_at_xdp_serves_too() -> None:
    """A veth leaves checksums to a card, and takes redirected frames only if it polls."""
    require_laboratory()
    with Lab(NAME, clients=1, servers=2, dfs_attach="xdp") as lab:
        for address in lab.virtual_addresses:
            names = {lab.get("client1", "/name", address=address).body for _ in range(2)}
            assert names == {b"server1", b"server2"}
            with lab.connect("client1", address=address) as http:
                assert http.get("/bytes/100000").body == pattern(0, 100_000)


def test_commands_run_on_their_host() -> None:
    with Lab(NAME, clients=1, servers=1, segments=False) as lab:
        assert lab.host("client1").address in lab.run("client1", "ip", "-4", "addr").stdout
        with pytest.raises(CommandError, match="client1: false"):
            lab.run("client1", "false")


def test_cs_and_dfs_find_each_other_and_survive_kill_and_restart() -> None:
    with Lab(NAME, clients=1, servers=2, target="memory") as lab:
        assert len(lab.admin("dfs", VIRTUAL_SERVERS)) == 4
        lab.cs().kill9()
        lab.start_cs()
        wait_for("the CS to be back", lambda: bool(_ready(lab)))
        lab.dfs().kill9()
        lab.start_dfs()
        lab.wait_until_serving()
    assert remains() == []


def _ready(lab: Lab) -> bool:
    (peer,) = lab.admin("cs1", CS_STATUS).data_flow_segments
    return peer.ready


def test_a_reload_takes_a_good_file_and_refuses_a_bad_one() -> None:
    with Lab(NAME, clients=1, servers=2, target="memory") as lab:
        pool = lab.cs_configs["cs1"]["pools"][0]
        pool["nodes"][0]["weight"] = 7
        lab.write_configs()
        lab.admin("cs1", RELOAD)
        assert _weight(lab) == 7
        pool["nodes"][0]["weight"] = "heavy"
        lab.write_configs()
        with pytest.raises(CommandError, match=r"cs1\.yaml:\d+: pools\[0\]\.nodes\[0\]\.weight: "):
            lab.admin("cs1", RELOAD)
        assert _weight(lab) == 7
        pool["nodes"][0]["weight"] = 9
        lab.write_configs()
        lab.cs().signal(signal.SIGHUP)
        wait_for("SIGHUP to be obeyed", lambda: _weight(lab) == 9)


def _weight(lab: Lab) -> int:
    return lab.admin("cs1", NODES)[0].weight


def test_a_wrong_configuration_ends_with_the_segments_own_words() -> None:
    lab = Lab(NAME, clients=1, servers=1, target="memory")
    lab.cs_configs["cs1"]["pools"][0]["method"] = "by_hand"
    with pytest.raises(CommandError, match=r"cs1 exited with 3: .*unknown balancing method"):
        lab.__enter__()
    assert remains() == []


def test_an_exception_inside_leaves_nothing() -> None:
    with pytest.raises(RuntimeError, match="mine"), Lab(NAME, clients=1, servers=1, segments=False):
        raise RuntimeError("mine")
    assert remains() == []


def test_a_killed_owners_children_end_and_the_next_run_takes_the_rest_away() -> None:
    process, pids = owner()
    process.kill()
    end(process)
    wait_for("the children to end", lambda: all(state.start_time(pid) is None for pid in pids))
    assert remains() != []
    with Lab(NAME, clients=1, servers=1, segments=False) as lab:
        assert lab.get(
            "client1", "/name", address=lab.host("server1").address, port=SERVER_HTTP_PORT
        ).body
    assert remains() == []


def test_lab_clean_takes_away_what_a_killed_owner_left() -> None:
    process, _ = owner()
    process.kill()
    end(process)
    done = subprocess.run(
        [sys.executable, "-m", "splitplane", "lab", "clean", "--name", NAME],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert remains() == []


def test_a_running_laboratory_is_neither_taken_over_nor_cleaned() -> None:
    process, pids = owner()
    try:
        with pytest.raises(CommandError, match=f"is already running \\(process {process.pid}\\)"):
            Lab(NAME).__enter__()
        assert state.clean(NAME) is False
        assert all(state.start_time(pid) is not None for pid in pids)
    finally:
        process.send_signal(signal.SIGINT)
        end(process)
    assert remains() == []


def test_a_process_that_got_a_recorded_pid_later_is_not_killed() -> None:
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        recorder = state.LabState(NAME)
        recorder.acquire()
        recorder.add_process("server1", bystander.pid)
        record = Path(f"/run/splitplane/lab-{NAME}.json")
        started = state.start_time(bystander.pid)
        assert started is not None
        record.write_text(record.read_text().replace(str(started), str(started - 1)))
        recorder.release()
        time.sleep(0.05)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


@pytest.mark.parametrize("name", ["", "Lab", "a-b", "../x", "x" * 17, "1"])
def test_a_name_that_cannot_be_one_is_refused(name: str) -> None:
    with pytest.raises(CommandError, match="is not a valid laboratory name"):
        Lab(name)
