# SPDX-License-Identifier: Apache-2.0
"""The devices under test of bench/content.py: all make one decision, by host and path over two pools."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from middles import DFS_CONFIG, FLOW_CAPACITY, Middle, Running, Variant, filled, proxy, segments
from scenarios import Scenario
from topology import SERVER_PORT

CONTENT = Scenario("two nodes, a pool each, chosen by host and path", servers=2)
PLAIN_PORT = 81  # of the plain virtual server beside the one of kind http
DOMAIN, PREFIX = ".img.example.com", "/img/"
HOST = f"a{DOMAIN}"
SMALL, LARGE = f"{PREFIX}small", f"{PREFIX}large"

# bufsize: with the default of 16 KiB it moves large objects more slowly
HAPROXY = """
global
  maxconn 4000
  nbthread 2
  tune.bufsize 65536
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout http-keep-alive 60s
  option http-keep-alive
  http-reuse always
  {splice}
frontend web
  bind {vip}:{vport} backlog 8192
  acl is_host hdr_end(host) -i {domain}
  acl is_path path_beg {prefix}
  use_backend images if is_host is_path
  default_backend pages
backend pages
  server s1 {pages}
backend images
  server s2 {images}
"""
NGINX = """
worker_processes 2; pid {scratch}/middle.pid; error_log {scratch}/middle.err;
events {{ worker_connections 8192; }}
http {{ access_log off; keepalive_timeout 65; keepalive_requests 1000000;
  upstream pages {{ server {pages}; keepalive 128; keepalive_requests 1000000; }}
  upstream images {{ server {images}; keepalive 128; keepalive_requests 1000000; }}
  proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host;
  proxy_buffers 16 64k; proxy_buffer_size 64k; proxy_busy_buffers_size 128k; proxy_max_temp_file_size 0;
  server {{ listen {vip}:{vport} backlog=8192 reuseport default_server; location / {{ proxy_pass http://pages; }} }}
  server {{ listen {vip}:{vport}; server_name *{domain};
    location / {{ proxy_pass http://pages; }}
    location {prefix} {{ proxy_pass http://images; }} }} }}
daemon off;
"""
CS_CONFIG = """
segment_id: 1
group_id: 1
active: true
ssmb: {{address: {cs}, port: 61019}}
key_file: cluster.key
admin_socket: {scratch}/cs.sock
data_flow_segments:
  - {{address: {dfs}, port: 61019}}
settings: {{flow_capacity: 2097152{settings}}}
pools:
  - {{name: pages, nodes: [{{name: pages1, address: "{node}", port: {port}}}]}}
  - {{name: images, nodes: [{{name: images1, address: "{second}", port: {port}}}]}}
virtual_servers:
  - name: web
    address: "{virtual}"
    port: {vport}
    protocol: tcp
    kind: http
    pool: pages
    rules:
      - {{name: images, match: {{host: ["*{domain}"], path_prefix: ["{prefix}"]}}, pool: images}}
  - {{name: plain, address: "{virtual}", port: {plain}, protocol: tcp, pool: images}}
"""


def _filled(template: str, scratch: Path, scenario: Scenario, **more: object) -> str:
    pages, images = (f"{address}:{SERVER_PORT}" for address in scenario.addresses)
    return filled(
        template, scratch, scenario, pages=pages, images=images, domain=DOMAIN, prefix=PREFIX,
        second=scenario.addresses[1], port=SERVER_PORT, plain=PLAIN_PORT, **more,
    )  # fmt: skip


@contextmanager
def routing(scratch: Path, scenario: Scenario) -> Iterator[Running]:
    """The client connects to the address of the pool that the decision is for."""
    yield Running(scenario.addresses[1], SERVER_PORT)


@contextmanager
def haproxy(scratch: Path, scenario: Scenario, *, splice: bool = False) -> Iterator[Running]:
    """HAProxy in HTTP mode; *splice*: the kernel moves bodies from socket to socket."""
    config = _filled(HAPROXY, scratch, scenario, splice="option splice-auto" if splice else "")
    (scratch / "haproxy.cfg").write_text(config)
    with proxy(scratch, scenario, "haproxy", "-db", "-f", str(scratch / "haproxy.cfg")) as running:
        yield running


@contextmanager
def nginx(scratch: Path, scenario: Scenario) -> Iterator[Running]:
    """nginx in HTTP mode, which keeps its connections to the nodes."""
    (scratch / "http.conf").write_text(_filled(NGINX, scratch, scenario))
    with proxy(scratch, scenario, "nginx", "-c", str(scratch / "http.conf")) as running:
        yield running


def configure(variant: Variant, scratch: Path, scenario: Scenario) -> None:
    """Write the files of a DFS and a CS."""
    (scratch / "cluster.key").write_text(os.urandom(32).hex())
    (scratch / "cluster.key").chmod(0o600)
    (scratch / "cs.yaml").write_text(
        _filled(CS_CONFIG, scratch, scenario, settings=variant.settings)
    )
    (scratch / "dfs.yaml").write_text(
        filled(DFS_CONFIG, scratch, scenario, attach=variant.attach, dfs_lines=variant.dfs_lines,
               capacity=FLOW_CAPACITY)
    )  # fmt: skip


@contextmanager
def splitplane(
    variant: Variant, scratch: Path, scenario: Scenario, *, plain: bool = False
) -> Iterator[Running]:
    """DFS and CS; *plain*: the virtual server beside it, whose only pool is that of the decision."""
    configure(variant, scratch, scenario)
    with segments(scratch, scenario) as running:
        yield replace(running, port=PLAIN_PORT) if plain else running


VARIANTS = {
    "splitplane": Variant(),
    "splitplane-agent": Variant(dfs_lines="ask: agent"),
}
DO_NOT_DECIDE = ("routing", "splitplane-plain")


def middles() -> dict[str, Middle]:
    """All of them, by name."""
    return {
        "routing": routing,
        "haproxy": haproxy,
        "haproxy-splice": partial(haproxy, splice=True),
        "nginx": nginx,
        "splitplane-plain": partial(splitplane, Variant(), plain=True),
        **{name: partial(splitplane, variant) for name, variant in VARIANTS.items()},
    }
