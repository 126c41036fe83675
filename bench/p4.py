# SPDX-License-Identifier: Apache-2.0
"""The P4 program compared with the smallest L3 forwarding program, on the same BMv2, in one run.

    sudo PATH=$PATH .venv/bin/python bench/p4.py [--seconds 2] [--rounds 3]

client ==== simple_switch_grpc ==== node, each in a network namespace.  bench/p4/minimal.p4 routes
between them; splitplane's translates: the client sends to a virtual server, whose flow is installed.
Every round measures both, one after the other, so that the machine's noise affects both; the table
shows medians.  UDP: frames of 64 octets, offered ever faster until no more come out.  TCP: one
connection as fast as it goes.  BMv2 is a software model of a switch: only the ratios count here.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from ssmb.addresses import from_text  # noqa: E402
from ssmb.constants import TCP, UDP  # noqa: E402
from support.targets.bmv2 import (  # noqa: E402
    PORT,
    PROGRAM,
    Cables,
    P4Client,
    install_network,
    missing_for_bmv2,
    running_switch,
)
from support.targets.rig import CLIENT_MAC, IPV4, NODE_MAC, TARGET_MAC, Side  # noqa: E402
from support.targets.veth_rig import FAR, run  # noqa: E402
from support.targets.wire import inside  # noqa: E402

UDP_PORT, VIRTUAL_PORT, NODE_PORT = 40000, 80, 8080
CLIENT_PORT = {Side.EXTERNAL: 40001, Side.INTERNAL: 40002}  # of TCP, by the sending side
PAYLOAD = bytes(22)  # with its headers a frame of 64 octets
FIRST_RATE, FASTER, RATES = 8000, 1.25, 16
NOBODY = 0.9  # of what is offered: when less comes out twice, the switch does no more
OTHER = {Side.EXTERNAL: Side.INTERNAL, Side.INTERNAL: Side.EXTERNAL}
HOSTS = {Side.EXTERNAL: (IPV4.client, CLIENT_MAC), Side.INTERNAL: (IPV4.node, NODE_MAC)}
ROWS = {
    "udp_there": "UDP, 64 octets, client to node, packets/s",
    "udp_back": "UDP, 64 octets, node to client, packets/s",
    "tcp_there": "TCP, client to node, Mbit/s",
    "tcp_back": "TCP, node to client, Mbit/s",
}


class Setting(NamedTuple):
    """A program with its tables filled, and where a client must send to."""

    cables: Cables
    server: tuple[str, int]


def octets(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def word_sum(data: bytes) -> int:
    return sum(int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2))


# --- the two programs ---------------------------------------------------------------------------


def fill_minimal(client: P4Client) -> tuple[str, int]:
    for side, (address, mac) in HOSTS.items():
        own = {"src_mac": octets(TARGET_MAC[side]), "dst_mac": octets(mac)}
        match = {"address": (from_text(address)[12:], 32)}
        client.insert("routes", match, "forward", port=PORT[side], **own)
    return IPV4.node, NODE_PORT


def fill_ours(client: P4Client) -> tuple[str, int]:
    install_network(client, {side: [from_text(getattr(IPV4, side.value))] for side in Side})
    for side, (address, mac) in HOSTS.items():
        port = PORT[side]
        own = {"src_mac": octets(TARGET_MAC[side]), "dst_mac": octets(mac)}
        client.insert("next_hops", {"next_hop": port}, "forward", port=port, mtu=1500, **own)
        client.insert("neighbours", {"address": from_text(address)}, "set_neighbour", next_hop=port)
        client.insert("routes", {"address": (from_text(address), 128)}, "connected", port=port)
    flows = [(TCP, port) for port in CLIENT_PORT.values()] + [(UDP, UDP_PORT)]
    for number, (protocol, port) in enumerate(flows):
        install_flow(client, protocol, port, 2 * number)
    return IPV4.vip, VIRTUAL_PORT


def install_flow(client: P4Client, protocol: int, client_port: int, index: int) -> None:
    """Address and port translation, without offsets."""
    near, virtual, node = (from_text(a) for a in (IPV4.client, IPV4.vip, IPV4.node))
    address = (word_sum(node) - word_sum(virtual)) % 65535
    port = NODE_PORT - VIRTUAL_PORT
    keys = ("src_addr", "dst_addr", "src_port", "dst_port", "protocol")
    back = dict(zip(keys, (node, near, NODE_PORT, client_port, protocol), strict=True))
    there = dict(zip(keys, (near, virtual, client_port, VIRTUAL_PORT, protocol), strict=True))
    returns = (virtual, near, VIRTUAL_PORT, client_port, -address % 65535, -port % 65535)
    becomes = (near, node, client_port, NODE_PORT, address, port)
    insert_flow(client, back, "returning", index + 1, returns)
    insert_flow(client, there, "inbound", index, becomes, towards=node)


def insert_flow(
    client: P4Client,
    match: dict[str, object],
    action: str,
    index: int,
    new: tuple[int | bytes, ...],
    **more: int | bytes,
) -> None:
    """Parameters that are not given are 0."""
    names = [f"new_{name}" for name in ("src_addr", "dst_addr", "src_port", "dst_port")]
    said = dict(zip([*names, "address_delta", "port_delta"], new, strict=True))
    (info,) = (a for a in client.info.actions if a.preamble.name.endswith(f".{action}"))
    unsaid = dict.fromkeys((parameter.name for parameter in info.params), 0)
    client.insert("flows", match, action, **{**unsaid, **said, **more, "index": index, "cookie": 7})


PROGRAMS = {
    "minimal": (ROOT / "bench" / "p4", "minimal", fill_minimal),
    "ours": (PROGRAM, "dfs", fill_ours),
}


@contextmanager
def running(program: str) -> Iterator[Setting]:
    folder, name, fill = PROGRAMS[program]
    with closing(Cables()) as cables, running_switch(cables) as address:
        for side, end in cables.ends.items():
            give_stack(end, side)
        with closing(P4Client(address, folder, name)) as client:
            client.push()
            yield Setting(cables, fill(client))


def give_stack(namespace: str, side: Side) -> None:
    """An address and a route to every host, so that sockets can be used there."""
    address, mac = HOSTS[side]
    gateway = "169.254.0.1"
    for command in (
        f"link set {FAR} arp on address {mac}",
        f"addr add {address}/32 dev {FAR}",
        f"neigh replace {gateway} lladdr {TARGET_MAC[side]} dev {FAR} nud permanent",
        f"route add default via {gateway} dev {FAR} onlink",
    ):
        run("ip", "-n", namespace, *command.split())


# --- load ---------------------------------------------------------------------------------------


def ends_of(setting: Setting, side: Side) -> tuple[tuple[str, int], tuple[str, int]]:
    """A sender's own end, and where it sends to."""
    if side is Side.EXTERNAL:
        return (IPV4.client, UDP_PORT), setting.server
    return (IPV4.node, NODE_PORT), (IPV4.client, UDP_PORT)


