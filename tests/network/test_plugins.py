# SPDX-License-Identifier: Apache-2.0
"""Virtual servers whose protocol a plug-in of the CS reads: real Redis and MariaDB servers, their
own clients, and every kind (docs/design/0012-content.md)."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from admin.answers import FLOWS
from splitplane.lab import Lab
from splitplane.lab.processes import wait_for
from splitplane.lab.topology import VIRTUAL_ADDRESS, VIRTUAL_ADDRESS_6
from support.cluster.laboratory import TIMEOUT_S
from support.processes import Running
from support.require import require

pytestmark = [pytest.mark.network, pytest.mark.dataplane]

REDIS, MYSQL = 6379, 3306
KINDS = {"raw": 6001, "assisted": 6002, "hybrid": 6003}
DATABASES = {"assisted": 6012, "hybrid": 6013}
SERVERS = ("server1", "server2")
USERS = [f"user:{number}" for number in range(12)]
LARGE = 300_000


def missing(*programs: str) -> str | None:
    absent = [each for each in programs if shutil.which(each) is None]
    return f"not installed: {', '.join(absent)}" if absent else None


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    require("network", missing("redis-server", "mariadbd", "mariadb", "mariadb-install-db"))
    lab = make_lab(clients=1, servers=len(SERVERS))
    config = lab.cs_configs["cs1"]
    hosts = [lab.host(each) for each in SERVERS]
    for name, port in (("redis", REDIS), ("mysql", MYSQL)):
        nodes = [{"name": each.name, "address": each.address, "port": port} for each in hosts]
        config["pools"].append({"name": name, "nodes": nodes})
    nodes = [{"name": each.name, "address": each.address_6, "port": REDIS} for each in hosts]
    config["pools"].append({"name": "redis6", "nodes": nodes})
    common = {"protocol": "tcp", "hash": "said"}
    for kind, port in KINDS.items():
        for suffix, address in (("", VIRTUAL_ADDRESS), ("6", VIRTUAL_ADDRESS_6)):
            config["virtual_servers"].append(
                {
                    "name": f"redis-{kind}{suffix}", "address": address, "port": port,
                    "kind": kind, "application": "redis", "pool": f"redis{suffix}", **common,
                }
            )  # fmt: skip
    for kind, port in DATABASES.items():
        config["virtual_servers"].append(
            {
                "name": f"mysql-{kind}", "address": VIRTUAL_ADDRESS, "port": port, "kind": kind,
                "application": "mysql", "pool": "mysql", **common,
            }
        )  # fmt: skip
    with lab, ExitStack() as stack:
        for name in SERVERS:
            folder = tmp_path_factory.mktemp(name)
            stack.enter_context(redis(lab, name))
            stack.enter_context(mariadb(lab, name, folder))
        for name in SERVERS:
            fill_redis(lab, name)
            wait_for(f"MariaDB of {name}", partial(is_up, lab, name))
        yield lab


def redis(lab: Lab, host: str) -> Running:
    words = ["--port", str(REDIS), "--bind", "*", "-::*", "--protected-mode", "no"]
    return Running(lab, host, "redis-server", *words, "--save", "", "--appendonly", "no")


def mariadb(lab: Lab, host: str, folder: Path) -> Running:
    data, own = f"--datadir={folder}/data", f"--socket={folder}/socket"
    lab.run(host, "mariadb-install-db", "--no-defaults", data, "--user=root",
            "--auth-root-authentication-method=normal", "--skip-test-db")  # fmt: skip
    (folder / "setup.sql").write_text(SETUP.format(name=host))
    return Running(
        lab, host, "mariadbd", "--no-defaults", data, own, "--user=root", f"--port={MYSQL}",
        f"--pid-file={folder}/pid", "--skip-name-resolve", "--innodb-buffer-pool-size=8M",
        f"--init-file={folder}/setup.sql", f"--log-error={folder}/log",
    )  # fmt: skip


SETUP = """create database shop;
create table shop.who (name varchar(20));
insert into shop.who values ('{name}');
create user 'alice'@'%' identified by 'a password';
grant all on shop.* to 'alice'@'%';
"""


def is_up(lab: Lab, host: str) -> bool:
    try:
        address = lab.host(host).address
        return sql(lab, host, address, MYSQL, "alice", "a password", "select 1") == "1"
    except RuntimeError:
        return False


def sql(lab: Lab, host: str, address: str, port: int, user: str, password: str, text: str) -> str:
    """What MariaDB's own client prints; RuntimeError with what it complains of."""
    words = ["--no-defaults", "--protocol=tcp", f"--host={address}", f"--port={port}"]
    words += [f"--user={user}", f"--password={password}", "--database=shop", "--skip-ssl"]
    done = subprocess.run(
        lab.namespaces[host].command("mariadb", *words, "-N", "-B", "-e", text),
        capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout.strip()


def fill_redis(lab: Lab, name: str) -> None:
    """Every key of a server says whose it is; one of the values is large."""

    def fill() -> bool:
        try:
            for user in USERS:
                assert talk(lab, name, lab.host(name).address, REDIS, b"SET", user, name) == b"OK"
            large = name[-1] * LARGE
            return talk(lab, name, lab.host(name).address, REDIS, b"SET", "large", large) == b"OK"
        except ConnectionRefusedError:
            return False

    wait_for(f"Redis of {name}", fill)


def talk(lab: Lab, host: str, address: str, port: int, *words: bytes | str) -> bytes:
    """One command on one connection; what Redis answers."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    octets = [each.encode() if isinstance(each, str) else each for each in words]
    command = b"*%d\r\n" % len(octets)
    command += b"".join(b"$%d\r\n%b\r\n" % (len(each), each) for each in octets)
    with lab.socket(host, family, socket.SOCK_STREAM) as sock:
        sock.settimeout(TIMEOUT_S)
        sock.connect((address, port))
        sock.sendall(command)
        with sock.makefile("rb") as answers:
            head = answers.readline().rstrip()
            if head[:1] == b"$":
                return answers.read(int(head[1:]))
            return head[1:]


@pytest.mark.parametrize("address", [VIRTUAL_ADDRESS, VIRTUAL_ADDRESS_6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_key_of_redis_has_its_node(lab: Lab, kind: str, address: str) -> None:
    port = KINDS[kind]
    found = [talk(lab, "client1", address, port, b"GET", user).decode() for user in USERS]
    assert set(found) == set(SERVERS)
    again = [talk(lab, "client1", address, port, b"GET", user).decode() for user in USERS]
    assert again == found
    large = talk(lab, "client1", address, port, b"GET", "large")
    assert large in [name[-1].encode() * LARGE for name in SERVERS]


@pytest.mark.parametrize("kind", KINDS)
def test_large_values_go_up(lab: Lab, kind: str) -> None:
    value = bytes(number & 0xFF for number in range(LARGE))
    port = KINDS[kind]
    assert talk(lab, "client1", VIRTUAL_ADDRESS, port, b"SET", "mine", value) == b"OK"
    assert talk(lab, "client1", VIRTUAL_ADDRESS, port, b"GET", "mine") == value


@pytest.mark.parametrize("kind", DATABASES)
def test_a_password_is_proved_to_the_node_itself(lab: Lab, kind: str) -> None:
    port = DATABASES[kind]
    found = {
        sql(lab, "client1", VIRTUAL_ADDRESS, port, "alice", "a password", "select name from who")
        for _ in range(3)
    }
    assert len(found) == 1
    assert found <= set(SERVERS)
    with pytest.raises(RuntimeError, match="Access denied"):
        sql(lab, "client1", VIRTUAL_ADDRESS, port, "alice", "another one", "select 1")


def test_what_is_no_redis_is_reset(lab: Lab) -> None:
    for port in KINDS.values():
        with lab.socket("client1", socket.AF_INET, socket.SOCK_STREAM) as sock:
            sock.settimeout(TIMEOUT_S)
            sock.connect((VIRTUAL_ADDRESS, port))
            sock.sendall(b"\x16\x03\x01 no RESP")
            with pytest.raises(ConnectionResetError):
                sock.recv(1)


def test_nothing_is_left_of_what_is_over(lab: Lab) -> None:
    for port in KINDS.values():
        talk(lab, "client1", VIRTUAL_ADDRESS, port, b"PING")

    def is_over() -> bool:
        flows = lab.admin("cs1", FLOWS, limit=10_000)
        return not any(f":{port}" in flow.vip for flow in flows for port in KINDS.values())

    wait_for("the CS to have none of the flows", is_over)
