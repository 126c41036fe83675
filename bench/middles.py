# SPDX-License-Identifier: Apache-2.0
"""The devices under test of bench/compare.py: each is a context manager that runs one in the middle."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scenarios import Scenario
from topology import (
    CONTROL,
    CONTROL_ADDRESS,
    MIDDLE,
    MIDDLE_CONTROL_ADDRESS,
    SERVER_PORT,
    VIRTUAL_PORT,
    bracketed,
    process,
    run,
)

from admin.answers import COUNTERS, DFS_STATUS, MESSAGES
from admin.client import AdminClient

IPERF_PORT = 5201
DISCARD_PORT = 9  # UDP: where the other flows of a filled table go
CONNTRACK = "/proc/sys/net/netfilter/nf_conntrack"
FLOW_CAPACITY = 262_144
NGINX_STREAM = """
load_module modules/ngx_stream_module.so;
worker_processes 2; pid {scratch}/middle.pid; error_log {scratch}/middle.err;
events {{ worker_connections 8192; }}
stream {{
  upstream web {{ {method} {servers} }}
  server {{ listen {vip}:{vport} backlog=8192 reuseport; proxy_pass web; }}
  server {{ listen {vip}:{iperf} backlog=8192 reuseport; proxy_pass {server}:{iperf}; }}
  server {{ listen {vip}:{iperf} udp reuseport; proxy_pass {server}:{iperf}; }} }}
daemon off;
"""
HAPROXY = """
global
  maxconn 8000
  nbthread 2
defaults
  mode tcp
  timeout connect 5s
  timeout client 60s
  timeout server 60s
listen web
  bind {vip}:{vport} backlog 8192
  balance {method}
  {persistence}
  {servers}
listen iperf
  bind {vip}:{iperf}
  server s1 {server}:{iperf}
"""
NFT = """
table {family} nat {{ chain pre {{ type nat hook prerouting priority dstnat;
  {family} daddr {virtual} tcp dport {vport} dnat to {web}
  {family} daddr {virtual} tcp dport {iperf} dnat to {server}:{iperf}
  {family} daddr {virtual} udp dport {iperf} dnat to {server}:{iperf}
  {family} daddr {virtual} udp dport {discard} dnat to {server}:{discard}
}}
chain post {{ type nat hook postrouting priority srcnat; {source}
}}
}}
"""
CS_CONFIG = """
segment_id: {segment_id}
group_id: 1
active: {active}
ssmb: {{address: {cs}, port: {port}}}
key_file: cluster.key
admin_socket: {scratch}/{name}.sock
{others}
data_flow_segments:
  - {{address: {dfs}, port: 61019}}
settings: {{flow_capacity: 2097152{settings}}}
pools:
  - {{name: web, method: {method}, nodes: [{nodes}]}}
  - {{name: iperf, nodes: [{{name: iperf1, address: "{node}", port: {iperf}}}]}}
  - {{name: discard, nodes: [{{name: discard1, address: "{node}", port: {discard}}}]}}
virtual_servers:
  - {{name: web, address: "{virtual}", port: {vport}, protocol: tcp, pool: web{more}}}
  - {{name: iperf, address: "{virtual}", port: {iperf}, protocol: tcp, pool: iperf}}
  - {{name: iperf-udp, address: "{virtual}", port: {iperf}, protocol: udp, pool: iperf}}
  - {{name: discard, address: "{virtual}", port: {discard}, protocol: udp, pool: discard, idle_timeout_s: 7200}}
"""
DFS_CONFIG = """
segment_id: 256
target: bpf
attach: {attach}
external: [ext0]
internal: [int0]
csmb: {{address: {dfs}, port: 61019}}
ssmb: {{address: {dfs}, port: 61019}}
key_file: cluster.key
admin_socket: {scratch}/dfs.sock
flow_capacity: {capacity}
pin_path: /sys/fs/bpf/splitplane/bench
{dfs_lines}
"""


@dataclass(frozen=True, slots=True)
class Running:
    """A middle that is up."""

    address: str  # what the client connects to
    port: int = VIRTUAL_PORT
    parts: dict[str, int] = field(default_factory=dict)  # name -> process whose time is told apart
    flow_count: Callable[[], int] | None = None  # in its table
    counters: Callable[[], dict[str, int]] = dict  # what it counted so far, by name


Middle = Callable[[Path, Scenario], AbstractContextManager[Running]]


def filled(template: str, scratch: Path, scenario: Scenario, **more: object) -> str:
    """The template with what is the same in all files."""
    family = scenario.family
    return template.format(
        scratch=scratch, family=family.name, virtual=family.virtual, vip=bracketed(family.virtual),
        vport=VIRTUAL_PORT, node=family.servers[0], server=bracketed(family.servers[0]),
        iperf=IPERF_PORT, discard=DISCARD_PORT, cs=CONTROL_ADDRESS, dfs=MIDDLE_CONTROL_ADDRESS, **more,
    )  # fmt: skip


@contextmanager
def routing(scratch: Path, scenario: Scenario) -> Iterator[Running]:
    """The client connects to the server's own address; the middle only routes."""
    yield Running(scenario.family.servers[0], SERVER_PORT)


