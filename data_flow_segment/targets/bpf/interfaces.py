# SPDX-License-Identifier: Apache-2.0
"""The machine's interfaces, as `ip` reports them."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPV4LENGTH, ip_interface
from pathlib import Path
from typing import Any

from data_flow_segment.targets.contract import TargetError
from ssmb.addresses import from_text, is_ipv4


@dataclass(frozen=True, slots=True)
class Device:
    """One interface of this network namespace."""

    name: str
    ifindex: int
    mac: bytes
    addresses: tuple[bytes, ...]
    broadcasts: tuple[bytes, ...]  # of all hosts of its networks, which wildcards do not catch
    veth: bool
    enslaved: bool  # its packets are those of a bridge, a bond or the like
    other_namespace: bool  # the other end of a veth lives in another network namespace
    xdp_program: int = 0  # the kernel's number of the XDP program there; 0: none

    def first(self, *, ipv4: bool) -> bytes | None:
        """The address that packets of our own making come from."""
        for address in self.addresses:
            if is_ipv4(address) == ipv4 and address[:2] != b"\xfe\x80":
                return address
        return None


def devices() -> dict[str, Device]:
    """All interfaces by name."""
    try:
        done = subprocess.run(
            ["ip", "-json", "-details", "address", "show"],
            capture_output=True, text=True, check=True, timeout=30,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise TargetError(
            "the program `ip` is not installed: on Debian and Ubuntu, apt-get install iproute2"
        ) from error
    except subprocess.SubprocessError as error:
        raise TargetError(f"`ip address show` failed: {error}") from error
    found = {}
    for link in json.loads(done.stdout):
        if "ifname" not in link:
            continue
        kind = link.get("linkinfo", {}).get("info_kind")
        hardware = link.get("address", "")
        mac = bytes.fromhex(hardware.replace(":", "")) if hardware.count(":") == 5 else bytes(6)
        found[link["ifname"]] = Device(
            name=link["ifname"],
            ifindex=link["ifindex"],
            mac=mac,
            addresses=tuple(from_text(info["local"]) for info in link.get("addr_info", ())
                            if "local" in info),
            broadcasts=tuple(_broadcasts(link.get("addr_info", ()))),
            enslaved="master" in link,
            veth=kind == "veth",
            other_namespace="link_netnsid" in link,
            xdp_program=link.get("xdp", {}).get("prog", {}).get("id", 0),
        )  # fmt: skip
    return found


def _broadcasts(infos: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    """Of all IPv4 networks that have one (RFC 3021: not those of two addresses); the kernel has a
    route to each, whether or not `ip address` names it."""
    for info in infos:
        if info.get("family") == "inet" and info["prefixlen"] < IPV4LENGTH - 1:
            network = ip_interface(f"{info['local']}/{info['prefixlen']}").network
            yield from_text(str(network.broadcast_address))


def require(names: tuple[str, ...], side: str, present: dict[str, Device]) -> None:
    """Each of `names` must be there, and an Ethernet."""
    for name in names:
        device = present.get(name)
        if device is None:
            known = ", ".join(sorted(set(present) - {"lo"})) or "none"
            raise TargetError(f"{side} interface {name!r} does not exist; interfaces here: {known}")
        if device.mac == bytes(6):
            raise TargetError(f"{side} interface {name!r} is not an Ethernet")


def reverse_path(name: str) -> int:
    """The kernel's rp_filter on this interface: 0 off, 1 strict, 2 loose (ip-sysctl: the highest of
    this interface's and of `all`)."""
    found = 0
    for place in ("all", name):
        setting = Path(f"/proc/sys/net/ipv4/conf/{place}/rp_filter")
        with contextlib.suppress(OSError, ValueError):  # the interface went meanwhile
            found = max(found, int(setting.read_text()))
    return found


def enable_forwarding(name: str) -> None:
    """Routes are asked of the kernel, which answers only for interfaces that forward."""
    for family in ("ipv4", "ipv6"):
        setting = Path(f"/proc/sys/net/{family}/conf/{name}/forwarding")
        if setting.exists() and setting.read_text().strip() != "1":
            setting.write_text("1")
