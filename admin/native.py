# SPDX-License-Identifier: Apache-2.0
"""Loading what `make native` has compiled: small shared libraries that segments can do without.

The structures of each stand in two places, in C and in Python; a number and their size are compared
before it is used.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

SWITCH: Final = "SPLITPLANE_NATIVE"  # in the environment; 0: Python alone


def is_wanted(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether native code may be used."""
    return environment.get(SWITCH) != "0"


def characters(state: ctypes.Structure, field: Any) -> Any:
    """Return a field of a structure as an array of c_char, whose slices are bytes."""
    return (ctypes.c_char * field.size).from_buffer(state, field.offset)


def library(path: Path, *, layout: int, size: int) -> ctypes.CDLL:
    """Return a library whose `layout()` is this one, and `sizes()` this sum of the octets of its
    structures; OSError: it cannot be loaded, or is of another release."""
    found = ctypes.CDLL(str(path))
    try:
        is_ours = (found.layout(), found.sizes()) == (layout, size)
    except AttributeError as error:
        raise OSError(f"{path}: {error}") from None
    if not is_ours:
        raise OSError(f"{path}: it is of another release")
    return found
