# SPDX-License-Identifier: Apache-2.0
"""Make the compiler's output small enough to be kept: `p4_compact.py IN OUT`.

p4c writes an action once for each table that uses it and, pretty printed, where in the sources each
expression came from.  Equal actions become one, sources are left out, and each element of a list is
a line, so that a difference can be read.  BMv2 does the same with it."""

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
    target.write_text(written(program))


if __name__ == "__main__":
    main()
