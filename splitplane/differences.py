# SPDX-License-Identifier: Apache-2.0
"""What changed between two states of resources, as lines that people read.  Pure.

+ pool api
    nodes[api-1]: {address: 192.0.2.21, port: 8080}
~ pool web
    method: round_robin -> maglev
    nodes[web-2].weight: (not given) -> 3
- virtual server old
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

_NOTHING: Final = "(not given)"
_MISSING: Final = object()


def lines_of(changes: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """*changes*: as the API shows them: kind, name, group_id, before, after."""
    for change in changes:
        before, after = change["before"], change["after"]
        sign = "+" if before is None else "-" if after is None else "~"
        yield f"{sign} {_title(change)}"
        if after is None:
            continue
        if before is not None and before == after:
            yield "    has another place in its list"
        for line in _fields("", before or {}, after, is_new=before is None):
            yield f"    {line}"


def _title(change: Mapping[str, Any]) -> str:
    if change["kind"] == "settings":
        return f"settings of group {change['group_id']}"
    group = "" if change["group_id"] == 1 else f" (group {change['group_id']})"
    return f"{change['kind'].replace('_', ' ')} {change['name']}{group}"


def _fields(
    at: str, before: Mapping[str, Any], after: Mapping[str, Any], *, is_new: bool
) -> Iterator[str]:
    for name in dict.fromkeys((*before, *after)):
        if not at and name == "name":
            continue
        yield from _values(
            f"{at}{name}", before.get(name, _MISSING), after.get(name, _MISSING), is_new=is_new
        )


def _values(at: str, before: Any, after: Any, *, is_new: bool) -> Iterator[str]:
    if before == after:
        return
    named_before, named_after = _by_name(before), _by_name(after)
    if named_before is not None and named_after is not None:
        yield from _members(at, named_before, named_after, is_new=is_new)
    elif isinstance(before, Mapping) and isinstance(after, Mapping):
        yield from _fields(f"{at}.", before, after, is_new=is_new)
    elif is_new and before is _MISSING:
        yield f"{at}: {_flow(after)}"
    else:
        yield f"{at}: {_flow(before)} -> {_flow(after)}"


def _members(
    at: str, before: Mapping[str, Any], after: Mapping[str, Any], *, is_new: bool
) -> Iterator[str]:
    """Of a list whose members have names; one that only moved is not mentioned alone."""
    said = False
    for name in dict.fromkeys((*before, *after)):
        old: Any = before.get(name)
        new: Any = after.get(name)
        if old == new:
            continue
        said = True
        if old is None:
            yield (
                f"{at}[{name}]: {_flow(_unnamed(new))}"
                if is_new
                else (f"{at}[{name}]: added: {_flow(_unnamed(new))}")
            )
        elif new is None:
            yield f"{at}[{name}]: removed"
        else:
            yield from _fields(f"{at}[{name}].", old, new, is_new=False)
    if not said:
        yield f"{at}: in another order: {', '.join(after)}" if after else f"{at}: []"


def _by_name(value: Any) -> dict[str, Any] | None:
    """The members of a list by their names; None: it is no list of such."""
    if value is _MISSING:
        return {}
    if not isinstance(value, list) or not value:
        return {} if value == [] else None
    if not all(isinstance(each, Mapping) and "name" in each for each in value):
        return None
    return {each["name"]: each for each in value}


def _unnamed(member: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in member.items() if name != "name"}


def _flow(value: Any) -> str:
    """On one line, as YAML has it."""
    if value is _MISSING:
        return _NOTHING
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_flow(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return str(value)
