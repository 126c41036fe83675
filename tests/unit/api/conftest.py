# SPDX-License-Identifier: Apache-2.0
"""The application, for every test of the API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from api.access.roles import Role
from support.api.apps import AppUnderTest, app_under_test


@pytest.fixture
def served(tmp_path: Path) -> Iterator[AppUnderTest]:
    """An application with an empty database."""
    with app_under_test(tmp_path) as under_test:
        yield under_test


@pytest.fixture
def operator(served: AppUnderTest) -> httpx.Client:
    """A client that may change resources."""
    return served.client(Role.OPERATOR)


@pytest.fixture
def admin(served: AppUnderTest) -> httpx.Client:
    """A client that may do everything."""
    return served.client(Role.ADMIN)
