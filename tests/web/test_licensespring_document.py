"""What the document tells of floating clients' operations is what a real gateway answers.

Each operation is called with its example, and then with requests drawn from its types: no answer is
a 5xx, each has a documented status, media type, headers and members.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import requests as requests_library
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from gateway.protocols.openapi import operations
from gateway.protocols.openapi_licensespring import TAG
from gateway.protocols.openapi_parts import Operation, Security
from tests.contract import DOCUMENT, judge
from tests.web.desks import PASSWORD
from tests.web.floats import Floats, floats_serving
from tests.web.fuzzing import FLOATING_OPERATIONS, FUZZ_EXAMPLES, cases

TABLE = {operation.id: operation for operation in operations() if operation.tag == TAG}
DRAWN = [name for name in FLOATING_OPERATIONS if TABLE[name].content or TABLE[name].parameters]
EXAMPLES = -(-FUZZ_EXAMPLES // len(FLOATING_OPERATIONS))  # of each operation


@pytest.fixture(scope="module")
def floats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Floats]:
    with floats_serving(tmp_path_factory.mktemp("document")) as opened:
        yield opened


def test_every_operation_of_theirs_is_drawn_from() -> None:
    assert FLOATING_OPERATIONS.keys() == TABLE.keys()


def _headers(floats: Floats, operation: Operation) -> dict[str, str]:
    if operation.security is Security.FLOATING_ALWAYS:
        return {"Authorization": f"Bearer {floats.token('ann')}"}
    return {}


def _judge(operation: Operation, answer: httpx.Response) -> None:
    told = DOCUMENT["paths"][operation.path][operation.method.lower()]["responses"]
    assert str(answer.status_code) in told, answer.text
    assert answer.status_code < 500, answer.text
    response = told[str(answer.status_code)]
    if "$ref" in response:
        response = DOCUMENT["components"]["responses"][response["$ref"].rpartition("/")[2]]
    if "content" not in response:
        assert answer.content == b""
        return
    assert answer.headers["content-type"] == "application/json"
    schema = response["content"]["application/json"]["schema"]
    judge(schema, closed=True).validate(answer.json())
    for name in response.get("headers", {}):
        if name in answer.headers:
            shape = DOCUMENT["components"]["headers"][name]["schema"]
            value: Any = answer.headers[name]
            judge(shape).validate(int(value) if shape.get("type") == "integer" else value)
    signed = "LicenseSignature" in response.get("headers", {})
    assert ("licensesignature" in answer.headers) == signed


def test_the_examples_are_answered_as_documented(floats: Floats) -> None:
    async def story() -> None:
        # Whoever is to hold a feature has to be registered.
        assert (await floats.client(version=1).register()).status == 200
        basic = httpx.BasicAuth("ann", PASSWORD)
        for operation in TABLE.values():
            values = {each.name: each.example for each in operation.parameters}
            query = {
                each.name: each.example
                for each in operation.parameters
                if each.where == "query" and each.example is not None
            }
            body = operation.content[0].examples[0].value if operation.content else None
            answer = await floats.served.http.request(
                operation.method,
                operation.path.format(**values),
                params=query,
                json=body,
                headers=_headers(floats, operation),
                auth=basic if operation.security is Security.BASIC else None,
            )
            _judge(operation, answer)
            # No cloud is attached, to which these are about.
            without_cloud = ("floatingSetSync", "floatingTriggerSync")
            assert answer.status_code == (400 if operation.id in without_cloud else 200), (
                operation.id,
                answer.text,
            )
            if "unregister" in operation.path:
                assert (await floats.client(version=1).register()).status == 200

    floats.run(story)


@pytest.mark.slow
@pytest.mark.parametrize("name", DRAWN)
def test_many_drawn_requests_of_theirs_are_answered_as_documented(
    floats: Floats, name: str
) -> None:
    _draw(floats, name)


def _draw(floats: Floats, name: str) -> None:
    operation = TABLE[name]

    @settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def drawn(data: st.DataObject) -> None:
        case = data.draw(cases(name))
        if "license" in case.path_parameters and data.draw(st.integers(0, 7)):
            case.path_parameters["license"] = data.draw(st.sampled_from(["77", "8", "79"]))
        if isinstance(case.body, dict) and "product" in case.body and data.draw(st.booleans()):
            case.body["product"] = data.draw(st.sampled_from(["PROD", "TWICE", "SEATS"]))
        arguments = case.as_transport_kwargs(base_url=floats.served.url)
        try:
            made = requests_library.Request(**arguments).prepare()
            content = made.body.encode() if isinstance(made.body, str) else made.body or b""
            headers = {key: value for key, value in made.headers.items() if key != "Content-Length"}
            headers.pop("Authorization", None)
            headers |= _headers(floats, operation)
            request = httpx.Request(
                str(made.method), str(made.url), headers=headers, content=content
            )
        except (requests_library.exceptions.InvalidHeader, httpx.InvalidURL, UnicodeError):
            reject()

        async def exchange() -> None:
            for key in await floats.served.keys():
                if ":l:" in key:
                    await floats.served.store.delete(key)
            answer = await floats.served.http.send(request)
            if answer.status_code not in (404, 405):  # another path was drawn
                _judge(operation, answer)
            else:
                assert json.loads(answer.content)

        floats.served.run(exchange())

    floats.served.run(floats.settle())
    drawn()
