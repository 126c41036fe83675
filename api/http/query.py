# SPDX-License-Identifier: Apache-2.0
"""Query parameters that an endpoint does not know are refused: `?dryrun=true` is no dry run."""

from __future__ import annotations

import difflib
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from starlette.requests import HTTPConnection

from api.errors import Fault, Problem


def check_query(connection: HTTPConnection) -> None:
    """Problem 422 for names that the endpoint does not have, or has once and is given twice."""
    if not connection.scope.get("query_string"):
        return
    known = _known(connection.scope.get("route"))
    if known is None:
        return
    given = [name for name, _ in connection.query_params.multi_items()]
    faults = []
    for name in dict.fromkeys(given):
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(sorted(known))}"
            faults.append(Fault(f"?{name}", f"unknown parameter; {hint}"))
        elif given.count(name) > 1 and not known[name]:
            faults.append(Fault(f"?{name}", "given twice; keep one"))
    if faults:
        said = "; ".join(f"{fault.pointer}: {fault.detail}" for fault in faults[:3])
        raise Problem(422, f"the request is wrong: {said}", kind="invalid", errors=faults[:100])


def _known(route: Any) -> dict[str, bool] | None:
    """The parameters' names, and whether each may be given several times."""
    dependant = getattr(route, "dependant", None)
    if dependant is None:
        return None
    known: dict[str, bool] = {}
    left = [dependant]
    while left:
        of = left.pop()
        left.extend(of.dependencies)
        for field in of.query_params:
            known.update(_names(field.alias, field.field_info))
    return known


def _names(alias: str, info: FieldInfo) -> dict[str, bool]:
    """A model as a parameter stands for its fields."""
    of = info.annotation
    if isinstance(of, type) and issubclass(of, BaseModel):
        return {
            field.alias or name: "list" in str(field.annotation)
            for name, field in of.model_fields.items()
        }
    return {alias: "list" in str(of)}
