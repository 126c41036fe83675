# SPDX-License-Identifier: Apache-2.0
"""By which interface a CS is reached, as the kernel's routes say."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass

from ssmb.addresses import to_text


@dataclass(frozen=True, slots=True)
class Way:
    """An interface, or why the program cannot send there itself."""

    interface: str = ""
    obstacle: str = ""


def find_way(cs_ipaddr: bytes, own_ipaddr: bytes) -> Way:
    """Where packets to a CS leave, and so where its own come in."""
    address = to_text(cs_ipaddr)
    command = ["ip", "-json", "route", "get", address, "from", to_text(own_ipaddr)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.SubprocessError) as error:
        return Way(obstacle=f"the route to the CS at {address} cannot be looked up: {error}")
    routes = json.loads(done.stdout) if done.returncode == 0 and done.stdout.strip() else []
    if not routes or "dev" not in routes[0]:
        return Way(obstacle=f"there is no route to the CS at {address}")
    route = routes[0]
    if route.get("type") == "local" or route["dev"] == "lo":
        return Way(obstacle=f"the CS at {address} is in this network namespace")
    if "encap" in route:
        return Way(obstacle=f"the route to the CS at {address} encapsulates")
    return Way(interface=route["dev"])