@contextmanager
def nftables(scratch: Path, scenario: Scenario) -> Iterator[Running]:
    """Destination NAT with connection tracking."""
    servers = scenario.addresses
    web = f"{bracketed(servers[0])}:{SERVER_PORT}"
    if len(servers) > 1:
        places = ", ".join(f"{n} : {address}" for n, address in enumerate(servers))
        web = f"numgen inc mod {len(servers)} map {{ {places} }}:{SERVER_PORT}"
    source = f"oifname int0 snat to {scenario.family.source}" if scenario.source_translation else ""
    (scratch / "nat.nft").write_text(filled(NFT, scratch, scenario, web=web, source=source))
    run("nft", "-f", str(scratch / "nat.nft"), namespace=MIDDLE)
    run("sysctl", "-qw", "net.netfilter.nf_conntrack_udp_timeout=7200", namespace=MIDDLE)
    try:
        yield Running(scenario.family.virtual, flow_count=_tracked)
    finally:
        run("nft", "delete", "table", scenario.family.name, "nat", namespace=MIDDLE)


def _tracked() -> int:
    return int(run("cat", f"{CONNTRACK}_count", namespace=MIDDLE))


@contextmanager
def proxy(scratch: Path, scenario: Scenario, *command: str) -> Iterator[Running]:
    address = scenario.family.virtual
    device = [f"{address}/{128 if ':' in address else 32}", "dev", "lo"]
    run("ip", "addr", "add", *device, namespace=MIDDLE)
    try:
        with process(*command, namespace=MIDDLE, log=scratch / "middle.log") as child:
            yield Running(address, parts={"proxy": child.pid})
    finally:
        run("ip", "addr", "del", *device, namespace=MIDDLE)


@contextmanager
def haproxy(scratch: Path, scenario: Scenario) -> Iterator[Running]:
    """HAProxy in TCP mode, two threads."""
    servers = "\n  ".join(
        f"server s{n} {bracketed(address)}:{SERVER_PORT}"
        for n, address in enumerate(scenario.addresses)
    )
    table = "stick-table type ip size 1m expire 300s\n  stick on src"
    config = filled(HAPROXY, scratch, scenario, servers=servers,
                   method="leastconn" if scenario.method == "least_connections" else "roundrobin",
                   persistence=table if scenario.persistence else "")  # fmt: skip
    (scratch / "haproxy.cfg").write_text(config)
    with proxy(scratch, scenario, "haproxy", "-db", "-f", str(scratch / "haproxy.cfg")) as running:
        yield running


@contextmanager
def nginx_stream(scratch: Path, scenario: Scenario) -> Iterator[Running]:
    """nginx with the stream module, two workers."""
    servers = " ".join(
        f"server {bracketed(address)}:{SERVER_PORT};" for address in scenario.addresses
    )
    method = "least_conn;" if scenario.method == "least_connections" else ""
    config = filled(NGINX_STREAM, scratch, scenario, servers=servers, method=method)
    (scratch / "stream.conf").write_text(config)
    with proxy(scratch, scenario, "nginx", "-c", str(scratch / "stream.conf")) as running:
        yield running


@dataclass(frozen=True, slots=True)
class Variant:
    """A way in which splitplane answers new flows: what its files say beyond the defaults."""

    dfs_lines: str = ""  # lines of dfs.yaml
    settings: str = ""  # of cs.yaml's section settings, each behind a comma
    attach: str = "auto"
    standby: bool = False  # a second CS, which has every flow too


CONTROL_SEGMENTS = {"cs": (1, 61019), "standby": (2, 61020)}  # segment_id and port


