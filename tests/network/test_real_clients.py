# SPDX-License-Identifier: Apache-2.0
"""What people use: curl, wrk and a browser at an HTTP virtual server, OpenSSL at one of kind ssl;
every octet compared (docs/design/0012-content.md)."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, sync_playwright

from admin.answers import COUNTERS
from splitplane.lab import Lab
from splitplane.lab.processes import wait_for
from splitplane.lab.topology import VIRTUAL_ADDRESS, VIRTUAL_ADDRESS_6
from splitplane.lab.web import pattern
from support.browser import ARGUMENTS, TIMEOUT_MS
from support.certificates import self_signed
from support.cluster.content import HTTP, pool
from support.cluster.laboratory import TIMEOUT_S
from support.processes import Running
from support.require import require

pytestmark = [pytest.mark.network, pytest.mark.dataplane]

SERVERS = ["server1", "server2"]
HOST = "www.second.example"  # a rule chooses server2
NAMED = "named.tls.example"  # likewise
TLS, TLS_SERVER = 443, 8443
UPLOAD = 3_000_000
FAMILIES = {"IPv4": VIRTUAL_ADDRESS, "IPv6": f"[{VIRTUAL_ADDRESS_6}]"}
PROGRAMS = ("curl", "wrk", "openssl", "chromium")
# as `splitplane.lab.web.pattern` has them; six connections at a time, each used again
COMPARE = """async ([url, sizes]) => {
  const wrong = [];
  await Promise.all(sizes.map(async (size) => {
    const answer = await fetch(`${url}/bytes/${size}`);
    const octets = new Uint8Array(await answer.arrayBuffer());
    const right = (octet, at) =>
      octet === (((at % 65521) * 167 + ((at % 65521) >> 8) * 13) & 255);
    if (octets.length !== size || !octets.every(right)) wrong.push(size);
  }));
  return wrong;
}"""


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    absent = [each for each in PROGRAMS if shutil.which(each) is None]
    require("network", f"not installed: {', '.join(absent)}" if absent else None)
    lab = make_lab(clients=1, servers=len(SERVERS))
    config = lab.cs_configs["cs1"]
    for suffix, address in (("", VIRTUAL_ADDRESS), ("6", VIRTUAL_ADDRESS_6)):
        both = pool(lab, f"both{suffix}", SERVERS, six=bool(suffix))
        second = pool(lab, f"second{suffix}", ["server2"], six=bool(suffix))
        config["pools"] += [both, second, of_tls(both), of_tls(second)]
        named = {"name": "named", "match": {"server_name": [NAMED]}, "pool": f"second{suffix}-tls"}
        rule = {"name": "second", "match": {"host": [HOST]}, "pool": f"second{suffix}"}
        common = {"address": address, "protocol": "tcp"}
        config["virtual_servers"] += [
            {"name": f"http{suffix}", "port": HTTP, "kind": "http", "pool": f"both{suffix}",
             "rules": [rule], **common},
            {"name": f"tls{suffix}", "port": TLS, "kind": "ssl", "pool": f"both{suffix}-tls",
             "rules": [named], "persistence": {"kind": "ssl_session", "timeout_s": 300}, **common},
        ]  # fmt: skip
    with lab, ExitStack() as stack:
        for name in SERVERS:
            stack.enter_context(openssl_server(lab, name, tmp_path_factory.mktemp(name)))
        wait_for("OpenSSL's servers", lambda: servers_answer(lab))
        yield lab


def of_tls(web: dict[str, Any]) -> dict[str, Any]:
    nodes = [each | {"port": TLS_SERVER} for each in web["nodes"]]
    return {"name": f"{web['name']}-tls", "nodes": nodes}


def openssl_server(lab: Lab, host: str, folder: Path) -> Running:
    """Serves the files of a folder, one connection after the other; TLS 1.2 with session ids."""
    self_signed(folder / "cert.pem", folder / "key.pem", name=f"DNS:{HOST}")
    (folder / "name").write_text(f"{host}\n")
    (folder / "large").write_bytes(pattern(0, 65521) * 4)
    words = ["-accept", str(TLS_SERVER), "-cert", "cert.pem", "-key", "key.pem"]
    words += ["-tls1_2", "-no_ticket", "-WWW", "-quiet"]
    return Running(lab, host, "openssl", "s_server", *words, folder=folder)


def tls(lab: Lab, address: str, path: str, *words: str) -> tuple[bytes, str]:
    """What s_client gets, without the server's header, and what it says of the session."""
    command = ["openssl", "s_client", "-connect", f"{address}:{TLS}", "-tls1_2", "-ign_eof"]
    done = subprocess.run(
        lab.namespaces["client1"].command(*command, *words),
        input=f"GET /{path} HTTP/1.0\r\n\r\n".encode(), capture_output=True, check=False,
        timeout=TIMEOUT_S,
    )  # fmt: skip
    said, _, body = done.stdout.partition(b"\r\n\r\n")
    found = re.search(rb"(New|Reused), TLSv1.2", said)
    assert found is not None, done.stderr.decode()
    return body.removesuffix(b"closed\n"), found[1].decode()  # s_client's own word


def servers_answer(lab: Lab) -> bool:
    try:
        found = {tls(lab, VIRTUAL_ADDRESS, "name")[0] for _ in SERVERS}
    except AssertionError:
        return False
    return len(found) == len(SERVERS)


def curl(lab: Lab, *words: str, host: str = HOST, check: bool = True) -> str:
    command = ["curl", "-sS", "-g", "-m", str(int(TIMEOUT_S)), "-H", f"Host: {host}", *words]
    done = lab.run("client1", *command, check=check)
    return done.stdout if check else done.stderr


