"""schemas/ is what the code says, it is valid, and what is served is what it tells of."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from starlette.routing import Route

from gateway.config import load_config
from gateway.core.errors import GatewayError, MethodNotAllowed
from gateway.protocols import licensespring_problem, problem
from gateway.protocols.licensespring_problem import FloatingRefused
from gateway.protocols.openapi import operations
from gateway.protocols.openapi_licensespring import TAG as FLOATING
from gateway.protocols.openapi_parts import BASE, NDJSON, SHORT, Security, refusal_of
from gateway.schemas import DIALECT, OPENAPI, files
from gateway.service.server import distribution_version
from gateway.web import cmapi
from gateway.web.lifecycle import Lifecycle
from gateway.web.ui.visits import BASE as PAGES
from gateway.wiring import open_gateway
from tests.contract import DOCUMENT, judge, judge_file

COMMITTED = Path(__file__).parent.parent / "schemas"
MADE = files(distribution_version())
SCHEMAS = sorted(name for name in MADE if name != OPENAPI)


# The files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(MADE))
def test_a_committed_file_is_what_the_code_says(name: str) -> None:
    committed = (COMMITTED / name).read_bytes() if (COMMITTED / name).exists() else b""

    assert committed == MADE[name], f"{name} differs: run `cmapi-gateway schema`"


def test_no_file_is_left_over() -> None:
    assert {path.name for path in COMMITTED.iterdir()} == set(MADE)


def test_the_document_is_openapi_3_1() -> None:
    validate(DOCUMENT)

    assert DOCUMENT["openapi"].startswith("3.1.")
    assert yaml.load(MADE[OPENAPI], yaml.CSafeLoader) == DOCUMENT


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_one_and_its_examples_fit_it(name: str) -> None:
    schema = json.loads(MADE[name])

    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == DIALECT
    assert schema["$id"] == f"urn:cmapi-gateway:schema:{name.removesuffix('.schema.json')}"
    for example in schema.get("examples", []):
        judge_file(schema).validate(example)


def test_every_body_in_json_has_a_file() -> None:
    """Whoever has a body finds its schema; what only part of the document is has none."""
    titles = {json.loads(MADE[name]).get("title") for name in SCHEMAS}
    parts = {"Alive", "BatchServed", "BatchRefused"}
    bodies = {
        found.rpartition("/")[2]
        for path in DOCUMENT["paths"].values()
        for operation in path.values()
        for found in re.findall(r"#/components/schemas/\w+", json.dumps(operation))
    }

    listed = {"Feature", "FeatureClient", "Client", "FeatureTotals"}  # files are of their lists
    assert bodies - parts - listed <= titles


# What is in the document ------------------------------------------------------------------------


def _contents() -> Iterator[tuple[str, dict[str, Any]]]:
    """Give every media type object of the document with its name."""
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
            for body in bodies:
                for name, content in body.get("content", {}).items():
                    yield f"{method} {path} {name}", content
    for name, response in DOCUMENT["components"]["responses"].items():
        for content in response["content"].values():
            yield name, content


def test_every_example_of_the_document_fits_its_schema() -> None:
    seen = 0
    for where, content in _contents():
        for example in content.get("examples", {}).values():
            value, schema = example["value"], content["schema"]
            if where.endswith(NDJSON):
                value = [json.loads(line) for line in value.splitlines()]
                schema = schema["contentSchema"]
            judge(schema, closed=True).validate(value)
            seen += 1
    assert seen > 40


def test_every_operation_shows_what_it_takes() -> None:
    """A request without an example could not be sent by the test of examples."""
    assert [
        operation.id
        for operation in operations()
        for content in operation.content
        if content.media_type in ("application/json", NDJSON) and not content.examples
    ] == []


def test_ids_are_given_once_and_tags_are_told_of() -> None:
    ids = [operation.id for operation in operations()]

    assert len(set(ids)) == len(ids)
    assert {operation.tag for operation in operations()} == {
        tag["name"] for tag in DOCUMENT["tags"]
    }


def test_every_error_that_has_a_row_can_be_met_at_an_operation() -> None:
    """But the one of methods: a document has no operation for a method that is not there."""
    met = {error for operation in operations() for error in operation.refusals}

    assert met | {MethodNotAllowed} == {*problem.TABLE, FloatingRefused}


@pytest.mark.parametrize("error", sorted(problem.TABLE, key=lambda each: each.__name__))
def test_a_refusal_has_the_status_and_the_key_of_the_table(error: type[GatewayError]) -> None:
    if error is MethodNotAllowed:
        return
    refusal = refusal_of(error)

    assert problem.TABLE[error] == (refusal.status, refusal.example.value["key"])


def test_who_may_is_told_of_every_operation() -> None:
    """Anonymous are the log-in, the health and what operates a gateway, and nothing else."""
    table = [operation for operation in operations() if operation.tag != FLOATING]
    anonymous = {operation.id for operation in table if operation.security is None}
    assert anonymous == {
        *("authorize", "health", "healthOfDefault"),
        *("livez", "readyz", "metrics", "signingKeys", "contract"),
    }
    for operation in table:
        told = DOCUMENT["paths"][operation.path][operation.method.lower()]
        assert bool(told["security"]) == (operation.id not in anonymous)
        assert ({"401", "403"} <= set(told["responses"])) == (operation.id not in anonymous)
        assert "500" in told["responses"]


def test_who_may_is_told_of_every_operation_of_floating_clients() -> None:
    """Calls of theirs may need a token, which the configuration says; syncs an administrator's."""
    for operation in operations():
        if operation.tag != FLOATING:
            continue
        told = DOCUMENT["paths"][operation.path][operation.method.lower()]
        alternatives = {
            None: [],
            Security.FLOATING: [{}, {"floating": []}],
            Security.BASIC: [{"password": []}],
            Security.FLOATING_ALWAYS: [
                {"floating": ["ROLE_ADMIN"] if "/sync" in operation.path else []}
            ],
        }
        assert told["security"] == alternatives[operation.security]
        assert ("403" in told["responses"]) == ("/sync" in operation.path)
        assert ("500" in told["responses"]) is True


def test_the_refusals_of_floating_clients_have_their_shape() -> None:
    for error in licensespring_problem.TABLE:
        if error is not MethodNotAllowed:
            refusal = refusal_of(error, "/api/v4/register")
            status, code = licensespring_problem.TABLE[error]
            assert (status, code) == (refusal.status, refusal.example.value["code"])
            assert refusal.name == f"Floating{error.__name__}"


# What is served ---------------------------------------------------------------------------------


def test_every_route_is_an_operation_and_every_operation_a_route(tmp_path: Path) -> None:
    async def served(**environ: str) -> set[tuple[str, str]]:
        config = load_config(None, environ, {"data_dir": tmp_path})
        async with open_gateway(config, Lifecycle(), forward=False) as app:
            routes = list(app.app.routes)  # type: ignore[attr-defined]
        found = set()
        for route in routes:
            assert isinstance(route, Route)
            path = re.sub(r"\{(\w+):\w+\}", r"{\1}", route.path)
            if path == PAGES or path.startswith(f"{PAGES}/"):
                continue  # for people: what they take is what their forms have
            found |= {(method, path) for method in route.methods or () if method != "HEAD"}
        return found

    table = operations()
    of_all = {(operation.method, operation.path) for operation in table}
    own = {(operation.method, operation.path) for operation in table if operation.tag != FLOATING}
    assert asyncio.run(served(GATEWAY_LICENSESPRING__INSTANCE="I")) == of_all
    assert asyncio.run(served()) == own
    assert (BASE, SHORT) == (cmapi.BASE, cmapi.SHORT)
