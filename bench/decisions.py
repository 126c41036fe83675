# SPDX-License-Identifier: Apache-2.0
"""How many sealed decisions per second does a Control Segment make, and how long does one take?

    python bench/decisions.py [--seconds 5] [--processes 1 2] [--rate 20000] [--json FILE]

Each CS is a separate process with real sockets on the loopback; a load generator process next to
it plays the DFS: CSMB with authentication, SSMB challenge, SYNC, then QUERYs that were sealed
beforehand (so that the generator is not the bottleneck), as fast as replies come back, then at a
fixed rate for the latencies.  The first REPLYs are opened and checked, those to PARKED with their
frames.  With DELETE, the CS's processor time is that of a flow's whole life: QUERY, REPLY and a
thirteenth of a datagram of DELETEs.  How many QUERYs are outstanding matters: what a wake-up costs
is shared by those that have come meanwhile.

A generator needs about as much processor time as a CS.  With fewer than two cores per CS they share
cores, and the figure is that of the pair, not of the CS.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import multiprocessing
import os
import platform
import select
import socket
import struct
import sys
import time
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import as_deployed  # first of all

from control_segment.config import ControlSegmentConfig
from control_segment.runtime.runtime import ControlSegmentRuntime
from csmb.connection import Connection
from csmb.constants import Flag as CsmbFlag
from csmb.constants import Role
from csmb.events import MessageReceived, Ready
from csmb.messages import Ack
from csmb.settings import ConnectionSettings
from ssmb.addresses import from_text
from ssmb.codec import decode, encode, encode_batch
from ssmb.constants import Flag, MessageType
from ssmb.keys import auth_proof
from ssmb.messages import (
    AppQuery,
    AuthChallenge,
    AuthResponse,
    Delete,
    Query,
    Reply,
    Sync,
    SyncDone,
)
from ssmb.seal import Opener, Sealer

KEY = b"a key for benchmarks"
CHECKED = 20_000
LANES = 2
FRAME = bytes(range(74))  # a SYN with the usual options, over IPv4 and Ethernet
# What a browser asks for, in one segment: what the data path asks with (docs/design/0012)
REQUEST = (
    b"GET /img/logo.png?x=1 HTTP/1.1\r\nHost: h7.example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux"
    b" x86_64) AppleWebKit/537.36\r\nAccept: text/html,application/xhtml+xml\r\n"
    b"Cookie: SID=abcdef0123456789; theme=dark\r\n\r\n"
)
ACK_TYPES = {"Config": 5, "VsList": 8}


def _frame_of(payload: bytes) -> bytes:
    """Ethernet, IPv4 and TCP in front, without checksums, which a CS does not look at."""
    tcp = struct.pack("!HHIIBBHHH", 40000, 81, 1, 1, 5 << 4, 0x18, 502, 0, 0) + payload
    addresses = bytes([198, 18, 0, 1, 203, 0, 113, 10])
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 1, 0x4000, 64, 6, 0) + addresses
    return bytes(12) + b"\x08\x00" + ip + tcp


REQUEST_FRAME = _frame_of(REQUEST)


class Load(NamedTuple):
    """QUERYs as fast as REPLYs come."""

    outstanding: int
    parked: bool = False
    deletes: bool = False
    content: bool = False  # APP_QUERYs with whole requests, for which 1,000 rules are looked up

    @property
    def frame(self) -> bytes:
        """What is parked."""
        if self.content:
            return REQUEST_FRAME
        return FRAME if self.parked else b""


LOADS = {
    "QUERY": Load(64),
    "QUERY, DELETE": Load(64, deletes=True),
    "PARKED, DELETE": Load(64, parked=True, deletes=True),
    "APP_QUERY, DELETE": Load(64, parked=True, deletes=True, content=True),
    "the same, 8 outstanding": Load(8, parked=True, deletes=True),
    "the same, one by one": Load(1, parked=True, deletes=True),
}


@dataclass
class Result:
    """One run."""

    processes: int
    what: str
    decisions_per_s: float
    p50_us: float
    p99_us: float
    lost: int
    cs_cpu_us: float  # processor time of the CS per decision


def configuration(port: int, dfs_port: int) -> ControlSegmentConfig:
    """Three nodes, one virtual server."""
    nodes = [{"name": f"web{n}", "address": f"10.1.1.{n}", "port": 8080} for n in (2, 3, 4)]
    return ControlSegmentConfig.model_validate(
        {
            "segment_id": 1,
            "ssmb": {"address": "127.0.0.1", "port": port},
            "key_file": "unused",
            "data_flow_segments": [{"address": "127.0.0.1", "port": dfs_port}],
            "settings": {"hello_interval_s": 3600},
            "pools": [{"name": "web", "nodes": nodes}],
            "virtual_servers": [
                {
                    "name": "www",
                    "address": "203.0.113.10",
                    "port": 80,
                    "protocol": "tcp",
                    "pool": "web",
                },
                {
                    "name": "shop",
                    "address": "203.0.113.10",
                    "port": 81,
                    "protocol": "tcp",
                    "kind": "http",
                    "pool": "web",
                    "rules": [
                        {
                            "name": f"rule {number}",
                            "match": {"host": [f"h{number}.example.com"], "path_prefix": ["/img/"]},
                            "pool": "web",
                        }
                        for number in range(1000)
                    ],
                },
            ],
        }
    )


def stay_on(place: int) -> None:
    """Keep a process on one processor: a CS that must wait for a generator's time slice shows the
    scheduler's milliseconds, not its own microseconds."""
    usable = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {usable[place % len(usable)]})


