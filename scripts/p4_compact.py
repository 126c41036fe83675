# SPDX-License-Identifier: Apache-2.0
"""Make the compiler's output small enough to be kept: `p4_compact.py IN OUT`.

p4c writes an action once for each table that uses it and, pretty printed, where in the sources each
expression came from.  Equal actions become one, sources are left out, and each element of a list is
a line, so that a difference can be read.

It also puts its own temporaries among the metadata, which BMv2 clears for every packet, field by
field.  They are written before they are read, so they need not be: they move to a header that is
never sent.  BMv2 does the same with the result, faster."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from p4_expressions import simplify
from p4_fold import fold
from p4_temporaries import Field, fields_of, read_in_place, take_out


def without_sources(value: Any) -> Any:
    """The same without `source_info`."""
    if isinstance(value, dict):
        return {k: without_sources(v) for k, v in value.items() if k != "source_info"}
    return [without_sources(item) for item in value] if isinstance(value, list) else value


def share_actions(program: Any) -> None:
    """Keep the first of equal actions, and let every table use that one."""
    kept: dict[str, int] = {}
    renamed: dict[int, int] = {}
    actions = []
    for action in program["actions"]:
        text = json.dumps({**action, "id": 0}, sort_keys=True)
        if text not in kept:
            kept[text] = action["id"]
            actions.append(action)
        renamed[action["id"]] = kept[text]
    program["actions"] = actions
    for table in (table for pipeline in program["pipelines"] for table in pipeline["tables"]):
        table["action_ids"] = [renamed[number] for number in table["action_ids"]]
        default = table.get("default_entry")
        if default is not None:
            default["action_id"] = renamed[default["action_id"]]
        for entry in table.get("entries", ()):
            entry["action_entry"]["action_id"] = renamed[entry["action_entry"]["action_id"]]


def sum_in_place(program: Any) -> None:
    """A checksum in an action is made of copies of its fields: take the fields themselves."""
    mentions, widths = Counter(fields_of(program)), field_widths(program)
    calculations = {c["name"]: c for c in program["calculations"]}
    for action in program["actions"]:
        primitives = action["primitives"]
        for primitive in list(primitives):
            if primitive["op"] == "modify_field_with_hash_based_offset":
                inputs = calculations[primitive["parameters"][2]["value"]]["input"]
                inputs[:] = [
                    source_of(part, primitives, primitive, mentions, widths) for part in inputs
                ]


def source_of(
    part: Any, primitives: list[Any], user: Any, mentions: Counter[Field], widths: dict[Field, int]
) -> Any:
    """What a temporary is a copy of, which is then not made."""
    name = part["value"]
    if part["type"] != "field" or mentions[tuple(name)] != 2:
        return part
    last = next(place for place, primitive in enumerate(primitives) if primitive is user)
    for place, primitive in enumerate(primitives[:last]):
        if primitive["op"] != "assign" or primitive["parameters"][0].get("value") != name:
            continue
        source = primitive["parameters"][1]
        between = [p["parameters"][0].get("value") for p in primitives[place:last]]
        if source["type"] == "field" and source["value"] not in between:
            take_out(primitives, place)
            return source
        if source["type"] == "hexstr":
            take_out(primitives, place)
            return {**source, "bitwidth": widths[tuple(name)]}
    return part


def field_widths(program: Any) -> dict[Field, int]:
    types = {kind["name"]: kind["fields"] for kind in program["header_types"]}
    return {
        (header["name"], field[0]): field[1]
        for header in program["headers"]
        for field in types[header["header_type"]]
    }


# metadata that the program always writes before it reads them (p4/include/metadata.p4)
UNCLEARED = tuple(
    f"metadata_t._{name}"
    for name in (
        *("counter", "arrival_", "ip_", "flow_", "way_", "whose_", "up_"),
        *("key_", "towards", "address_delta", "port_delta", "is_local"),
        *("asked", "inbound", "returning"),
    )
)
# what BMv2 itself asks for, of every packet or of a copy
NEEDED = {
    "ingress_port",
    "egress_spec",
    "egress_port",
    "instance_type",
    "packet_length",
    "egress_rid",
}


def move_temporaries(program: Any) -> None:
    """Out of the metadata, to a header that the parser makes valid first: in a table's key and in a
    checksum an invalid one counts as absent."""
    scalars = next(t for t in program["header_types"] if t["name"].startswith("scalars"))
    moved = [
        field
        for field in scalars["fields"]
        if not field[0].startswith(("metadata_t.", "_padding")) or field[0].startswith(UNCLEARED)
    ]
    names = {field[0] for field in moved}
    kept = [f for f in scalars["fields"] if f[0] not in names and not f[0].startswith("_padding")]
    types, headers = program["header_types"], program["headers"]
    types.append({"name": "locals_t", "id": len(types), "fields": padded(moved)})
    headers.append({"name": "locals", "id": len(headers), "header_type": "locals_t"})
    headers[-1] |= {"metadata": False, "pi_omit": True}
    scalars["fields"] = padded(kept, [f[0] for f in kept if is_flag(program, ["scalars", f[0]])])
    rename(program, {("scalars", name): name for name in names})
    move_structs(program, padded(moved))
    make_valid = {"op": "add_header_fast", "parameters": [{"type": "header", "value": "locals"}]}
    for parser in program["parsers"] if types[-1]["fields"] else ():
        first = next(s for s in parser["parse_states"] if s["name"] == parser["init_state"])
        first["parser_ops"].insert(0, {"op": "primitive", "parameters": [make_valid]})


def move_structs(program: Any, fields: list[Any]) -> None:
    """The program's own structs too, field by field."""
    types = {kind["name"]: kind["fields"] for kind in program["header_types"]}
    kept, names = [], {}
    for header in program["headers"]:
        name = header["name"]
        if not header["metadata"] or name in ("scalars", "standard_metadata"):
            kept.append(header)
            continue
        for field in types[header["header_type"]]:
            names[name, field[0]] = f"{name}_{field[0]}"
            fields.append([names[name, field[0]], *field[1:]])
    next(t for t in program["header_types"] if t["name"] == "locals_t")["fields"] = fields
    number_headers(program, kept)
    rename(program, names)