@pytest.mark.parametrize("address", FAMILIES.values(), ids=FAMILIES)
def test_a_tls_session_goes_back_to_its_server(lab: Lab, address: str, tmp_path: Path) -> None:
    session = str(tmp_path / "session")
    server, state = tls(lab, address, "name", "-sess_out", session)
    assert state == "New"
    for _ in range(4):
        assert tls(lab, address, "name", "-sess_in", session) == (server, "Reused")
    body, state = tls(lab, address, "large", "-sess_in", session)
    assert (body, state) == (pattern(0, 65521) * 4, "Reused")


@pytest.mark.parametrize("address", FAMILIES.values(), ids=FAMILIES)
def test_the_name_in_a_hello_chooses_the_server(lab: Lab, address: str) -> None:
    """OpenSSL's hello, and curl's, which offers more."""
    where = f"{NAMED}:{TLS}:{address}"
    url = f"https://{NAMED}:{TLS}/name"
    for _ in range(3):
        assert tls(lab, address, "name", "-servername", NAMED) == (b"server2\n", "New")
        assert curl(lab, "-k", "--resolve", where, url) == "server2\n"


@pytest.mark.parametrize("address", FAMILIES.values(), ids=FAMILIES)
def test_curl_keeps_its_connection(lab: Lab, address: str, tmp_path: Path) -> None:
    """The first request chooses the node of all that follow on its connection."""
    before = lab.admin("dfs", COUNTERS)["cookies_made"].value
    url = f"http://{address}:{HTTP}"
    files = [str(tmp_path / each) for each in ("one", "two", "three")]
    asked = [word for file in files for word in ("-o", file, f"{url}/bytes/50000")]
    said = curl(lab, "-w", "%{num_connects} %header{server} ", *asked)
    assert said.split() == ["1", "server2", "0", "server2", "0", "server2"]
    assert {Path(file).read_bytes() for file in files} == {pattern(0, 50000)}
    assert lab.admin("dfs", COUNTERS)["cookies_made"].value == before + 1


@pytest.mark.parametrize("address", FAMILIES.values(), ids=FAMILIES)
def test_curl_waits_for_the_node_before_a_large_upload(
    lab: Lab, address: str, tmp_path: Path
) -> None:
    octets = b"".join(pattern(at, 100_000) for at in range(0, UPLOAD, 100_000))
    (tmp_path / "upload").write_bytes(octets)
    said = curl(
        lab, "-v", "-X", "POST", "-H", "Transfer-Encoding: chunked", "-H", "Expect: 100-continue",
        "--expect100-timeout", str(int(TIMEOUT_S)), "-T", str(tmp_path / "upload"), "-o",
        str(tmp_path / "answer"), "--stderr", "-", f"http://{address}:{HTTP}/digest",
    )  # fmt: skip
    assert "HTTP/1.1 100 Continue" in said
    digest = hashlib.sha256(octets).hexdigest()
    assert (tmp_path / "answer").read_text() == f"{UPLOAD} {digest}"


def test_http_2_without_http_1_first_is_refused(lab: Lab) -> None:
    """No rule reads it; a client that begins with HTTP/1.1 and offers it gets HTTP/1.1."""
    url = f"http://{VIRTUAL_ADDRESS}:{HTTP}/name"
    assert "reset" in curl(lab, "--http2-prior-knowledge", url, check=False).lower()
    assert curl(lab, "--http2", url) == "server2"


@pytest.mark.parametrize("close", [True, False], ids=["close", "keep"])
def test_wrk_sees_no_error(lab: Lab, close: bool) -> None:
    before = spliced(lab)
    words = ["-H", "Connection: close"] if close else []
    said = lab.run(
        "client1", "wrk", "-t1", "-c16", "-d1s", "--timeout", f"{TIMEOUT_S:.0f}s",
        "-H", f"Host: {HOST}", *words, f"http://{VIRTUAL_ADDRESS}:{HTTP}/name",
    ).stdout  # fmt: skip
    found = re.search(r"(\d+) requests in", said)
    assert found is not None
    assert int(found[1]) > 16
    assert "Socket errors" not in said
    assert "Non-2xx" not in said
    assert spliced(lab) - before >= (int(found[1]) if close else 1)


def spliced(lab: Lab) -> int:
    """By the data path alone, and by the agent."""
    counters = lab.admin("dfs", COUNTERS)
    return sum(counters[name].value for name in ("short_spliced", "flows_spliced"))


@pytest.fixture
def page(lab: Lab, tmp_path: Path) -> Iterator[Page]:
    """A browser on the client."""
    program = tmp_path / "chromium"
    inside = " ".join(lab.namespaces["client1"].command(str(shutil.which("chromium"))))
    program.write_text(f'#!/bin/sh\nexec {inside} "$@"\n')
    program.chmod(0o755)
    with sync_playwright() as playwright:
        # the lab's server has no page from which its octets might be fetched
        words = [*ARGUMENTS, "--disable-web-security"]
        running = playwright.chromium.launch(executable_path=program, headless=True, args=words)
        page = running.new_page()
        page.set_default_timeout(TIMEOUT_MS)
        yield page
        running.close()


def test_a_browser_gets_every_octet(lab: Lab, page: Page) -> None:
    sizes = [1, 1_000, 14_600, 65_521, 400_000, 2_000_000] * 3
    for address in FAMILIES.values():
        assert page.evaluate(COMPARE, [f"http://{address}:{HTTP}", sizes]) == []
