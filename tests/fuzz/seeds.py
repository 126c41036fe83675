# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E402 - a program finds the repository before it imports from it
"""Write the seeds in tests/fuzz/corpus: conformance vectors, batches, whole CSMB conversations, and
what clients begin with.

    python tests/fuzz/seeds.py

They are files, not made on the fly, so that an input that once failed can be kept among them.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

TESTS = Path(__file__).parents[1]
if __name__ == "__main__":  # pytest has its own path
    sys.path[:0] = [str(TESTS), str(TESTS.parent)]

from csmb import codec as csmb_codec
from csmb import messages as csmb_messages
from csmb.connection import Connection
from csmb.constants import Role
from csmb.settings import ConnectionSettings
from ssmb import codec as ssmb_codec
from ssmb import messages as ssmb_messages
from ssmb.addresses import from_text
from ssmb.constants import Flag
from support.octets import hellos
from support.octets.vectors import load
from support.octets.wire_checks import CS_LISTENS, WITH_KEY

CORPUS = Path(__file__).parent / "corpus"
NO_LIMIT = b"\x3f\xff\x1f"  # but the highest; see support.octets.extraction_checks
VECTORS_EACH = 2  # of a type and version; more teach a fuzzer nothing


def seeds(target: str) -> dict[str, bytes]:
    """Return every seed of a fuzz target by its file's name."""
    if target in ("http", "tls"):
        return {
            name: NO_LIMIT + octets
            for name, octets in (_requests() if target == "http" else _hellos()).items()
        }
    bus = target
    made = _vectors(bus)
    made |= _datagrams() if bus == "ssmb" else _conversations()
    return made


def _choice(version: int, listener: int = 0) -> bytes:
    """The octets in front: see support.octets.wire_checks."""
    return bytes([version - 1 | listener, 0xFF, 5, 1])


def _vectors(bus: str) -> dict[str, bytes]:
    made: dict[str, bytes] = {}
    counts: Counter[str] = Counter()
    for vector in load(bus.upper()):
        name = f"{vector.type.lower()}-v{vector.version}"
        counts[name] += 1
        if counts[name] <= VECTORS_EACH:
            made[f"{name}-{counts[name]}"] = _choice(vector.version) + vector.octets
    return made


def _datagrams() -> dict[str, bytes]:
    """What no single vector is: batches, parked frames, an experimental type."""
    made = {}
    for version in (1, 2):
        batch = ssmb_codec.encode_batch(
            [
                ssmb_messages.Stats(serial=1),
                ssmb_messages.Delete(serial=2),
                ssmb_messages.Reap(serial=3),
                ssmb_messages.FlowState(serial=4),
            ],
            version,
        )[0]
        parked = ssmb_messages.Query(flags=Flag.PARKED, serial=5, frame=bytes(range(60)))
        made[f"batch-v{version}"] = _choice(version) + batch
        made[f"parked-v{version}"] = _choice(version) + ssmb_codec.encode(parked, version)
        asked = ssmb_messages.AppQuery(flags=Flag.PARKED, serial=6, frame=bytes(range(90)))
        made[f"parked-app-query-v{version}"] = _choice(version) + ssmb_codec.encode(asked, version)
        made[f"experimental-v{version}"] = _choice(version) + batch + b"\x80\0\0\0"
    return made


def _requests() -> dict[str, bytes]:
    """A request for each kind of target, and what is refused in a way of its own."""
    lines = {
        "path": b"GET /a/%2e/b;jsessionid=1?x=1&y=%20 HTTP/1.1",
        "absolute": b"GET http://a.example:80/x HTTP/1.1",
        "connect": b"CONNECT a.example:443 HTTP/1.1",
        "asterisk": b"OPTIONS * HTTP/1.0",
    }
    headers = b"\r\nHost: a.example\r\nCookie: SID=node7; b=\r\nX-A: 1\r\nx-a:2 \r\n"
    made = {name: line + headers + b"\r\n" for name, line in lines.items()}
    made["empty-line"] = b"\r\n" + made["path"]
    made["body"] = lines["path"] + headers + b"Content-Length: 2\r\n\r\nab"
    made["chunked"] = lines["path"] + headers + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    made["upgrade"] = lines["path"] + headers + b"Connection: upgrade\r\nUpgrade: h2c\r\n\r\n"
    made["folded"] = lines["path"] + headers + b" b\r\n\r\n"
    made["http2"] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    return made


