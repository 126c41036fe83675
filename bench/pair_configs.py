# SPDX-License-Identifier: Apache-2.0
"""What the two machines of bench/pairs.py are configured with: VRRP's settings, keepalived and the proxies.

Pure: texts and values.  The options are those of keepalived.conf(5), of HAProxy's configuration.txt
and of nginx's stream module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

VIRTUAL_ADDRESS = "10.91.1.100"
VIRTUAL_PORT = 80
STREAM_PORT = 7  # where the server speaks first
SERVER_PORT, SERVER_STREAM_PORT = 8080, 7007
PORTS = {VIRTUAL_PORT: SERVER_PORT, STREAM_PORT: SERVER_STREAM_PORT}
CHECK_PORT = 8404  # on each machine's loopback: whether its proxy serves
CHECK = f"/usr/bin/curl -sf -m 1 -o /dev/null http://127.0.0.1:{CHECK_PORT}/"
ADDRESSES = {"eth0": VIRTUAL_ADDRESS}  # device -> address, on the active machine
# where no proxy ends connections, servers send to the clients by the active machine
ROUTED_ADDRESSES = ADDRESSES | {"eth1": "10.91.2.100"}
PRIORITIES = (150, 100)  # of the first machine, which is to be active, and of the second


@dataclass(frozen=True, slots=True)
class Vrrp:
    """How the pair watches itself."""

    advert_int_s: float
    global_lines: tuple[str, ...] = ()
    meaning: str = ""

    def detection_s(self, priority: int) -> float:
        """After which silence a backup of this *priority* takes over: Master_Down_Interval of RFC 5798 6.1."""
        skew = (256 - priority) / 256 * self.advert_int_s
        return 3 * self.advert_int_s + skew


VRRP = {
    "default": Vrrp(1, meaning="advert_int 1, VRRP version 2"),
    # version 2 knows whole seconds only; without a real-time priority a busy processor is enough for
    # a backup to hear nothing for 40 ms
    "aggressive": Vrrp(
        0.01, ("vrrp_version 3", "vrrp_rt_priority 50", "vrrp_no_swap"),
        meaning="advert_int 0.01, VRRP version 3, vrrp_rt_priority 50, vrrp_no_swap",
    ),
}  # fmt: skip


def keepalived(
    vrrp: Vrrp, machine: int, addresses: Mapping[str, str] = ADDRESSES, *, check: str | None = CHECK
) -> str:
    """keepalived.conf of the first (0) or second (1) machine; everything else is keepalived's default.

    *addresses* move together: device -> virtual address.  A proxy is watched by a vrrp_script, once a second, the shortest interval that there is; no script
    says anything about a process that is found by its name, because the pair shares this machine's
    process numbers (and vrrp_track_process hears of processes in the first network namespace only).
    """
    more = "".join(f"  {line}\n" for line in vrrp.global_lines)
    script = f'vrrp_script check {{\n  script "{check}"\n  interval 1\n}}\n' if check else ""
    track = "  track_script { check }\n" if check else ""
    held = "".join(f"    {address}/24 dev {device}\n" for device, address in addresses.items())
    return f"""
global_defs {{
  router_id lb{machine + 1}
  script_user root
{more}}}
{script}vrrp_instance web {{
  state BACKUP
  interface eth0
  virtual_router_id 51
  priority {PRIORITIES[machine]}
  advert_int {vrrp.advert_int_s:g}
  virtual_ipaddress {{
{held}  }}
{track}}}
"""


def haproxy(servers: Sequence[str]) -> str:
    """haproxy.cfg: TCP mode, two threads, round robin over *servers*."""
    listeners = "".join(
        f"listen web-{port}\n  bind :{port} backlog 8192\n  balance roundrobin\n"
        + "".join(f"  server s{n} {address}:{to}\n" for n, address in enumerate(servers))
        for port, to in PORTS.items()
    )
    return f"""
global
  maxconn 8000
  nbthread 2
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
{listeners}frontend check
  mode http
  bind 127.0.0.1:{CHECK_PORT}
  monitor-uri /
"""


def nginx(servers: Sequence[str], scratch: Path) -> str:
    """nginx.conf: the stream module, two workers, round robin over *servers*; its files in *scratch*."""
    listeners = "".join(
        f"""  upstream web-{port} {{ {" ".join(f"server {address}:{to};" for address in servers)} }}
  server {{ listen {port} backlog=8192 reuseport; proxy_pass web-{port}; }}
"""
        for port, to in PORTS.items()
    )
    return f"""
load_module modules/ngx_stream_module.so;
worker_processes 2; pid {scratch}/nginx.pid; error_log {scratch}/nginx.err; daemon off;
events {{ worker_connections 8192; }}
stream {{
  proxy_timeout 1h; proxy_half_close on;
{listeners}}}
http {{ access_log off; server {{ listen 127.0.0.1:{CHECK_PORT}; return 204; }} }}
"""
