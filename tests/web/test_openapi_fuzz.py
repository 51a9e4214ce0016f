"""Requests drawn from the OpenAPI document, good ones and bad ones, at a real gateway.

Whatever is asked: no answer is a 5xx, each has a documented status, media type, headers and body,
and without a credential there is a refusal and nothing else. Each operation has an instance of its
own, so that what one of them changes is no other's. `GATEWAY_FUZZ_EXAMPLES` says how many requests
are drawn in the slow run.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from gateway.protocols.openapi_parts import CSV, OPENMETRICS, TEXT
from tests.contract import DOCUMENT, judge
from tests.vectors.served import Served, serving
from tests.web.fuzzing import FUZZ_EXAMPLES, JOSE, NDJSON, OPERATIONS, Subject, cases

FEW: Final = 2  # of each operation, in the default run
CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
# What is looked at before a credential is (SEMANTICS 10): path, size and time, media type.
BEFORE_CREDENTIALS: Final = {404, 405, 408, 413, 415}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("fuzz")
    with serving(directory, prelude=None, EXPLAIN__RETENTION="1h") as opened:
        yield opened


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_drawn_request_is_answered_as_documented(served: Served, name: str) -> None:
    _draw(served, name, FEW, derandomize=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATIONS)
def test_many_drawn_requests_are_answered_as_documented(served: Served, name: str) -> None:
    _draw(served, name, -(-FUZZ_EXAMPLES // len(OPERATIONS)))


def _draw(served: Served, name: str, examples: int, *, derandomize: bool = False) -> None:
    subject = Subject(served, name)
    served.run(subject.settle())

    @settings(
        max_examples=examples,
        derandomize=derandomize,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def drawn(data: st.DataObject) -> None:
        case = data.draw(cases(name))
        subject.aim(data, case)
        request = subject.wire(data, case)
        if request is None:
            reject()
        served.run(_exchange(subject, case, request))

    drawn()


async def _exchange(subject: Subject, case: Any, request: httpx.Request) -> None:
    """Send a request with a credential and without, and judge both answers."""
    signed = request.headers.get("content-type") == JOSE  # the body is the credential
    if subject.name == "authorize":
        await subject.forget_logins()
    if subject.name == "dropClient":
        await subject.ask()
    if subject.scheme is not None and not signed:
        for wrong in (None, "Bearer a.b.c"):
            answer = await _sent(subject, request, wrong)
            assert answer.status_code in {401, *BEFORE_CREDENTIALS}, answer.text
            _judge(subject, case, answer)
    credential = await subject.credential()
    answer = await _sent(subject, request, None if signed else credential.get("Authorization"))
    _judge(subject, case, answer)


async def _sent(subject: Subject, request: httpx.Request, credential: str | None) -> httpx.Response:
    headers = httpx.Headers(request.headers)
    headers.pop("authorization", None)
    if credential is not None:
        headers["Authorization"] = credential
    again = httpx.Request(request.method, request.url, headers=headers, content=request.content)
    return await subject.served.http.send(again)


def _judge(subject: Subject, case: Any, answer: httpx.Response) -> None:
    """Let schemathesis judge an answer, and look into a body more closely than it does."""
    case.validate_response(answer, checks=CHECKS)
    told = subject.told["responses"][str(answer.status_code)]
    if "$ref" in told:
        told = DOCUMENT["components"]["responses"][told["$ref"].rpartition("/")[2]]
    media_type = answer.headers["content-type"].partition(";")[0]
    schema = told["content"][media_type]["schema"]
    if media_type == NDJSON:
        lines = [json.loads(line) for line in answer.text.splitlines()]
        judge(schema["contentSchema"], closed=True).validate(lines)
    elif media_type == JOSE:
        judge(schema).validate(answer.text)
        payload = answer.text.split(".")[1]
        content = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        judge(schema["contentSchema"], closed=True).validate(content)
    elif media_type in (CSV, TEXT, OPENMETRICS):
        judge(schema).validate(answer.text)
    else:
        judge(schema, closed=True).validate(answer.json())
