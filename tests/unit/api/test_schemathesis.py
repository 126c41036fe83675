# SPDX-License-Identifier: Apache-2.0
"""schemathesis asks what the OpenAPI document allows, and what it does not: it finds nothing."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.config import ChecksConfig, ProjectConfig, ProjectsConfig, SchemathesisConfig
from schemathesis.core.result import Ok
from schemathesis.python import asgi
from schemathesis.schemas import APIOperation, BaseSchema

from api.access.known import KnownCallers
from api.access.roles import Role
from api.openapi import URL
from support.api.apps import POOL, SERVER, AppUnderTest, app_under_test
from support.api.segments import TwoSegments
from support.soak import part

pytestmark = pytest.mark.soak
EXAMPLES = part(200, 40)  # of each operation
STREAMS = ("/api/v1/watch",)  # has no end
# what a JSON Schema cannot say is refused, too: an address that is none, a pool that is not there
ACCEPTED = ["2xx", "3xx", 401, 403, 404, 409, 412, 422, 429, 503]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppUnderTest]:
    """An application with resources and segments, where nobody is refused for failing often."""
    with app_under_test(tmp_path_factory.mktemp("app"), TwoSegments()) as under_test:
        times = itertools.count(0, 1000)
        assert isinstance(under_test.state.access, KnownCallers)
        under_test.state.access._monotonic = lambda: float(next(times))
        admin = under_test.client(Role.ADMIN)
        for path, body in (("pools", POOL), ("virtual-servers", SERVER)):
            assert admin.post(f"/api/v1/{path}", json=body).status_code == 201
        yield under_test
    asgi._shutdown()  # its event loop and thread, which are meant for the whole process


def schema_of(served: AppUnderTest) -> BaseSchema:
    document = served.client(None).get(URL).json()
    config = SchemathesisConfig(
        projects=ProjectsConfig(
            default=ProjectConfig(
                checks=ChecksConfig.from_dict(
                    {"positive_data_acceptance": {"expected-statuses": ACCEPTED}}
                )
            )
        )
    )
    schema = schemathesis.openapi.from_dict(document, config=config)
    schema.app = served.app
    return schema


def test_schemathesis_finds_nothing(served: AppUnderTest) -> None:
    headers = {
        "Authorization": f"Bearer {served.token(Role.ADMIN)}",
        "X-Splitplane-Request": "1",
    }
    tried = 0
    for found in schema_of(served).get_all_operations():
        assert isinstance(found, Ok)
        operation: APIOperation[Any, Any, Any, Any] = found.ok()
        if operation.path not in STREAMS:
            ask(operation, headers)
            tried += 1
    assert tried >= 50


def ask(operation: APIOperation[Any, Any, Any, Any], headers: dict[str, str]) -> None:
    """Many requests of one operation, the same in every run."""

    @seed(1)
    @settings(
        max_examples=EXAMPLES,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def each(case: Any) -> None:
        case.call_and_validate(headers=headers)

    each()