def run_cs(port: int, dfs_port: int, pipe: Pipe, place: int) -> None:
    """The process of a CS; reports its processor time when asked."""
    stay_on(place)

    async def main() -> None:
        runtime = ControlSegmentRuntime(configuration(port, dfs_port), KEY)
        loop = asyncio.get_running_loop()

        def asked() -> None:
            if pipe.recv() == "stop":
                runtime.stop()
            else:
                pipe.send(time.process_time())

        loop.add_reader(pipe.fileno(), asked)
        await runtime.run()

    asyncio.run(main())


class Generator:
    """Plays a DFS."""

    alone = True

    def __init__(self, listener: socket.socket, cs_port: int) -> None:
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            self._udp.setsockopt(socket.SOL_SOCKET, option, 4 << 20)
        self._udp.bind(("127.0.0.1", 0))
        self._udp.connect(("127.0.0.1", cs_port))
        self._stream = listener.accept()[0]
        self._dfs = Connection(
            Role.DFS,
            ConnectionSettings(
                segment_id=256,
                key=KEY,
                boot_id=1,
                ssmb_ipaddr=from_text("127.0.0.1"),
                ssmb_port=self._udp.getsockname()[1],
                hello_interval_s=3600,
                flags=int(CsmbFlag.APP_PROXY),
            ),
            random_octets=os.urandom,
            now=time.monotonic(),
        )
        self._serial = 0
        self._negotiate()
        self._prove()
        self._udp.setblocking(False)

    def _negotiate(self) -> None:
        listed = False
        while not listed:
            self._dfs.receive_data(self._stream.recv(65536), time.monotonic())
            while event := self._dfs.next_event():
                if isinstance(event, Ready):
                    assert event.ssmb_keys is not None
                    self._sealers = [Sealer(event.ssmb_keys.d2c, lane) for lane in range(LANES)]
                    self._sealer = self._sealers[0]
                    self._opener = Opener(event.ssmb_keys.c2d)
                elif isinstance(event, MessageReceived):
                    name = type(event.message).__name__
                    listed |= name == "VsList"
                    self._dfs.send(
                        Ack(0, 0, ACK_TYPES[name], event.serial_global, event.serial_bytype),
                        time.monotonic(),
                    )
            self._stream.sendall(self._dfs.data_to_send())

    def _prove(self) -> None:
        self._udp.settimeout(5)
        while True:
            message = decode(self._opener.open(self._udp.recv(2048)), 2)
            if isinstance(message, AuthChallenge):
                nonce = os.urandom(32)
                proof = auth_proof(
                    KEY, message.challenge_id, message.auth_data, nonce, dfs_id=256, cs_id=1
                )
                answer = AuthResponse(
                    challenge_id=message.challenge_id, auth_data=proof, auth_nonce=nonce
                )
                self._udp.send(self._sealer.seal(encode(answer, 2)))
            elif isinstance(message, Sync):
                self._udp.send(self._sealer.seal(encode(SyncDone(sync_id=message.sync_id), 2)))
                return

    def prepare(self, count: int, load: Load) -> list[bytes]:
        """Return sealed QUERYs for as many new flows, and their DELETEs 2,000 flows later."""
        vip, made = from_text("203.0.113.10"), []
        flags, frame = Flag.PARKED if load.parked else 0, load.frame
        question, port = (AppQuery, 81) if load.content else (Query, 80)
        waiting: list[Delete] = []
        for _ in range(count):
            self._serial = serial = self._serial + 1
            client = from_text(
                f"198.{18 + (serial >> 22)}.{serial >> 14 & 255}.{serial >> 6 & 255}"
            )
            signature = (client, vip, 1024 + serial % 60000, port, 6)
            query = question(0, flags, serial, *signature, tcp_flags=2, frame=frame)
            made.append(self._sealers[serial % LANES].seal(encode(query, 2)))
            if load.deletes:
                # a short connection, ended by FIN
                fields = (1, 0, 0, 6, 700, 5, 4000) if serial % 64 else (3, 0, 300_000, 1, 60, 0, 0)
                ended = Delete(0, Flag.HAS_STATS, serial, *signature, 0, 0x1B, *fields)
                waiting.append(ended)
                if len(waiting) == 2013:
                    for batch in encode_batch(waiting[:13], 2):
                        made.append(self._sealer.seal(batch))
                    del waiting[:13]
        return made

    def flood(self, datagrams: list[bytes], load: Load, seconds: float) -> tuple[int, float]:
        """Send as fast as replies come; return how many came, in how long."""
        gc.collect()
        gc.freeze()
        send, receive = self._udp.send, self._udp.recv
        answered = sent = outstanding = 0
        opener, most = self._opener.open, load.outstanding
        frame = load.frame
        start = now = time.perf_counter()
        total, first = len(datagrams), datagrams[0][4:8]
        idle_since = start
        while now - start < seconds and sent < total:
            while outstanding < most and sent < total:
                octets = datagrams[sent]
                send(octets)
                sent += 1
                outstanding += octets[0] != MessageType.DELETE  # which is not answered
            before = answered
            try:
                while True:
                    reply = receive(2048)
                    if reply[4:8] < first:
                        continue  # a late answer to the load before
                    if answered < CHECKED:
                        message = decode(opener(reply), 2)
                        assert isinstance(message, Reply), message
                        assert message.error_code == 0, message
                        assert message.frame == frame, message
                    answered += 1
                    outstanding -= 1
            except BlockingIOError:
                pass
            now = time.perf_counter()
            if answered != before:
                idle_since = now
            elif now - idle_since > 0.2:
                outstanding = 0  # lost: start over
                idle_since = now
            elif outstanding >= most and not self.alone:
                select.select([self._udp], [], [], 0.05)
        return answered, now - start

    def pace(self, datagrams: list[bytes], rate: float) -> tuple[list[float], float]:
        """Send QUERYs at a rate; return the latencies, and how long it took."""
        gc.collect()
        gc.freeze()
        send, receive, clock = self._udp.send, self._udp.recv, time.perf_counter
        sent_at: dict[bytes, float] = {}
        latencies: list[float] = []
        total, sent = len(datagrams), 0
        start = clock()
        end = start + total / rate + 0.5
        while (now := clock()) < end and len(latencies) < total:
            due = min(int((now - start) * rate), total)
            while sent < due:
                octets = datagrams[sent]
                sent_at[octets[4:8]] = clock()  # by its serial
                send(octets)
                sent += 1
            try:
                while True:
                    started = sent_at.pop(receive(2048)[4:8], None)
                    if started is not None:  # otherwise a late answer to the load before
                        latencies.append(clock() - started)
            except BlockingIOError:
                pass
            wait = start + (sent + 1) / rate - clock() if sent < total else 0.001
            if wait > 0 and not self.alone:
                select.select([self._udp], [], [], wait)
        return latencies, clock() - start


