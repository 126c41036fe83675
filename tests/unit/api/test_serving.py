# SPDX-License-Identifier: Apache-2.0
"""`splitplane api`, `token` and `sign-in` as a new user meets them: real processes and sockets."""

from __future__ import annotations

import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result

from admin.errors import ConfigError
from api.composition import composed
from api.config import ApiConfig, TlsConfig
from api.serve import tls_context
from splitplane.cli import cli
from splitplane.config import parse
from support.api.apps import POOL
from support.certificates import self_signed
from support.ports import free_port
from support.processes import killed_after, said_until

COMMAND = [sys.executable, "-m", "splitplane"]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with api.crt and api.key."""
    folder = tmp_path_factory.mktemp("certificate")
    self_signed(folder / "api.crt", folder / "api.key")
    return folder


def configured(folder: Path, certificate: Path | None = None, more: str = "") -> tuple[Path, int]:
    """api.yaml with TLS, if there is a certificate, and the port that it names."""
    port = free_port()
    tls = ""
    if certificate is not None:
        tls = (
            f"  tls:\n    certificate_file: {certificate}/api.crt\n"
            f"    key_file: {certificate}/api.key\n"
        )
    config = folder / "api.yaml"
    config.write_text(f"listen:\n  address: 127.0.0.1\n  port: {port}\n{tls}{more}")
    return config, port


def command(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


@contextmanager
def running(config: Path) -> Iterator[subprocess.Popen[str]]:
    words = [*COMMAND, "api", str(config), "--log-format", "text"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    with killed_after(process):
        said_until(process, "the API serves")
        yield process


def test_from_nothing_to_a_resource_over_tls_and_an_end_that_ends_watchers(
    tmp_path: Path, certificate: Path
) -> None:
    config, port = configured(tmp_path, certificate, "  socket: api.sock\n")
    token = command("token", "create", "anna", "--role", "admin", "--config", config).stdout.strip()
    link = command("sign-in", "--config", config).stdout.strip()
    base, _, secret = link.partition("/#sign-in=")
    assert base == f"https://127.0.0.1:{port}"
    trust = ssl.create_default_context(cafile=certificate / "api.crt")
    with running(config) as process, httpx.Client(base_url=base, verify=trust) as client:
        page = {"X-Splitplane-Request": "1"}
        assert client.post("/api/v1/session", json={"secret": secret}, headers=page).is_success
        assert client.get("/api/v1/session").json()["role"] == "admin"  # by its secure cookie
        bearer = {"Authorization": f"Bearer {token}"}
        with client.stream("GET", "/api/v1/watch", headers=bearer) as watched:
            lines = watched.iter_lines()
            assert [next(lines), next(lines)] == ["event: generation", 'data: {"number":0}']
            over_unix = httpx.HTTPTransport(uds=str(tmp_path / "api.sock"))
            with httpx.Client(transport=over_unix, base_url="http://api") as local:
                assert local.get("/healthz").json() == {"status": "ok"}
                made = local.put("/api/v1/pools/web", json=POOL, headers=bearer)
                assert made.status_code == 201
            assert [line for line in (next(lines) for _ in range(3)) if line] == [
                "event: generation", 'data: {"number":1}',
            ]  # fmt: skip
            process.send_signal(signal.SIGTERM)
            assert [line for line in lines if line] == []
        assert process.wait(60) == 0
        assert process.stderr is not None
        log = process.stderr.read()
    assert token not in log
    assert secret not in log
    assert not (tmp_path / "api.sock").exists()


def test_a_port_that_is_taken_ends_it_with_5(tmp_path: Path) -> None:
    config, port = configured(tmp_path)
    with socket.create_server(("127.0.0.1", port)):
        ended = subprocess.run(
            [*COMMAND, "api", str(config), "--log-format", "text"],
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
    assert ended.returncode == 5
    assert f"listen 127.0.0.1 port {port}: Address already in use" in ended.stderr
    assert not (tmp_path / "splitplane.db").exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("address: 192.0.2.1", "api.yaml:2: listen.address: tokens would cross the network"),
        ("address: null", "api.yaml:1: listen: give listen.address, listen.socket, or both"),
        ("port: 0", "api.yaml:2: listen.port: 0 is too small"),
    ],
)
def test_a_listener_that_is_wrong_is_refused(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(says)):
        parse(f"listen:\n  {text}\n", "api.yaml", ApiConfig)


def test_plain_text_needs_a_word_and_a_loopback_address_needs_none() -> None:
    for text in ("address: '::1'", "address: 192.0.2.1\n  plain_text: true"):
        parse(f"listen:\n  {text}\n", "api.yaml", ApiConfig)


@pytest.mark.parametrize(
    ("url", "says"), [("odd", "is no URL of a database"), ("sqlite:///", "names no file")]
)
def test_a_database_that_is_none_is_refused(tmp_path: Path, url: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says), composed(url, tmp_path, "0.0.0"):
        pass


def test_a_certificate_and_another_ones_key_are_refused(tmp_path: Path, certificate: Path) -> None:
    subprocess.run(
        ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "api.key"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    own = str(certificate / "api.crt")
    with pytest.raises(ConfigError, match="not a certificate with the key in"):
        tls_context(TlsConfig(certificate_file=own, key_file="api.key"), tmp_path)
    with pytest.raises(ConfigError, match=r"none.key: cannot be read \(No such file"):
        tls_context(TlsConfig(certificate_file=own, key_file="none.key"), tmp_path)


def test_tokens_are_listed_and_revoked_in_the_database(tmp_path: Path) -> None:
    config, _ = configured(tmp_path)
    made = command(
        "token", "create", "ci", "--role", "viewer", "--expires-in-days", "1", "--config", config
    )
    listed = command("token", "list", "--config", config).stdout
    assert made.stdout.strip() not in listed
    token_id = listed.split()[0]
    assert listed.split()[1:] == ["viewer", "ci"]
    assert command("token", "revoke", token_id, "--config", config).exit_code == 0
    again = command("token", "revoke", token_id, "--config", config)
    assert (again.exit_code, "there is no token" in again.stderr) == (1, True)


def test_no_part_of_a_secret_is_in_the_database(tmp_path: Path) -> None:
    config, _ = configured(tmp_path)
    token = command("token", "create", "ci", "--role", "viewer", "--config", config).stdout.strip()
    link = command("sign-in", "--config", config).stdout.strip().partition("=")[2]
    octets = b"".join(path.read_bytes() for path in tmp_path.glob("splitplane.db*"))
    for secret in (token, link):
        assert secret[-20:].encode() not in octets