def received(namespace: str) -> int:
    command = ["ip", "-n", namespace, "-j", "-s", "link", "show", FAR]
    found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return int(found[0]["stats64"]["rx"]["packets"])


def udp_rate(setting: Setting, side: Side, seconds: float) -> float:
    """The most packets per second that came out."""
    own, far = ends_of(setting, side)
    out = setting.cables.ends[OTHER[side]]
    with inside(setting.cables.ends[side]):
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with inside(out):
        sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)  # never read: no ICMP errors
    with sender, sink:
        sink.bind(ends_of(setting, OTHER[side])[0])
        sender.bind(own)
        sender.connect(far)
        best, behind = 0.0, 0
        for step in range(RATES):
            rate = FIRST_RATE * FASTER**step
            before = received(out)
            took = offer(sender, rate, seconds)
            time.sleep(0.3)
            got = (received(out) - before) / took
            best = max(best, got)
            behind = behind + 1 if got < NOBODY * rate else 0
            if behind == 2:
                break
        return best


def offer(sender: socket.socket, rate: float, seconds: float) -> float:
    begin = time.monotonic()
    for number in range(int(rate * seconds)):
        sender.send(PAYLOAD)
        if number % 8 == 7:
            early = begin + number / rate - time.monotonic()
            if early > 0:
                time.sleep(early)
    return time.monotonic() - begin


