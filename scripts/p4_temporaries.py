# SPDX-License-Identifier: Apache-2.0
"""Leave out temporaries that are read once, by the next primitive.

p4c gives a register's index and value names of their own; BMv2 takes expressions as well:

    assign tmp, a + b;  register_write r, i, tmp   =>   register_write r, i, a + b

Only one expression a primitive: BMv2 keeps the values of a primitive's expressions where another
one may move them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from p4_expressions import Simplifier, Widths

Node = dict[str, Any]
Field = tuple[str, str]  # header, field
TAKES = ("register_read", "register_write", "assign")


def fields_of(value: Any) -> Iterator[Field]:
    """Every mention of a field."""
    if isinstance(value, dict):
        if value.get("type") == "field":
            yield tuple(value["value"])
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from fields_of(item)


def take_out(primitives: list[Any], place: int) -> None:
    """One primitive, and let jumps still go where they went."""
    del primitives[place]
    for primitive in primitives:
        if primitive["op"].startswith("_jump"):
            to = primitive["parameters"][-1]
            if int(to["value"], 16) > place:
                to["value"] = hex(int(to["value"], 16) - 1)


def read_in_place(program: Node, widths: Widths) -> None:
    """Every action, in place."""
    mentions = Counter(fields_of(program))
    registers = {r["name"]: r["bitwidth"] for r in program["register_arrays"]}
    for action in program["actions"]:
        simplifier = Simplifier(widths, action["runtime_data"])
        primitives = action["primitives"]
        for place in reversed(range(len(primitives) - 1)):
            if can_be_read(primitives, place, mentions, simplifier, registers):
                name, value = primitives[place]["parameters"]
                user = primitives[place + 1]
                user["parameters"] = [value if p == name else p for p in user["parameters"]]
                take_out(primitives, place)


def can_be_read(
    primitives: list[Node],
    place: int,
    mentions: Counter[Field],
    simplifier: Simplifier,
    registers: dict[str, int],
) -> bool:
    """Whether the next primitive may ask for the value itself: it is the only one that does, and it
    always comes from here."""
    first, user = primitives[place : place + 2]
    if first["op"] != "assign" or user["op"] not in TAKES or is_target(primitives, place + 1):
        return False
    name, value = first["parameters"]
    if name["type"] != "field" or mentions[tuple(name["value"])] != 2:
        return False
    others = [part for part in user["parameters"][1:] if part != name]
    return (
        len(others) == len(user["parameters"]) - 2
        and not any(part["type"] == "expression" for part in others)
        and is_cut_as_before(name, value, user, simplifier, registers)
    )


def is_cut_as_before(
    name: Node, value: Node, user: Node, simplifier: Simplifier, registers: dict[str, int]
) -> bool:
    """Whether the temporary cut nothing off, or the register that it goes to does the same."""
    has, fits = simplifier.bits(value), simplifier.bits(name)
    if fits is None:
        return False
    if user["op"] == "register_write" and user["parameters"][2] == name:
        return registers[user["parameters"][0]["value"]] <= fits
    return has is not None and has <= fits


def is_target(primitives: list[Node], place: int) -> bool:
    return any(
        int(p["parameters"][-1]["value"], 16) == place
        for p in primitives
        if p["op"].startswith("_jump")
    )
