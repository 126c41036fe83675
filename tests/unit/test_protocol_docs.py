# SPDX-License-Identifier: Apache-2.0
"""docs/protocols says what the code does: every table and every number of it."""

from __future__ import annotations

import hashlib
import hmac
import re
from enum import Enum
from types import ModuleType
from typing import Any

import pytest

import csmb.codec
import csmb.constants
import ssmb.codec
import ssmb.constants
from ssmb import messages as ssmb_messages
from ssmb.keys import derive, directional
from ssmb.seal import Opener
from support.octets import protocol_tables
from support.octets.protocol_tables import DOCUMENTS, TABLES, csmb_size, fields_of

BUSES: list[tuple[str, ModuleType]] = [("ssmb", ssmb.constants), ("csmb", csmb.constants)]
CHAPTER = {"ssmb": 6, "csmb": 7}
EACH_BUS = pytest.mark.parametrize(("bus", "constants"), BUSES, ids=["ssmb", "csmb"])


def text_of(document: str) -> str:
    return (DOCUMENTS / f"{document}.md").read_text()


def rows(document: str, heading: str) -> list[list[str]]:
    """The rows of the first table below a heading, without its own head."""
    below = text_of(document).split(f"{heading}\n", 1)[1]
    table = re.search(r"(?:^\|.*\n)+", below, re.MULTILINE)
    assert table is not None
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table[0].splitlines()[2:]]


@pytest.mark.parametrize("document", TABLES)
def test_the_tables_are_those_of_the_code(document: str) -> None:
    text = (DOCUMENTS / document).read_text()
    renew = "run tests/support/octets/protocol_tables.py"
    assert protocol_tables.renewed(document, text) == text, renew


@EACH_BUS
def test_every_message_type_stands_there_with_its_sizes(bus: str, constants: ModuleType) -> None:
    kinds = ssmb.codec.TYPE_OF if bus == "ssmb" else csmb.codec.TYPE_OF
    sizes: dict[tuple[str, str], tuple[str, str]] = {}
    for cls, kind in kinds.items():
        both = (
            [ssmb.codec.size_of(ssmb.constants.MessageType(kind), version) for version in (1, 2)]
            if bus == "ssmb"
            else [csmb_size(cls, version) for version in (1, 2)]
        )
        sizes[str(int(kind)), kind.name] = str(both[0]), str(both[1])
    found = {
        (row[0], row[1]): (row[-3], row[-2])
        for row in rows(bus, f"## {CHAPTER[bus]}.1 Message types")
    }
    assert found == sizes
    assert len(found) == len(constants.MessageType)


@EACH_BUS
def test_every_flag_stands_there_with_its_mask(bus: str, constants: ModuleType) -> None:
    digits = 4 if bus == "ssmb" else 8
    expected = [[f"0x{flag.value:0{digits}x}", flag.name] for flag in constants.Flag]
    assert [row[:2] for row in rows(bus, f"## {CHAPTER[bus]}.5 Flags")] == expected


@EACH_BUS
def test_every_error_code_stands_there(bus: str, constants: ModuleType) -> None:
    expected = [[str(int(code)), code.name] for code in constants.ErrorCode]
    assert [row[:2] for row in rows(bus, f"## {CHAPTER[bus]}.6 Error codes")] == expected


def test_every_detail_stands_there() -> None:
    c = ssmb.constants
    found = rows("ssmb", "### What `detail` and `forward_mode` say")
    enums: list[type[Enum]] = [
        c.AppType,
        c.Asking,
        c.Carrier,
        c.CloseReason,
        c.ResetReason,
        c.ForwardMode,
    ]
    for column, enum in enumerate(enums, 1):
        stands = {int(row[0]): row[column] for row in found if row[column]}
        assert stands == {member.value: member.name for member in enum}


def test_every_kind_and_content_of_grants_stands_there() -> None:
    c = ssmb.constants
    table = text_of("grants").split("| number | `kind` |", 1)[1].split("\n\n", 1)[0]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    kinds = {int(row[0]): row[1] for row in cells if row[1]}
    contents = {int(row[0]): row[3] for row in cells if row[3]}
    assert kinds == {member.value: member.name for member in c.GrantKind}
    assert contents == {member.value: member.name for member in c.GrantContent}


@EACH_BUS
def test_every_time_and_size_is_the_codes(bus: str, constants: ModuleType) -> None:
    found = rows("conventions", f"## Times and sizes of {bus.upper()}")
    assert len(found) > 10
    for name, value, _ in found:
        assert value == _plain(getattr(constants, name)), name


@EACH_BUS
def test_no_time_is_left_out(bus: str, constants: ModuleType) -> None:
    told = {row[0] for row in rows("conventions", f"## Times and sizes of {bus.upper()}")}
    times = {name for name in vars(constants) if name.endswith(("_S", "_MS", "_TRIES"))}
    assert times <= told


