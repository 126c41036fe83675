# SPDX-License-Identifier: Apache-2.0
"""The laboratory: clients, a DFS, CSs and servers in network namespaces of this one machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from splitplane.lab.lab import Lab

__all__ = ["Lab"]


def __getattr__(name: str) -> object:
    """`Lab`, loaded when it is used: the laboratory's servers need nothing of it."""
    if name != "Lab":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from splitplane.lab.lab import Lab

    return Lab
