# SPDX-License-Identifier: Apache-2.0
"""Skip a test whose machine cannot run it, with the reason; or fail, where that must not happen.

`make test` as root sets SPLITPLANE_REQUIRE=dataplane,network,models,page,postgresql: a green run
cannot be one of skips.
"""

from __future__ import annotations

import os

import pytest


def require(feature: str, missing: str | None) -> None:
    """Go on when *missing* is None; else skip because of it, or fail if *feature* is required."""
    if missing is None:
        return
    required = os.environ.get("SPLITPLANE_REQUIRE", "").replace(",", " ").split()
    if feature in required:
        pytest.fail(f"{feature} is required here (SPLITPLANE_REQUIRE): {missing}", pytrace=False)
    pytest.skip(f"{feature}: {missing}")
