# SPDX-License-Identifier: Apache-2.0
"""Make the compiler's output small enough to be kept: `p4_compact.py IN OUT`.

p4c writes an action once for each table that uses it and, pretty printed, where in the sources each
expression came from.  Equal actions become one, sources are left out, and each element of a list is
a line, so that a difference can be read.

It also puts its own temporaries among the metadata, which BMv2 clears for every packet, field by
field.  They are written before they are read, so they need not be: they move to a header that is
never valid and never sent.  BMv2 does the same with the result, faster."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


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


def move_temporaries(program: Any) -> None:
    """Out of the metadata, but for those that a table looks up or a checksum is made of: there an
    invalid header counts as absent."""
    keys = [key["target"] for p in program["pipelines"] for t in p["tables"] for key in t["key"]]
    keys += [part.get("value") for sum_ in program["calculations"] for part in sum_["input"]]
    scalars = next(t for t in program["header_types"] if t["name"].startswith("scalars"))
    moved = [
        field
        for field in scalars["fields"]
        if not field[0].startswith(("metadata_t.", "_padding"))
        and ["scalars", field[0]] not in keys
    ]
    names = {field[0] for field in moved}
    kept = [f for f in scalars["fields"] if f[0] not in names and not f[0].startswith("_padding")]
    types, headers = program["header_types"], program["headers"]
    types.append({"name": "locals_t", "id": len(types), "fields": padded(moved)})
    headers.append({"name": "locals", "id": len(headers), "header_type": "locals_t"})
    headers[-1] |= {"metadata": False, "pi_omit": True}
    scalars["fields"] = padded(kept)
    rename(program, names)


def padded(fields: list[Any]) -> list[Any]:
    """To whole octets."""
    missing = -sum(field[1] for field in fields) % 8
    return [*fields, ["_padding_0", missing, False]] if missing else fields


def rename(value: Any, names: set[str]) -> None:
    """Every ["scalars", name] becomes ["locals", name]."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        if len(value) == 2 and value[0] == "scalars" and value[1] in names:
            value[0] = "locals"
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
    share_actions(program)
    move_temporaries(program)
    target.write_text(written(program))


if __name__ == "__main__":
    main()