def _plain(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return str(int(value)) if value == int(value) else str(value)


@EACH_BUS
def test_every_field_that_is_explained_exists(bus: str, constants: ModuleType) -> None:
    kinds: Any = ssmb.codec.TYPE_OF if bus == "ssmb" else csmb.codec.TYPE_OF
    known = {field.name for cls in kinds for field in fields_of(bus, cls, 2)}
    below = text_of(bus).split("| field | meaning |\n", 1)[1].split("\n\n", 1)[0]
    for line in below.splitlines()[1:]:
        names = re.split(r", | … ", line.split("|")[1].strip())
        assert set(names) <= known, line


@EACH_BUS
def test_fields_leave_no_hole_and_do_not_overlap(bus: str, constants: ModuleType) -> None:
    kinds: Any = ssmb.codec.TYPE_OF if bus == "ssmb" else csmb.codec.TYPE_OF
    for cls in kinds:
        for version in (1, 2):
            offset = 0
            for field in fields_of(bus, cls, version):
                assert field.offset == offset, (cls, field)
                # naturally aligned, up to four octets
                assert field.name == "reserved" or offset % min(field.size or 4, 4) == 0
                offset += field.size or 0


def test_the_sealed_example_opens() -> None:
    text = text_of("authentication")
    hexadecimal = text.split("```hex\n", 1)[1].split("```", 1)[0]
    key = re.search(r"^`([0-9a-f]{32})`", text, re.MULTILINE)
    assert key is not None
    opened = Opener(bytes.fromhex(key[1])).open(bytes.fromhex(hexadecimal))
    query = ssmb.codec.decode(opened, 1)
    assert isinstance(query, ssmb_messages.Query)
    assert query.serial == 0x101


def examples() -> list[tuple[str, str, bytes]]:
    """Every worked example: bus, title, octets."""
    found = []
    for chapter in text_of("examples").split("\n## ")[1:]:
        bus = chapter.split("\n", 1)[0].lower()
        for title, octets in re.findall(r"^(.+):\n\n```hex\n([^`]+)```", chapter, re.MULTILINE):
            found.append((bus, title, bytes.fromhex(octets)))
    return found


EXAMPLES = examples()


@pytest.mark.parametrize(("bus", "title", "octets"), EXAMPLES, ids=[each[1] for each in EXAMPLES])
def test_a_worked_example_is_what_the_codec_reads_and_writes(
    bus: str, title: str, octets: bytes
) -> None:
    assert title.endswith(f", {len(octets)} octets")
    version = 2 if title.startswith("v2") else 1
    if "with its seal" in title:
        octets = octets[: -ssmb.constants.SEAL_SIZE]
    if bus == "csmb":
        message, *serials = csmb.codec.decode(octets, version)
        assert csmb.codec.encode(message, version, *serials) == octets
        assert type(message).__name__.upper() in title.replace("_", "").upper()
    else:
        decoded = ssmb.codec.decode_datagram(octets, version)
        assert decoded.malformed is None
        assert b"".join(ssmb.codec.encode(each, version) for each in decoded.messages) == octets
        for each in decoded.messages:
            assert ssmb.codec.TYPE_OF[type(each)].name in title


def test_the_keys_of_the_worked_examples_follow_from_the_key() -> None:
    stands = dict(
        re.findall(r"^\| (\S+).* \| `([0-9a-f]+)` \|$", text_of("examples"), re.MULTILINE)
    )
    challenge, nonce = bytes(range(32)), bytes(range(0x80, 0xA0))
    key = b"0123456789abcdef" * 2
    assert stands["K"] == key.hex()
    secret = derive(key, "SSMB-KEY-1", (7).to_bytes(4, "big"), challenge, nonce)
    assert stands["Ks"] == secret.hex()
    directions = re.findall(r'"(...)"\), whole \| `([0-9a-f]+)`', text_of("examples"))
    assert [name for name, _ in directions] == ["D2C", "C2D"]
    for made, (_, written) in zip(directional(secret), directions, strict=True):
        assert written.startswith(made.hex())


def test_the_proofs_of_the_worked_example_with_transcripts_follow_from_its_hellos() -> None:
    """Computed here from the text of 12.6 alone."""
    octets = {title: octets for bus, title, octets in EXAMPLES if bus == "csmb"}
    exchange = [octets for title, octets in octets.items() if title.startswith("v2 ")]
    cs, dfs, response, result = exchange
    t_cs, t_dfs = (hashlib.sha256(bytes(32) + hello).digest() for hello in (cs, dfs))
    stands = dict(
        re.findall(r"^\| (\S+).* \| `([0-9a-f]+)` \|$", text_of("examples"), re.MULTILINE)
    )
    assert (stands["T_cs"], stands["T_dfs"]) == (t_cs.hex(), t_dfs.hex())
    key, challenge, nonce = b"0123456789abcdef" * 2, bytes(range(32)), bytes(range(0x80, 0xA0))
    of_dfs = b"CSMB-AUTH-2\0" + b"\0\0\0\7" + challenge + nonce + b"\1\0" + b"\0\1" + t_cs + t_dfs
    of_cs = b"CSMB-AUTHRES-2\0" + b"\0\0\0\7" + nonce + challenge + b"\0\1" + b"\1\0" + t_cs + t_dfs
    assert response[20:52] == hmac.digest(key, of_dfs, "sha256")
    assert result[20:52] == hmac.digest(key, of_cs, "sha256")


def test_every_kind_of_worked_example_is_there() -> None:
    assert [sum(each[0] == bus for each in EXAMPLES) for bus in ("ssmb", "csmb")] == [31, 13]