def number_headers(program: Any, kept: list[Any]) -> None:
    numbers = {header["id"]: number for number, header in enumerate(kept)}
    for header in kept:
        header["id"] = numbers[header["id"]]
    for stack in program["header_stacks"]:
        stack["header_ids"] = [numbers[number] for number in stack["header_ids"]]
    program["headers"] = kept


def leave_out_unread(program: Any) -> None:
    """What v1model tells that nobody asks for."""
    text = json.dumps({k: v for k, v in program.items() if k != "field_aliases"})
    standard = next(t for t in program["header_types"] if t["name"] == "standard_metadata")
    kept = [
        f
        for f in standard["fields"]
        if f[0] in NEEDED or f'["standard_metadata", "{f[0]}"]' in text
    ]
    kept = [f for f in kept if not f[0].startswith("_padding")]
    flags = [name for name in ("checksum_error",) if is_flag(program, ["standard_metadata", name])]
    standard["fields"] = padded(kept, flags)
    names = {field[0] for field in kept}
    program["field_aliases"] = [a for a in program["field_aliases"] if a[1][1] in names]


def leave_out_unmentioned(program: Any) -> None:
    """Temporaries that are no more: BMv2 makes all fields for each packet that waits at once."""
    text = json.dumps({k: v for k, v in program.items() if k != "header_types"})
    kind = next(t for t in program["header_types"] if t["name"] == "locals_t")
    kept = [f for f in kind["fields"] if f'["locals", "{f[0]}"]' in text]
    kind["fields"] = padded(kept)


def padded(fields: list[Any], flags: Sequence[str] = ()) -> list[Any]:
    """To whole octets; a flag may as well have more bits, which spares a field."""
    missing = -sum(field[1] for field in fields) % 8
    for place, (name, bits, signed) in enumerate(fields):
        if missing and name in flags:
            return [*fields[:place], [name, bits + missing, signed], *fields[place + 1 :]]
    return [*fields, ["_padding_0", missing, False]] if missing else fields


def is_flag(program: Any, name: list[str]) -> bool:
    """Whether nothing but 0 and 1 is written to it, and only jumps and expressions read it: not a
    key, a checksum or a copy, which take all of a field's bits."""
    states = [state for parser in program["parsers"] for state in parser["parse_states"]]
    primitives = [p for action in program["actions"] for p in action["primitives"]]
    primitives += [operation for state in states for operation in state["parser_ops"]]
    field = {"type": "field", "value": name}
    users = [p for p in primitives if field in p["parameters"]]
    values = [p["parameters"][1] for p in users if p["parameters"][0] == field and p["op"] in SETS]
    whole = [program["calculations"], program["field_lists"], program["checksums"]]
    whole += [state["transition_key"] for state in states]
    keys = [key["target"] for p in program["pipelines"] for t in p["tables"] for key in t["key"]]
    return (
        name not in keys
        and (name[0], name[1]) not in set(fields_of(whole))
        and all(p["op"] in (*SETS, "_jump_if_zero") for p in users)
        and all(value.get("value") in ("0x00", "0x01") for value in values)
    )


SETS = ("assign", "set")


def rename(value: Any, names: dict[Field, str]) -> None:
    """Every [header, name] becomes ["locals", new name]."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        if (
            len(value) == 2
            and all(isinstance(part, str) for part in value)
            and tuple(value) in names
        ):
            value[:] = ["locals", names[tuple(value)]]
        for item in value:
            rename(item, names)


def written(program: Any) -> str:
    """JSON with a line for each element of the top level's lists."""

    def short(value: Any) -> str:
        return json.dumps(value, separators=(",", ":"))

    parts = []
    for name, value in program.items():
        if isinstance(value, list) and value:
            lines = ",\n".join(map(short, value))
            parts.append(f"{short(name)}:[\n{lines}\n]")
        else:
            parts.append(f"{short(name)}:{short(value)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main() -> None:
    source, target = map(Path, sys.argv[1:])
    program = without_sources(json.loads(source.read_text()))
    simplify(program, field_widths(program))
    sum_in_place(program)
    share_actions(program)
    read_in_place(program, field_widths(program))
    move_temporaries(program)
    leave_out_unread(program)
    fold(program)
    leave_out_unmentioned(program)
    target.write_text(written(program))


if __name__ == "__main__":
    main()
