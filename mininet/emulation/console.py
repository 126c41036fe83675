# SPDX-License-Identifier: Apache-2.0
"""The command line of every topology, and Mininet's console with additional commands."""

from __future__ import annotations

import argparse
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

from emulation import prerequisites
from emulation.checks import PARTS, Drill, ping_all, request_all
from emulation.failover import SCENARIOS, Failover
from emulation.network import Network
from emulation.plan import HOSTS_MAX, Plan
from emulation.running import EmulationError, Folder
from mininet.cli import CLI
from mininet.log import setLogLevel


class Console(CLI):  # type: ignore[misc]
    """Mininet's console, for one network."""

    prompt = "splitplane> "

    def __init__(self, network: Network) -> None:
        self.network = network
        super().__init__(network.net)

    def _show(self, what: str, line: str) -> None:
        command = [str(prerequisites.PYTHON), "-m", "splitplane", "show", what, *line.split()]
        for segment in self.network.plan.segments:
            command += ["--socket", str(self.network.socket_of(segment))]
        sys.stdout.flush()
        subprocess.run(command, check=False)

    def do_flows(self, line: str) -> None:
        """flows [--from dfs]: the flows and their nodes."""
        self._show("flows", line)

    def do_nodes(self, line: str) -> None:
        """nodes: the pools' nodes and their shares (for Mininet's own nodes: `dump`)."""
        self._show("nodes", line)

    def do_counters(self, line: str) -> None:
        """counters: the DFSs' counters."""
        self._show("counters", line)

    def do_status(self, line: str) -> None:
        """status: the segments, and which of them are connected."""
        self._show("status", line)

    def do_pingall(self, line: str) -> None:
        """pingall: ping between all hosts that a DFS connects, in both address families."""
        del line
        ping_all(self.network)

    def do_requests(self, line: str) -> None:
        """requests [N]: HTTP requests from each client to each virtual address; who answered."""
        request_all(self.network, int(line) if line.isdecimal() else 0)

    def do_drill(self, line: str) -> None:
        """drill [cs|agent|switch]: kill it during downloads, and check that no download fails.

        drill kill|hang|switchover: the active CS of a group with a standby, under load."""
        try:
            drill(self.network, line or "cs")
        except EmulationError as error:
            print(f"error: {error}")


def drill(network: Network, what: str) -> bool:
    """Kill a part, or carry out a scenario of `splitplane drill failover`."""
    if what in SCENARIOS:
        return Failover(network, what).run()
    return Drill(network, what).run()


def _options(picture: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=picture, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default, what in (("clients", 2, "clients per DFS"), ("servers", 3, "servers")):
        parser.add_argument(
            f"--{name}",
            type=_count,
            metavar="N",
            default=default,
            help=f"{what} (default {default})",
        )
    parser.add_argument(
        "--target",
        choices=["p4runtime", "bpf"],
        default="p4runtime",
        help="what moves the packets: BMv2 (p4runtime), or the kernel (bpf)",
    )
    parser.add_argument("--test", action="store_true", help="run the checks; exit code 0 or 1")
    parser.add_argument(
        "--drill",
        choices=(*PARTS, *SCENARIOS),
        action="append",
        default=[],
        help="with --test: also kill this part, or carry out this scenario (standby_cs.py)",
    )
    parser.add_argument("--no-cli", action="store_true", help="stay up without a console")
    parser.add_argument(
        "--seconds", type=float, help="with --no-cli: how long (default: until Ctrl-C)"
    )
    return parser.parse_args()


def _count(text: str) -> int:
    number = int(text)
    if not 1 <= number <= HOSTS_MAX:
        raise argparse.ArgumentTypeError(f"{number} is not between 1 and {HOSTS_MAX}")
    return number


def main(picture: str, make_plan: Callable[[int, int], Plan]) -> None:
    """Run one topology: from the numbers of clients of a DFS and of servers to its plan."""
    options = _options(picture)
    prerequisites.require(options.target)
    setLogLevel("output")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # for a reader at the other end of a pipe
    # a shell without job control starts what is in the background with SIGINT ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        well = _run(make_plan(options.clients, options.servers), options, picture)
    except EmulationError as error:
        print(f"error: {error}", file=sys.stderr)
        well = False
    except KeyboardInterrupt:
        well = not options.test
    sys.exit(0 if well else 1)


def _run(plan: Plan, options: argparse.Namespace, picture: str) -> bool:
    with (
        Folder(f"mininet-{os.getpid()}") as folder,
        Network(plan, options.target, folder) as network,
    ):
        if options.test:
            done = [ping_all(network), request_all(network)]
            done += [drill(network, what) for what in options.drill]
            return all(done)
        print(picture)
        print(f"Configurations, admin sockets and logs: {folder.path}")
        if options.no_cli:
            time.sleep(options.seconds or sys.maxsize // 10**10)
        else:
            print("Additional commands: requests, flows, nodes, counters, status, drill [what]")
            print(f"  h1 curl -s http://{plan.control_segments[0].virtual.ipv4}/name")
            Console(network)
    return True
