# SPDX-License-Identifier: Apache-2.0
"""What a request is called where names of resources would be without end: metrics, traces."""

from __future__ import annotations

from starlette.types import Scope


def route_of(scope: Scope) -> str:
    """The pattern that it was routed by."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) and path else "none"
