# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI document: complete, and every example in it works as it is written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from schemathesis.specs.openapi.schemas import OpenApiSchema

from api.access.models import SignInWith
from api.access.roles import Role
from api.access.secrets import digest
from api.app import create_app
from api.openapi import URL
from api.tables import SignIn, Token
from support.api.apps import NOW, POOL, SERVER, AppUnderTest, app_under_test
from support.api.segments import TwoSegments

METHODS = ("get", "put", "post", "patch", "delete")
OPEN = {"/healthz", "/readyz", "/api/v1/session"}  # nobody has to be known
STREAMS = {"/api/v1/watch"}  # has no end, and is tried in test_watch


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    with app_under_test(tmp_path_factory.mktemp("document")) as served:
        made: dict[str, Any] = served.client(None).get(URL).json()
    return made


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                yield method, path, item[method]


def test_every_operation_says_what_it_does_and_refuses(document: dict[str, Any]) -> None:
    names = set()
    for method, path, operation in operations(document):
        where = f"{method} {path}"
        assert operation["summary"], where
        assert operation["description"], where
        assert operation["operationId"] not in names
        names.add(operation["operationId"])
        if path not in OPEN:
            assert operation["security"], where
            assert {"401", "403", "429"} <= set(operation["responses"]), where
        for status, response in operation["responses"].items():
            assert response["description"], where
            if int(status) >= 400:
                assert list(response["content"]) == ["application/problem+json"], where
        for content in operation.get("requestBody", {}).get("content", {}).values():
            assert "example" in content or "example" in resolved(document, content["schema"]), where
        for parameter in operation.get("parameters", ()):
            assert not parameter["required"] or "example" in parameter, where


def test_every_reference_is_to_a_schema(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    for name in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert name in document["components"]["schemas"]


def resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    found: dict[str, Any] = document["components"]["schemas"].get(name, schema)
    return found


def test_every_example_works_as_it_is_written(document: dict[str, Any], tmp_path: Path) -> None:
    schema, tried = schemathesis.openapi.from_dict(document), 0
    examples = Examples(document, tmp_path)
    for method, path, operation in operations(document):
        if path in STREAMS:
            continue
        bodies = operation.get("requestBody", {}).get("content", {None: None})
        for kind, content in bodies.items():
            answer = examples.ask(method, path, operation, kind, content)
            check(schema, f"{method} {path} {kind}", operation, answer)
            tried += 1
    assert tried >= 45


class Examples:
    """Asks what examples ask, each of an application in which nothing else was asked."""

    def __init__(self, document: dict[str, Any], folder: Path) -> None:
        self._document = document
        self._folder = folder
        self._prepared: dict[str, tuple[bytes, str]] = {}

    def ask(
        self, method: str, path: str, operation: dict[str, Any], kind: str | None,
        content: dict[str, Any] | None,
    ) -> httpx.Response:  # fmt: skip
        """The request of an example, where there is what all examples are about."""
        query: dict[str, str] = {}
        for parameter in operation.get("parameters", ()):
            if parameter["required"] and parameter["in"] == "path":
                path = path.replace(f"{{{parameter['name']}}}", str(parameter["example"]))
            elif parameter["required"]:
                query[parameter["name"]] = str(parameter["example"])
        body, headers = None, {"X-Splitplane-Request": "1"}
        if content is not None and kind is not None:
            example = content.get("example")
            example = example or resolved(self._document, content["schema"])["example"]
            body = example if isinstance(example, str) else json.dumps(example)
            headers["Content-Type"] = kind
        database, token = self._database(operation["operationId"])
        with app_under_test(self._folder, TwoSegments(), begin_with=database) as served:
            client = served.client(None, Authorization=f"Bearer {token}")
            return client.request(method, path, params=query, content=body, headers=headers)

    def _database(self, operation: str) -> tuple[bytes, str]:
        variant = operation if operation in VARIANTS else ""
        if variant not in self._prepared:
            with app_under_test(self._folder) as served:
                prepare(served, variant)
                token = served.token(Role.ADMIN)
            self._prepared[variant] = (self._folder / "api.db").read_bytes(), token
        return self._prepared[variant]


VARIANTS = ("create_monitor", "create_pool", "create_virtual_server", "delete_pool")
"""What needs one of the resources not to be there."""


def prepare(served: AppUnderTest, variant: str) -> None:
    """The resources that the examples name."""
    admin = served.client(Role.ADMIN)
    for word, path, body in (
        ("create_monitor", "monitors", {"name": "web", "kind": "tcp"}),
        ("create_pool", "pools", POOL),
        ("create_virtual_server delete_pool create_pool", "virtual-servers", SERVER),
    ):
        if not variant or variant not in word.split():
            assert admin.post(f"/api/v1/{path}", json=body).status_code == 201
    admin.patch("/api/v1/settings", json={"drain_timeout_s": 10})
    example: Any = SignInWith.model_config["json_schema_extra"]
    secret = example["example"]["secret"]
    with served.state.database.writing() as session:
        session.add(
            Token(
                id="0123456789abcdef",
                name="ci",
                role="viewer",
                digest="",
                created_at=0,
                created_by="anna",
                expires_at=None,
                used_at=None,
            )
        )
        session.add(
            SignIn(
                digest=digest(secret),
                kind="link",
                who="anna",
                role="viewer",
                token_id=None,
                created_at=NOW,
                expires_at=NOW + 600,
            )
        )


def check(
    schema: OpenApiSchema, what: str, operation: dict[str, Any], answer: httpx.Response
) -> None:
    """It succeeds, as the document says."""
    assert answer.status_code < 300, f"{what}: {answer.text}"
    described = operation["responses"][str(answer.status_code)]
    assert bool(described.get("content")) == bool(answer.content), what
    schema.find_operation_by_id(operation["operationId"]).validate_response(answer)


def test_an_application_makes_its_document_once(served: AppUnderTest) -> None:
    app = create_app(served.state)
    assert app.openapi() is app.openapi()
