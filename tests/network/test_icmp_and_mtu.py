# SPDX-License-Identifier: Apache-2.0
"""What real kernels say by ICMP and ICMPv6 reaches whom it concerns, and is understood there.

Errors arrive at a client about the address that it asked, never about a server's; path MTU
discovery and fragments work as if nobody stood between.
"""

from __future__ import annotations

import asyncio
import errno
import random
import select
import socket
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

import pytest

from splitplane.lab import Lab
from splitplane.lab.topology import UDP_PORT, VIRTUAL_ADDRESS, VIRTUAL_ADDRESS_6
from support.cluster.laboratory import TARGETS, echo, fetch, send_first, wait_until_served

pytestmark = [pytest.mark.network, pytest.mark.dataplane]

SMALL_MTU = 1300
NARROW_OCTETS = 3_000_000
DEAD_PORT = 9  # virtual, and of the nodes: nobody listens there
TIMEOUT_S = 10

# linux/in.h, linux/in6.h and linux/errqueue.h; Python has no names for them
IP_RECVERR, IPV6_RECVERR, MSG_ERRQUEUE = 11, 25, 0x2000
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PMTUDISC_DO = 10, 23, 2
ORIGIN_ICMP, ORIGIN_ICMP6 = 2, 3
SOCK_EXTENDED_ERR = struct.Struct("=IBBBBII")


class Family(NamedTuple):
    """What differs between IPv4 and IPv6."""

    number: socket.AddressFamily
    address: str
    level: int
    receive_errors: int
    hop_limit: int
    mtu_discover: int
    time_exceeded: tuple[int, int]
    port_unreachable: tuple[int, int]


FAMILIES = {
    "IPv4": Family(
        socket.AF_INET, VIRTUAL_ADDRESS, socket.IPPROTO_IP, IP_RECVERR, socket.IP_TTL,
        IP_MTU_DISCOVER, (11, 0), (3, 3),
    ),
    "IPv6": Family(
        socket.AF_INET6, VIRTUAL_ADDRESS_6, socket.IPPROTO_IPV6, IPV6_RECVERR,
        socket.IPV6_UNICAST_HOPS, IPV6_MTU_DISCOVER, (3, 0), (1, 4),
    ),
}  # fmt: skip


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES[request.param]


@pytest.fixture(scope="module", params=TARGETS)
def lab(make_lab: Callable[..., Lab], request: pytest.FixtureRequest) -> Iterator[Lab]:
    lab = make_lab(request.param, clients=2, servers=2)
    config = lab.cs_configs["cs1"]
    server = lab.host("server1")
    for name, virtual, address in (
        ("dead", VIRTUAL_ADDRESS, server.address),
        ("dead6", VIRTUAL_ADDRESS_6, server.address_6),
    ):
        nodes = [{"name": server.name, "address": address, "port": DEAD_PORT}]
        config["pools"].append({"name": name, "nodes": nodes})
        for protocol in ("tcp", "udp"):
            config["virtual_servers"].append(
                {
                    "name": f"{name}{protocol}",
                    "address": virtual,
                    "port": DEAD_PORT,
                    "protocol": protocol,
                    "pool": name,
                }
            )
    with lab:
        # errors are rarer than one a second otherwise, and each test is about one
        for namespace in lab.namespaces.values():
            namespace.sysctl(net__ipv4__icmp_ratelimit=0, net__ipv6__icmp__ratelimit=0)
        yield lab


class Told(NamedTuple):
    """An ICMP error, as the client's kernel understood it."""

    error: int  # errno
    type_and_code: tuple[int, int]
    by: str  # whose it was
    about: tuple[str, int]  # the address and port that had been asked
    info: int  # the MTU, if the error has one


def told(sock: socket.socket) -> Told:
    """Wait for an error in the socket's queue."""
    poll = select.poll()
    poll.register(sock, 0)  # POLLERR comes unasked
    assert poll.poll(TIMEOUT_S * 1000), "no ICMP error came"
    _, ancillary, _, about = sock.recvmsg(2048, 512, MSG_ERRQUEUE)
    ((_, _, octets),) = ancillary
    number, origin, kind, code, _, info, _ = SOCK_EXTENDED_ERR.unpack_from(octets)
    offender = octets[SOCK_EXTENDED_ERR.size :]
    if origin == ORIGIN_ICMP:
        by = socket.inet_ntop(socket.AF_INET, offender[4:8])
    else:
        assert origin == ORIGIN_ICMP6
        by = socket.inet_ntop(socket.AF_INET6, offender[8:24])
    return Told(number, (kind, code), by, about[:2], info)


@contextmanager
def asking(
    lab: Lab, family: Family, kind: socket.SocketKind = socket.SOCK_DGRAM
) -> Iterator[socket.socket]:
    """A client's socket that keeps the errors it is told."""
    with lab.socket("client1", family.number, kind) as sock:
        sock.settimeout(TIMEOUT_S)
        sock.setsockopt(family.level, family.receive_errors, 1)
        yield sock


def test_a_dead_port_is_said_to_the_client_by_the_address_it_asked(
    lab: Lab, family: Family
) -> None:
    with asking(lab, family) as sock:
        sock.connect((family.address, DEAD_PORT))
        send_first(lab, sock, b"anybody?")
        error = told(sock)
    assert error.error == errno.ECONNREFUSED
    assert error.type_and_code == family.port_unreachable
    assert error.by == family.address  # no server's address is shown to clients
    assert error.about == (family.address, DEAD_PORT)


