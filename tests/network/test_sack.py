# SPDX-License-Identifier: Apache-2.0
"""Big transfers over links that lose packets: SACK is used on the wire, and every octet is right.

nftables loses them at random at both hosts, so that data and acknowledgements go missing in both
directions; what is acknowledged selectively passes the load balancer.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from splitplane.lab import Lab
from splitplane.lab.topology import VIRTUAL_ADDRESS, VIRTUAL_ADDRESS_6
from support.cluster.laboratory import TARGETS, fetch
from support.require import require

pytestmark = [pytest.mark.network, pytest.mark.dataplane]

FAMILIES = {"IPv4": VIRTUAL_ADDRESS, "IPv6": VIRTUAL_ADDRESS_6}
LOST_PERCENT = 2
DOWNLOADS = 3
OCTETS = 1_000_000
SINK_PORT = 9
TIMEOUT_S = 60
ETH_P_ALL, PACKET_OUTGOING = 0x0003, 4
SO_RCVBUFFORCE = 33  # asm-generic/socket.h
TCP_END, TCP_NOP, TCP_SACK = 0, 1, 5


@pytest.fixture(scope="module", params=TARGETS)
def lab(make_lab: Callable[..., Lab], request: pytest.FixtureRequest) -> Iterator[Lab]:
    require("nftables", None if shutil.which("nft") else "not installed; apt-get install nftables")
    lab = make_lab(request.param, clients=1, servers=1)
    config = lab.cs_configs["cs1"]
    server = lab.host("server1")
    for suffix, node, address in (
        ("", server.address, VIRTUAL_ADDRESS),
        ("6", server.address_6, VIRTUAL_ADDRESS_6),
    ):
        nodes = [{"name": server.name, "address": node, "port": SINK_PORT}]
        config["pools"].append({"name": f"sink{suffix}", "nodes": nodes})
        virtual = {"address": address, "port": SINK_PORT, "protocol": "tcp"}
        config["virtual_servers"].append(
            {"name": f"sink{suffix}", "pool": f"sink{suffix}", **virtual}
        )
    with lab:
        for host in ("client1", "server1"):
            lose(lab, host)
        yield lab


def lose(lab: Lab, host: str) -> None:
    """This share of the TCP segments that reach the host."""
    # one by one as on a wire, not many in one packet
    lab.run(host, "ethtool", "-K", "eth0", "tso", "off", "gso", "off", "gro", "off")
    lab.run(host, "nft", "add table netdev bad")
    hook = "{ type filter hook ingress device eth0 priority 0; }"
    lab.run(host, "nft", f"add chain netdev bad arriving {hook}")
    rule = f"meta l4proto tcp numgen random mod 100 < {LOST_PERCENT} counter drop"
    lab.run(host, "nft", f"add rule netdev bad arriving {rule}")


def lost(lab: Lab, host: str) -> int:
    """How many it has lost so far."""
    words = lab.run(host, "nft", "list", "chain", "netdev", "bad", "arriving").stdout.split()
    return int(words[words.index("packets") + 1])


def has_sack(frame: bytes) -> bool:
    """Whether the frame is a TCP segment with selective acknowledgements."""
    kind = int.from_bytes(frame[12:14], "big")
    if kind == 0x0800 and frame[23] == socket.IPPROTO_TCP:
        tcp = frame[14 + (frame[14] & 0x0F) * 4 :]
    elif kind == 0x86DD and frame[20] == socket.IPPROTO_TCP:
        tcp = frame[54:]
    else:
        return False
    options = tcp[20 : (tcp[12] >> 4) * 4]
    while options and options[0] != TCP_END:
        if options[0] == TCP_SACK:
            return True
        options = options[1:] if options[0] == TCP_NOP else options[max(2, options[1]) :]
    return False


@contextmanager
def counting_sacks(lab: Lab, host: str) -> Iterator[list[int]]:
    """[how many segments with SACK have arrived there] once the block ends."""
    count = [0]
    done = threading.Event()

    def listen() -> None:
        while True:
            try:
                frame, where = wire.recvfrom(128)
            except TimeoutError:
                if done.is_set():  # and what had come has been read
                    return
                continue
            count[0] += where[2] != PACKET_OUTGOING and has_sack(frame)

    with lab.socket(host, socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 24)  # this thread may have to wait
        wire.bind(("eth0", ETH_P_ALL))
        wire.settimeout(0.1)
        with ThreadPoolExecutor(1) as pool:
            listening = pool.submit(listen)
            try:
                yield count
            finally:
                done.set()
                listening.result()


def kernel_counter(lab: Lab, host: str, name: str) -> int:
    """One of the extended TCP counters of a host's kernel."""
    lines = lab.run(host, "cat", "/proc/net/netstat").stdout.splitlines()
    names, values = (line.split()[1:] for line in lines if line.startswith("TcpExt:"))
    return int(dict(zip(names, values, strict=True))[name])


ROUNDS_MAX = 10
"""On a busy machine a server's kernel may find a loss by its timer before the SACKs have come, so
that one round of downloads has no such recovery."""


@pytest.mark.parametrize("family", FAMILIES)
def test_downloads_are_whole_and_selectively_acknowledged(lab: Lab, family: str) -> None:
    before = kernel_counter(lab, "server1", "TCPSackRecovery"), lost(lab, "client1")

    async def all_of_them() -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(DOWNLOADS):
                wanted = fetch(lab, "client1", FAMILIES[family], (OCTETS,), timeout_s=TIMEOUT_S)
                tasks.create_task(wanted)

    with counting_sacks(lab, "server1") as sacks:
        for _ in range(ROUNDS_MAX):
            asyncio.run(all_of_them())
            if kernel_counter(lab, "server1", "TCPSackRecovery") > before[0]:
                break
    assert lost(lab, "client1") > before[1], "nothing was lost"
    assert sacks[0] > 0
    # the server's kernel understood them: none was out of its window, and it filled the gaps
    assert kernel_counter(lab, "server1", "TCPSackRecovery") > before[0]
    assert kernel_counter(lab, "server1", "TCPSACKDiscard") == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_an_upload_is_whole_and_selectively_acknowledged(lab: Lab, family: str) -> None:
    sent = random.Random(7).randbytes(OCTETS)
    received = bytearray()
    number = socket.AF_INET6 if family == "IPv6" else socket.AF_INET

    def sink(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(TIMEOUT_S)
            while octets := connection.recv(65536):
                received.extend(octets)

    with (
        lab.socket("server1", number) as listener,
        lab.socket("client1", number) as client,
        counting_sacks(lab, "client1") as sacks,
        ThreadPoolExecutor(1) as pool,
    ):
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.settimeout(TIMEOUT_S)
        listener.bind(("", SINK_PORT))
        listener.listen()
        client.settimeout(TIMEOUT_S)
        client.connect((FAMILIES[family], SINK_PORT))
        sinking = pool.submit(sink, listener)
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        sinking.result(TIMEOUT_S)
    assert bytes(received) == sent
    assert sacks[0] > 0
    assert kernel_counter(lab, "client1", "TCPSACKDiscard") == 0