def tcp_rate(setting: Setting, side: Side, seconds: float) -> float:
    """Mbit/s of one connection, which the client opens, from `side` to the other."""
    with inside(setting.cables.ends[Side.INTERNAL]):
        listener = socket.create_server((IPV4.node, NODE_PORT))
    with inside(setting.cables.ends[Side.EXTERNAL]):
        client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    client.bind((IPV4.client, CLIENT_PORT[side]))
    client.settimeout(20)
    with listener, client:
        client.connect(setting.server)
        node, _ = listener.accept()
        with node:
            sender, receiver = (client, node) if side is Side.EXTERNAL else (node, client)
            # what is still on its way is not wanted
            reset = b"\1\0\0\0\0\0\0\0"
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            node.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            return stream(sender, receiver, seconds)


def stream(sender: socket.socket, receiver: socket.socket, seconds: float) -> float:
    over = threading.Event()

    def send() -> None:
        data = bytes(1 << 16)
        sender.settimeout(1)
        while not over.is_set():
            try:
                sender.send(data)
            except OSError:
                continue

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    receiver.settimeout(5)
    read_for(receiver, 1.0)  # its slow start
    rate = read_for(receiver, seconds)
    over.set()
    thread.join()
    return rate


def read_for(receiver: socket.socket, seconds: float) -> float:
    begin = time.monotonic()
    count = 0
    while (now := time.monotonic()) < begin + seconds:
        count += len(receiver.recv(1 << 20))
    return count * 8 / 1e6 / (now - begin)


def measure(program: str, seconds: float) -> dict[str, float]:
    with running(program) as setting:
        return {
            "udp_there": udp_rate(setting, Side.EXTERNAL, seconds / 2),
            "udp_back": udp_rate(setting, Side.INTERNAL, seconds / 2),
            "tcp_there": tcp_rate(setting, Side.EXTERNAL, seconds),
            "tcp_back": tcp_rate(setting, Side.INTERNAL, seconds),
        }


# --- the table ----------------------------------------------------------------------------------


def table(rounds: list[dict[str, dict[str, float]]]) -> str:
    lines = ["| | minimal | splitplane | ratio |", "| --- | ---: | ---: | ---: |"]
    for row, title in ROWS.items():
        small, ours = (statistics.median(r[p][row] for r in rounds) for p in PROGRAMS)
        ratio = statistics.median(r["ours"][row] / r["minimal"][row] for r in rounds)
        lines.append(f"| {title} | {small:,.0f} | {ours:,.0f} | {ratio:.2f} |")
    return "\n".join(lines)


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--seconds", type=float, default=2)
    options.add_argument("--rounds", type=int, default=3)
    chosen = options.parse_args()
    if os.geteuid() != 0:
        sys.exit("network namespaces need root: run with sudo")
    if (reason := missing_for_bmv2()) is not None:
        sys.exit(reason)
    rounds = [
        {program: measure(program, chosen.seconds) for program in PROGRAMS}
        for _ in range(chosen.rounds)
    ]
    switch = str(shutil.which("simple_switch_grpc"))
    told = subprocess.run([switch, "--version"], capture_output=True, text=True, check=False)
    version = (told.stdout.strip().splitlines() or ["unknown"])[-1]
    print(f"BMv2 {version}, {os.cpu_count()} processors, {chosen.rounds} rounds, medians\n")
    print(table(rounds))


if __name__ == "__main__":
    main()