def test_a_plain_client_of_a_dead_port_is_refused(lab: Lab, family: Family) -> None:
    with lab.socket("client2", family.number, socket.SOCK_DGRAM) as sock:
        sock.settimeout(TIMEOUT_S)
        sock.connect((family.address, DEAD_PORT))
        send_first(lab, sock, b"anybody?")
        with pytest.raises(ConnectionRefusedError):
            sock.recv(100)


def test_the_load_balancer_is_a_hop_that_traceroute_sees(lab: Lab, family: Family) -> None:
    client = lab.host("client1")
    with asking(lab, family) as sock:
        sock.connect((family.address, UDP_PORT))
        send_first(lab, sock, b"x")
        assert sock.recv(100).endswith(b" x")  # the flow is there
        sock.setsockopt(family.level, family.hop_limit, 1)
        sock.send(b"too far")
        error = told(sock)
        assert error.error == errno.EHOSTUNREACH
        assert error.type_and_code == family.time_exceeded
        assert error.by in (client.gateway, client.gateway_6)
        assert error.about == (family.address, UDP_PORT)
        sock.setsockopt(family.level, family.hop_limit, 2)  # DFS, then server
        sock.send(b"just far enough")
        assert sock.recv(100).endswith(b" just far enough")


def set_mtu(lab: Lab, kind: str, mtu: int) -> None:
    """Of the DFS's links to all hosts of a kind; a switch's agent reads it at its start."""
    names = [host.name for host in lab.topology.of(kind)]
    if "p4runtime" not in lab.dfs_config:
        lab.namespaces["dfs"].ip(*(f"link set {name} mtu {mtu}" for name in names))
        return
    for interface in lab.dfs_config["p4runtime"]["interfaces"]:
        if interface["name"] in names:
            interface["mtu"] = mtu
    lab.write_configs()
    for segment in (lab.cs(), lab.dfs()):  # a CS would wait ever longer for a DFS that keeps ending
        segment.stop()
    lab.start_dfs()
    lab.start_cs()
    wait_until_served(lab)


@contextmanager
def narrow(lab: Lab, kind: str) -> Iterator[None]:
    """The DFS's links to all clients, or to all servers, carry less; the hosts cannot know."""
    set_mtu(lab, kind, SMALL_MTU)
    try:
        yield
    finally:
        set_mtu(lab, kind, 1500)
        for host in (*lab.topology.of("client"), *lab.topology.of("server")):
            for version in ("-4", "-6"):
                lab.run(host.name, "ip", version, "route", "flush", "cache")


def learnt_mtu(lab: Lab, host: str, destination: str) -> bool:
    """Whether a host's kernel has been told the smaller path MTU to a destination."""
    return f"mtu {SMALL_MTU}" in lab.run(host, "ip", "route", "get", destination).stdout


def test_a_download_finds_the_smaller_mtu_of_the_way_to_the_client(
    lab: Lab, family: Family
) -> None:
    with narrow(lab, "client"):
        (server,) = asyncio.run(
            fetch(lab, "client1", family.address, (NARROW_OCTETS,), timeout_s=TIMEOUT_S)
        )
        client = lab.host("client1")
        seen = client.address if family.number == socket.AF_INET else client.address_6
        assert learnt_mtu(lab, server, seen), "the download did not meet the narrow link"


def test_an_upload_finds_the_smaller_mtu_of_the_way_to_the_server(lab: Lab, family: Family) -> None:
    sent = random.Random(3).randbytes(NARROW_OCTETS)
    received = bytearray()

    def sink(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(TIMEOUT_S)
            while octets := connection.recv(65536):
                received.extend(octets)

    listener = lab.socket("server1", family.number)
    client = lab.socket("client1", family.number)
    with narrow(lab, "server"), listener, client:
        listener.settimeout(TIMEOUT_S)
        listener.bind(("", DEAD_PORT))
        listener.listen()
        client.settimeout(TIMEOUT_S)
        client.connect((family.address, DEAD_PORT))
        with ThreadPoolExecutor(1) as pool:
            sinking = pool.submit(sink, listener)
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
            sinking.result(TIMEOUT_S)
        assert bytes(received) == sent
        assert learnt_mtu(lab, "client1", family.address), "it did not meet the narrow link"


def test_a_datagram_that_must_not_be_fragmented_is_told_the_mtu(lab: Lab, family: Family) -> None:
    with narrow(lab, "server"), asking(lab, family) as sock:
        sock.connect((family.address, UDP_PORT))
        sock.setsockopt(family.level, family.mtu_discover, PMTUDISC_DO)
        send_first(lab, sock, b"x")
        assert sock.recv(100).endswith(b" x")
        # where the agent asks, it sent the first one: the program has to find the way of this one
        sock.send(bytes(1400))
        error = told(sock)
        assert error.error == errno.EMSGSIZE
        assert error.info == SMALL_MTU
        assert error.about == (family.address, UDP_PORT)
        fits = bytes(SMALL_MTU - (28 if family.number == socket.AF_INET else 48))
        sock.send(fits[len("server1 ") :])
        assert len(sock.recv(2000)) == len(fits)


@pytest.mark.parametrize("octets", [1_473, 8_000, 60_000])
def test_fragments_go_both_ways(lab: Lab, family: Family, octets: int) -> None:
    content = random.Random(octets).randbytes(octets)
    contents = [b"x", content, b"y", content]
    assert len(set(asyncio.run(echo(lab, "client1", family.address, contents)))) == 1


@pytest.mark.parametrize("octets", [1_473, 8_000])  # of 16 KiB at most a flow (FLOW_BUFFER_MAX)
def test_the_first_fragments_wait_for_the_cs_together(
    lab: Lab, family: Family, octets: int
) -> None:
    content = random.Random(octets).randbytes(octets)
    for client in ("client1", "client2"):
        assert asyncio.run(echo(lab, client, family.address, [content], repeats=False))
