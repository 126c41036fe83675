# SPDX-License-Identifier: Apache-2.0
"""Client, middle, server (and a CS beside the middle): the smallest network in which middles can be compared.

The laboratory of `splitplane.lab` runs splitplane; this one must also run what splitplane is compared
with, so it knows nothing of splitplane except for its two commands.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CLIENT, MIDDLE, SERVER, CONTROL = "spb-client", "spb-middle", "spb-server", "spb-control"
NAMESPACES = (CLIENT, MIDDLE, SERVER, CONTROL)
# host namespace -> (number of the link's networks, name of the middle's end)
LINKS = {CLIENT: (1, "ext0"), SERVER: (2, "int0"), CONTROL: (3, "ctl0")}
CONTROL_ADDRESS, MIDDLE_CONTROL_ADDRESS = "10.90.3.2", "10.90.3.1"
SERVER_PORT, VIRTUAL_PORT = 8080, 80
MANY_CLIENTS = "10.128.0.0/10"  # all of them are the client's own addresses


@dataclass(frozen=True, slots=True)
class Family:
    """The addresses of one version of IP."""

    name: str  # as nft has it
    servers: tuple[str, ...]  # all of the one server
    virtual: str
    source: str  # of source translation; the server's default route leads there


IPV4 = Family("ip", ("10.90.2.2", "10.90.2.3", "10.90.2.4"), "203.0.113.10", "198.51.100.1")
IPV6 = Family("ip6", ("fd90:2::2", "fd90:2::3", "fd90:2::4"), "2001:db8:113::10", "2001:db8:100::1")


def bracketed(address: str) -> str:
    """As it is written before a port."""
    return f"[{address}]" if ":" in address else address


def run(*command: str, namespace: str | None = None, check: bool = True) -> str:
    """Run a command (inside a namespace) and return what it printed."""
    prefix = ["nsenter", f"--net=/run/netns/{namespace}", "--"] if namespace else []
    done = subprocess.run(
        [*prefix, *command], capture_output=True, text=True, check=False, timeout=120
    )
    if check and done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


@contextmanager
def alone() -> Iterator[Path]:
    """The one benchmark that makes namespaces; yield a scratch folder."""
    with (
        Path(tempfile.gettempdir(), "splitplane-bench.lock").open("w") as lock,
        tempfile.TemporaryDirectory(prefix="splitplane-bench-") as scratch,
    ):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit("another benchmark uses the namespaces; wait until it has ended")
        yield Path(scratch)


@contextmanager
def topology() -> Iterator[Path]:
    """Bring the namespaces up, yield a scratch folder, take everything down."""
    with alone() as scratch:
        tear_down()
        try:
            _bring_up()
            yield scratch
        finally:
            tear_down()


def tear_down() -> None:
    """Delete the namespaces, also those of a run that was killed."""
    for name in NAMESPACES:
        run("ip", "netns", "del", name, check=False)


def _bring_up() -> None:
    for name in NAMESPACES:
        run("ip", "netns", "add", name)
        run("ip", "link", "set", "lo", "up", namespace=name)
    for host, (number, device) in LINKS.items():
        run("ip", "link", "add", device, "netns", MIDDLE, "type", "veth",
            "peer", "name", "eth0", "netns", host)  # fmt: skip
        for ip, prefix, length in (("-4", f"10.90.{number}.", 24), ("-6", f"fd90:{number}::", 64)):
            for last, at, end in (("1", MIDDLE, device), ("2", host, "eth0")):
                _add_address(f"{prefix}{last}/{length}", end, namespace=at)
                run("ip", "link", "set", end, "up", namespace=at)
            run("ip", ip, "route", "add", "default", "via", f"{prefix}1", namespace=host)
    for address in (*IPV4.servers[1:], *IPV6.servers[1:]):
        _add_address(f"{address}/{64 if ':' in address else 24}", "eth0", namespace=SERVER)
    run("ip", "route", "add", "local", MANY_CLIENTS, "dev", "lo", namespace=CLIENT)
    run("ip", "route", "add", MANY_CLIENTS, "via", "10.90.1.2", namespace=MIDDLE)
    for setting in ("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"):
        run("sysctl", "-qw", setting, namespace=MIDDLE)
    for host in (CLIENT, SERVER):
        # one port per connection: without this a short benchmark runs out of client ports
        run("sysctl", "-qw", "net.ipv4.ip_local_port_range=1024 65535", namespace=host)
        run("sysctl", "-qw", "net.ipv4.tcp_tw_reuse=1", namespace=host)


def _add_address(address: str, device: str, *, namespace: str) -> None:
    alone = ["nodad"] if ":" in address else []  # nobody else is there whose address it could be
    run("ip", "addr", "add", address, "dev", device, *alone, namespace=namespace)


@contextmanager
def process(*command: str, namespace: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server that runs while the block does."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    with log.open("wb") as out:
        child = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{namespace}", "--", *command],
            stdout=out, stderr=out, env=environment,
        )  # fmt: skip
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(5)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def wait_for_http(
    address: str, port: int, *, namespace: str, log: Path, seconds: float = 20
) -> None:
    """Return once an HTTP request works, or end with the middle's last words."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        got = run("curl", "-s", "-o", "/dev/null", "-g", "-m", "1", "-w", "%{http_code}",
                  f"http://{bracketed(address)}:{port}/", namespace=namespace, check=False)  # fmt: skip
        if got == "200":
            return
        time.sleep(0.1)
    tail = log.read_text(errors="replace")[-2000:] if log.exists() else ""
    raise SystemExit(f"no answer from {address}:{port} within {seconds:.0f} s\n{tail}")


def need(*programs: str) -> None:
    """End with a clear line if a program to compare with is not installed."""
    from shutil import which

    missing = [program for program in programs if which(program) is None]
    if missing:
        sys.exit(f"not installed: {', '.join(missing)} (on Debian and Ubuntu: apt-get install "
                 "haproxy keepalived nginx libnginx-mod-stream nftables wrk iperf3 curl)")  # fmt: skip
    if os.geteuid() != 0:
        sys.exit("network namespaces need root: run with sudo")