def configure(variant: Variant, scratch: Path, scenario: Scenario) -> None:
    """Write the files of a DFS and a CS."""
    (scratch / "cluster.key").write_text(os.urandom(32).hex())
    (scratch / "cluster.key").chmod(0o600)
    nodes = ", ".join(
        f'{{name: web{n}, address: "{address}", port: {SERVER_PORT}}}'
        for n, address in enumerate(scenario.addresses)
    )
    more = ""
    if scenario.source_translation:
        more += f', source_translation: {{address: "{scenario.family.source}"}}'
    if scenario.persistence:
        more += ", persistence: {kind: source_address, timeout_s: 300}"
    for name in control_segments(variant):
        segment_id, port = CONTROL_SEGMENTS[name]
        peers = [
            peer(*CONTROL_SEGMENTS[each]) for each in control_segments(variant) if each != name
        ]
        (scratch / f"{name}.yaml").write_text(
            filled(CS_CONFIG, scratch, scenario, nodes=nodes, more=more, method=scenario.method,
                  settings=variant.settings, segment_id=segment_id, port=port, name=name,
                  active="true" if name == "cs" else "false",
                  others=f"control_segments: [{', '.join(peers)}]" if peers else "")
        )  # fmt: skip
    (scratch / "dfs.yaml").write_text(
        filled(DFS_CONFIG, scratch, scenario, attach=variant.attach, dfs_lines=variant.dfs_lines,
              capacity=FLOW_CAPACITY + 2 * scenario.other_flows)
    )  # fmt: skip


def peer(segment_id: int, port: int) -> str:
    """Another CS of the group, as a CS's file names it."""
    return f"{{segment_id: {segment_id}, address: {CONTROL_ADDRESS}, port: {port}}}"


def control_segments(variant: Variant) -> list[str]:
    """The names of the CSs that there are."""
    return ["cs", "standby"] if variant.standby else ["cs"]


@contextmanager
def splitplane(variant: Variant, scratch: Path, scenario: Scenario) -> Iterator[Running]:
    """DFS in the middle, CS in a namespace of its own."""
    configure(variant, scratch, scenario)
    with segments(scratch, scenario, control_segments(variant)) as running:
        yield running


@contextmanager
def segments(
    scratch: Path, scenario: Scenario, names: Sequence[str] = ("cs",)
) -> Iterator[Running]:
    """A DFS and CSs with the files of the scratch folder."""
    command = (sys.executable, "-m", "splitplane")
    with ExitStack() as stack:
        stack.callback(run, "rm", "-rf", "/sys/fs/bpf/splitplane/bench", check=False)
        agent = stack.enter_context(process(*command, "dfs", str(scratch / "dfs.yaml"),
                                            namespace=MIDDLE, log=scratch / "middle.log"))  # fmt: skip
        pids = {
            name: stack.enter_context(process(*command, "cs", str(scratch / f"{name}.yaml"),
                                              namespace=CONTROL, log=scratch / f"{name}.log")).pid
            for name in names
        }  # fmt: skip
        yield Running(
            scenario.family.virtual,
            parts={"agent": agent.pid, **pids},
            flow_count=partial(_installed, scratch / "dfs.sock"),
            counters=partial(_counters, scratch),
        )


def _installed(path: Path) -> int:
    with AdminClient(path) as client:
        return client.ask(DFS_STATUS).flows


def _counters(scratch: Path) -> dict[str, int]:
    with AdminClient(scratch / "dfs.sock") as client:
        found = {name: counter.value for name, counter in client.ask(COUNTERS).items()}
    with AdminClient(scratch / "cs.sock") as client:
        messages = client.ask(MESSAGES)
    for way, counts in (("received", messages.received), ("sent", messages.sent)):
        found |= {f"{name} {way} by the CS": count for name, count in counts.items()}
    return found | {f"{name} of the CS": it.value for name, it in messages.dropped.items()}


VARIANTS = {
    "splitplane": Variant(),
    "splitplane-standby": Variant(standby=True),
    "splitplane-asks": Variant(settings=", grants: false"),
    "splitplane-agent": Variant(dfs_lines="ask: agent", settings=", grants: false"),
}


def middles(attach: str) -> dict[str, Middle]:
    """All of them, by name."""
    return {
        "routing": routing,
        "nftables": nftables,
        "haproxy": haproxy,
        "nginx": nginx_stream,
        **{
            name: partial(splitplane, replace(variant, attach=attach))
            for name, variant in VARIANTS.items()
        },
    }


def left_out(name: str, scenario: Scenario) -> str | None:
    """Why this middle has no figures in the scenario, or None."""
    if name == "nftables" and scenario.other_flows:
        limit = int(Path(f"{CONNTRACK}_max").read_text())
        if limit < scenario.other_flows + 65536:  # a port of the client each, for the connections
            return f"the machine's nf_conntrack_max is {limit:,}; raise it to compare"
    return scenario.left_out.get(name)