def _hellos() -> dict[str, bytes]:
    """What real clients and a server say, older forms, and a message over records."""
    made = {}
    for name, sample in hellos.samples().items():
        file = name.replace(",", "").replace(" ", "-").lower()
        made[f"client-{file}"] = sample.client
        made[f"server-{file}"] = sample.server[:200]
    made["client-ssl2"] = hellos.ssl2_hello(bytes(16))
    made["client-ssl3"] = hellos.client_hello(session_id=bytes(32), version=0x0300)
    made["client-records"] = hellos.records(made["client-openssl-tls-1.2"][5:], 1, 3, 1, 50)
    made["server-alert"] = b"\x15\x03\x03\0\2\2\x28"
    return made


def _conversations() -> dict[str, bytes]:
    """What each side of a connection hears until some virtual servers are configured."""
    made = {}
    for version in (1, 2):
        entries = [csmb_messages.VsEntry(virt_port=80), csmb_messages.VsEntry(app_data=b"SID")]
        parts = csmb_codec.split_list(entries, version)
        octets = csmb_codec.encode(parts[0], version, 1, 1)
        made[f"vs_list-v{version}"] = _choice(version) + octets
        for with_key in (False, True):
            heard = _conversation(version, with_key=with_key)
            for role, octets in heard.items():
                listener = (CS_LISTENS if role is Role.CS else 0) | (WITH_KEY if with_key else 0)
                key = "key" if with_key else "laboratory"
                name = f"stream-to-{role.value}-v{version}-{key}"
                made[name] = _choice(version, listener) + octets
    return made


def _conversation(version: int, *, with_key: bool) -> dict[Role, bytes]:
    sides = {
        role: Connection(
            role,
            ConnectionSettings(
                segment_id=segment_id,
                key=bytes(range(16)) if with_key else b"",
                laboratory=not with_key,
                csmb_versions=((version, 0),),
                ssmb_ipaddr=from_text("10.255.0.1"),
                ssmb_port=61019,
            ),
            random_octets=bytes,
            now=0.0,
        )
        for role, segment_id in ((Role.CS, 1), (Role.DFS, 256))
    }
    heard = {Role.CS: b"", Role.DFS: b""}

    def exchange() -> None:
        for _ in range(6):
            for sender, receiver in ((Role.CS, Role.DFS), (Role.DFS, Role.CS)):
                octets = sides[sender].data_to_send()
                heard[receiver] += octets
                if octets:
                    sides[receiver].receive_data(octets, 0.0)

    exchange()
    assert all(side.is_ready for side in sides.values())
    for message in (
        csmb_messages.Config(),
        csmb_messages.VsList(0, 1, (csmb_messages.VsEntry(virt_port=80),)),
        csmb_messages.AddVs(virt_port=443),
        csmb_messages.DelVs(virt_port=443),
        csmb_messages.Nodes(0, (csmb_messages.NodePlace(bytes(15) + b"\1", 80, 6),)),
    ):
        sides[Role.CS].send(message, 0.0)
    sides[Role.DFS].send(csmb_messages.GetVsList(), 0.0)
    exchange()
    return heard


if __name__ == "__main__":
    for target in ("ssmb", "csmb", "http", "tls"):
        folder = CORPUS / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, octets in seeds(target).items():
            (folder / name).write_bytes(octets)
        print(f"{folder}: {len(list(folder.iterdir()))} files")
