# SPDX-License-Identifier: Apache-2.0
"""`splitplane rule try` says what the CS would do with a request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner, Result

from splitplane.cli import cli

CS_YAML: Final = """\
segment_id: 1
ssmb: {address: 192.0.2.1}
key_file: cs.key
data_flow_segments: [{address: 192.0.2.2}]
pools:
  - name: web
    nodes: [{name: web1, address: 10.1.0.2, port: 80}, {name: web2, address: 10.1.0.3, port: 80}]
  - name: images
    nodes: [{name: img1, address: 10.1.0.4, port: 80}]
  - name: empty
virtual_servers:
  - name: shop
    address: 203.0.113.10
    port: 80
    protocol: tcp
    kind: http
    pool: web
    rules:
      - {name: images, match: {host: ["*.example.com"], path_prefix: ["/img/"]}, pool: images}
      - {name: no admin, match: {path: ["/admin"]}, refuse: true}
      - {name: empty, match: {path: ["/empty"]}, pool: empty}
    persistence: {kind: node_cookie, cookie: SRV}
  - {name: cache, address: 203.0.113.11, port: 80, protocol: tcp, kind: http, pool: web, hash: url}
  - name: java
    address: 203.0.113.12
    port: 80
    protocol: tcp
    kind: cookie
    pool: web
    persistence: {kind: cookie, cookie: SID}
  - name: tls
    address: 203.0.113.14
    port: 443
    protocol: tcp
    kind: ssl
    pool: web
    rules: [{name: images, match: {server_name: ["img.example.com"], alpn: [h2]}, pool: images}]
  - name: redis
    address: 203.0.113.15
    port: 6379
    protocol: tcp
    kind: raw
    application: redis
    pool: web
    rules: [{name: users, match: {said: {key: ["user:*"]}}, pool: images}]
  - {name: plain, address: 203.0.113.13, port: 80, protocol: tcp, pool: web}
"""


def tried(tmp_path: Path, *arguments: str, said: str | None = None) -> Result:
    file = tmp_path / "cs.yaml"
    file.write_text(CS_YAML)
    return CliRunner().invoke(cli, ["rule", "try", "--config", str(file), *arguments], input=said)


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (
            ["shop", "GET /img/x HTTP/1.1", "-H", "Host: a.example.com:80"],
            ["request: GET a.example.com /img/x", "  rule images: matches", "pool: images",
             "node: by the method round_robin"],
        ),
        (
            ["shop", "/admin", "-H", "Host: example.com"],
            ["request: GET example.com /admin",
             "  rule images: host 'example.com' is none of its hosts", "  rule no admin: matches",
             "refused: the client gets a RST"],
        ),
        (
            ["shop", "/", "-H", "Host: a.example.com", "-H", "Cookie: a=b; SRV=x.web2"],
            ["request: GET a.example.com /",
             "  rule images: path '/' begins with none of its path_prefix",
             "  rule no admin: path '/' is none of its paths",
             "  rule empty: path '/' is none of its paths", "  no rule matches", "pool: web",
             "node: web2, by the node's name in cookie SRV"],
        ),
    ],
)  # fmt: skip
def test_it_says_which_rule_and_why_not_the_others(
    tmp_path: Path, arguments: list[str], lines: list[str]
) -> None:
    done = tried(tmp_path, *arguments)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == lines


def test_a_whole_request_comes_from_standard_input(tmp_path: Path) -> None:
    said = "GET /a HTTP/1.1\r\nHost: x\r\nCookie: SID=1\r\n\r\n"
    done = tried(tmp_path, "java", said=said)
    assert "by a hash of cookie SID, unless persistence remembers another one" in done.stdout
    assert "not whole" in tried(tmp_path, "java", said=said[:-2]).stderr


def test_a_hash_names_the_node_as_the_cs_would(tmp_path: Path) -> None:
    nodes = set()
    for number in range(12):
        done = tried(tmp_path, "cache", f"/item/{number}", "--json")
        found = json.loads(done.stdout)
        assert (found["rule"], found["passed"], found["pool"]) == (None, [], "web")
        nodes.add(found["node"])
    assert nodes == {"web1", "web2"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["none", "/"],
            "there is no virtual server 'none'; there are: shop, cache, java, tls, redis, plain",
        ),
        (["plain", "/"], "virtual server plain is of kind plain, which reads nothing; name one of"),
        (["shop", "GET / HTTP/3"], "the request cannot be read: neither HTTP/1.0 nor HTTP/1.1"),
        (["shop", "/caf\u65e5"], "cannot stand in a request as it is: write %E6%97%A5"),
        (["shop", "/", "--client", "x"], "'x' is no IPv4 or IPv6 address"),
        (["shop", "-H", "a: b"], "-H needs REQUEST_LINE"),
        (["shop", "/", "--server-name", "a.b"], "give a request, or --server-name and --alpn"),
        (["shop", "--server-name", "a.b"], "shop of kind http reads a request"),
        (["redis", "--said", "key"], "'key' is not NAME=VALUE"),
    ],
)
def test_a_mistake_has_its_sentence(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    done = tried(tmp_path, *arguments)
    assert done.exit_code != 0
    assert sentence in done.stderr


def test_a_pool_without_nodes_is_said(tmp_path: Path) -> None:
    done = tried(tmp_path, "shop", "/empty")
    assert "node: no node of pool empty takes new connections" in done.stdout


def test_what_a_tls_client_names_and_what_a_plug_in_reads(tmp_path: Path) -> None:
    done = tried(tmp_path, "tls", "--server-name", "IMG.example.com", "--alpn", "h2")
    assert done.stdout.splitlines()[:3] == [
        "request: TLS img.example.com, ALPN h2", "  rule images: matches", "pool: images",
    ]  # fmt: skip
    done = tried(tmp_path, "tls", "--server-name", "img.example.com")
    assert "  rule images: the client offers no protocol by ALPN" in done.stdout
    done = tried(tmp_path, "redis", "--said", "command=GET", "--said", "key=user:7", "--json")
    found = json.loads(done.stdout)
    assert (found["rule"], found["pool"]) == ("users", "images")