def run_generator(listener: socket.socket, cs_port: int, pipe: Pipe, place: int) -> None:
    """The process of a generator; does what the pipe says."""
    stay_on(place)
    generator = Generator(listener, cs_port)
    pipe.send("ready")
    while (order := pipe.recv()) is not None:
        what, count, argument, generator.alone = order
        load = LOADS.get(what, Load(1))
        datagrams = generator.prepare(count, load)
        pipe.send("prepared")
        pipe.recv()
        if what == "pace":
            pipe.send(generator.pace(datagrams, argument))
        else:
            pipe.send(generator.flood(datagrams, load, argument))


class Pair:
    """A CS and its generator, on two processors where there are two."""

    def __init__(self, number: int) -> None:
        context = multiprocessing.get_context("spawn")
        listener = socket.create_server(("127.0.0.1", 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.cs, cs_end = context.Pipe()
        self.generator, generator_end = context.Pipe()
        arguments = (port, listener.getsockname()[1], cs_end, number)
        self._cs_process = context.Process(target=run_cs, args=arguments)
        self._generator_process = context.Process(
            target=run_generator, args=(listener, port, generator_end, number + 1)
        )
        self._generator_process.start()
        self._cs_process.start()
        listener.close()

    def cpu_s(self) -> float:
        """Return the processor time of the CS so far."""
        self.cs.send("cpu")
        return float(self.cs.recv())

    def stop(self) -> None:
        """End both processes."""
        self.generator.send(None)
        self.cs.send("stop")
        self._generator_process.join(10)
        self._cs_process.join(10)


def together(pairs: list[Pair], what: str, count: int, argument: float) -> tuple[list[Any], float]:
    """Let all generators do one thing at once; return their results and the CSs' processor time."""
    for pair in pairs:
        # a generator that has a processor to itself need not sleep, which would add to latencies
        alone = 2 * len(pairs) <= len(os.sched_getaffinity(0))
        pair.generator.send((what, count, argument, alone))
    for pair in pairs:
        assert pair.generator.recv() == "prepared"
    cpu = sum(pair.cpu_s() for pair in pairs)
    for pair in pairs:
        pair.generator.send("go")
    results = [pair.generator.recv() for pair in pairs]
    return results, sum(pair.cpu_s() for pair in pairs) - cpu


def measure(processes: int, seconds: float, rate: int) -> list[Result]:
    """Measure with so many CSs at once."""
    pairs = [Pair(number) for number in range(processes)]
    for pair in pairs:
        assert pair.generator.recv() == "ready"
    results = []
    try:
        together(pairs, "QUERY", 20_000, seconds)  # warm up
        for what in LOADS:
            done, cpu = together(pairs, what, int(seconds * 120_000), seconds)
            answered = sum(count for count, _ in done)
            per_s = sum(count / took for count, took in done)
            results.append(Result(processes, what, per_s, 0, 0, 0, cpu / answered * 1e6))
        count = int(seconds * rate)
        done, cpu = together(pairs, "pace", count, rate)
        latencies = sorted(latency for found, _ in done for latency in found)
        per_s = sum(len(found) / took for found, took in done)
        results.append(
            Result(
                processes,
                f"{rate} per second each",
                per_s,
                latencies[len(latencies) // 2] * 1e6,
                latencies[len(latencies) * 99 // 100] * 1e6,
                count * processes - len(latencies),
                cpu / len(latencies) * 1e6,
            )
        )
    finally:
        for pair in pairs:
            pair.stop()
    return results


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rate", type=int, default=20_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results: list[Result] = []
    print(f"decisions run from {as_deployed.READ_FROM}")
    columns = "{:>3}  {:24} {:>12} {:>9} {:>9} {:>6} {:>14}"
    print(
        columns.format("CSs", "load", "decisions/s", "p50 us", "p99 us", "lost", "CS us/decision")
    )
    for processes in options.processes:
        for result in measure(processes, options.seconds, options.rate):
            results.append(result)
            p50 = f"{result.p50_us:.0f}" if result.p50_us else ""
            p99 = f"{result.p99_us:.0f}" if result.p99_us else ""
            print(
                columns.format(
                    result.processes,
                    result.what,
                    f"{result.decisions_per_s:,.0f}",
                    p50,
                    p99,
                    result.lost,
                    f"{result.cs_cpu_us:.1f}",
                ),
                flush=True,
            )
    if options.json:
        machine = {
            "kernel": platform.release(),
            "python": platform.python_version(),
            "cores": os.cpu_count(),
        }
        rows = [asdict(result) for result in results]
        options.json.write_text(json.dumps({"machine": machine, "results": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
