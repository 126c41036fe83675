# SPDX-License-Identifier: Apache-2.0
"""JSON merge patch (RFC 7396; pure)."""

from __future__ import annotations

from typing import Any


def merged(target: Any, patch: Any) -> Any:
    """*target* with *patch*: a field of null is removed, an object is merged, all else replaces."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result
