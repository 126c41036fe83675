# SPDX-License-Identifier: Apache-2.0
"""The names of what an object keeps, whether Python or a compiled module made its class."""

from __future__ import annotations

from collections.abc import Iterator


def attribute_names(value: object) -> Iterator[str]:
    """Yield the slots of all its classes, and what its dictionary has."""
    for cls in type(value).__mro__:
        if "__mypyc_attrs__" in cls.__dict__:  # of a compiled class, its bases' among them
            yield from cls.__dict__["__mypyc_attrs__"]
            break
        slots = cls.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__"):
                yield name
    yield from getattr(value, "__dict__", ())
