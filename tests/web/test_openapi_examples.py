"""The examples of the OpenAPI document are sent to a real gateway, which answers what they say.

The plant of gateway/protocols/openapi_plant.py is provisioned once and every operation is called
once per example, in one order; each test then looks at what one operation answered. What has no
body is asked for each answer that is shown, with the query that the example names.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from gateway.protocols.openapi import operations
from gateway.protocols.openapi_examples import LOGIN
from gateway.protocols.openapi_licensespring import TAG as FLOATING
from gateway.protocols.openapi_parts import (
    JOSE,
    JSON,
    NDJSON,
    OCTETS,
    Example,
    Jws,
    Operation,
    Security,
)
from gateway.protocols.openapi_plant import INSTANCE_ID, MOMENT
from tests.contract import DOCUMENT, judge, plant
from tests.vectors.credentials import public_der, signed, token
from tests.vectors.loader import ms
from tests.vectors.served import Served, serving

# Those of floating clients have lines and a test of their own.
TABLE = {operation.id: operation for operation in operations() if operation.tag != FLOATING}
FIRST = ("access", "preview", "accessBatch")  # what is read after them depends on them
LAST = ("dropClient", "changePolicies", "signedAccess", "uploadLicensingKey", "removeLicensingKeys")
ORDER = (*FIRST, *(name for name in TABLE if name not in FIRST + LAST), *LAST)


@dataclass(frozen=True)
class Exchange:
    """One example of an operation, and its answer."""

    example: str
    answer: httpx.Response

    @property
    def media_type(self) -> str:
        return self.answer.headers["content-type"].partition(";")[0]

    @property
    def said(self) -> Any:
        """The body: its JSON, a list of that of each line, or text."""
        if self.media_type == NDJSON:
            return _lines(self.answer.text)
        return self.answer.json() if self.media_type == JSON else self.answer.text


@dataclass(frozen=True)
class Sending:
    """How an example is sent."""

    example: str = ""
    media_type: str = JSON
    content: bytes = b""
    query: str = ""


Told = dict[str, list[Exchange]]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("plant"), EXPLAIN__RETENTION="1h") as opened:
        yield opened


@pytest.fixture(scope="module")
def told(served: Served) -> Told:
    return served.run(_tell(served))


async def _tell(served: Served) -> Told:
    await served.set_clock(ms(MOMENT))
    catalogue = await served.catalogues.put(plant())
    login = await served.http.post(f"/api/1.0/instances/{catalogue.id}/authorize", json=LOGIN.value)
    credentials = {
        Security.CAPABILITY: {"Authorization": f"Bearer {token()}"},
        Security.SESSION: {"Authorization": f"Bearer {login.json()['token']}"},
        None: {},
    }
    return {
        name: [
            Exchange(
                each.example,
                await served.http.request(
                    TABLE[name].method,
                    f"{_path(TABLE[name])}?{each.query}".removesuffix("?"),
                    headers=credentials[TABLE[name].security] | {"Content-Type": each.media_type},
                    content=each.content,
                ),
            )
            for each in _requests(TABLE[name])
        ]
        for name in ORDER
    }


def _path(operation: Operation) -> str:
    values = {each.name: each.example for each in operation.parameters if each.where == "path"}
    return operation.path.format(**values)


def _requests(operation: Operation) -> Iterator[Sending]:
    if not operation.content:
        for shown in _shown(operation) or [Example("", "", None)]:
            yield Sending(shown.name, query=shown.query)
    for content in operation.content:
        if content.media_type == OCTETS:
            yield Sending("key", OCTETS, public_der("other", "RS256"))
        for each in content.examples:
            text = each.value if content.media_type == NDJSON else json.dumps(each.value)
            yield Sending(each.name, content.media_type, text.encode())


def _shown(operation: Operation) -> list[Example]:
    """Give the answers that the document shows, of each media type."""
    return [each for content in operation.given[0].content for each in content.examples]


def _documented(name: str, status: int) -> dict[str, Any]:
    operation = TABLE[name]
    responses = DOCUMENT["paths"][operation.path][operation.method.lower()]["responses"]
    found: dict[str, Any] = responses[str(status)]
    return found


def _given_status(operation: Operation) -> int:
    return operation.given[0].status


@pytest.mark.parametrize("name", ORDER)
def test_an_example_is_answered_with_success(told: Told, name: str) -> None:
    """For one operation success is a 410."""
    assert told[name]
    for each in told[name]:
        assert each.answer.status_code == _given_status(TABLE[name]), each.answer.text


@pytest.mark.parametrize("name", ORDER)
def test_an_answer_has_the_documented_media_type_headers_and_members(told: Told, name: str) -> None:
    """Members that the document does not name are no part of an answer."""
    for each in told[name]:
        documented = _documented(name, each.answer.status_code)
        schema = documented["content"][each.media_type]["schema"]
        for header in documented.get("headers", {}):
            shape = DOCUMENT["components"]["headers"][header]["schema"]
            if header in each.answer.headers:
                judge(shape).validate(each.answer.headers[header])
        if each.media_type == NDJSON:
            judge(schema["contentSchema"], closed=True).validate(each.said)
        else:
            judge(schema, closed=True).validate(each.said)
        if each.media_type == JOSE:
            judge(schema["contentSchema"], closed=True).validate(_payload(each.answer.text))


@pytest.mark.parametrize("name", ORDER)
def test_an_answer_is_the_one_that_the_document_shows(told: Told, name: str) -> None:
    """Where the document shows an answer to the example of that name, or to the only one."""
    shown = {each.name: each.value for each in _shown(TABLE[name])}
    for each in told[name]:
        wanted = shown.get(each.example or next(iter(shown), ""))
        if wanted is None:
            continue
        assert each.said == (_lines(wanted) if each.media_type == NDJSON else wanted)


def test_every_example_of_an_answer_was_compared(told: Told) -> None:
    """An example that no request has the name of would be an illustration only."""
    for name, operation in TABLE.items():
        asked = {each.example for each in told[name]}
        assert {each.name for each in _shown(operation)} <= asked


def test_the_served_document_is_the_committed_one(told: Told) -> None:
    (only,) = told["contract"]

    assert only.answer.json() == DOCUMENT
    assert only.answer.headers["cache-control"] == "max-age=300"


SIGNED = [
    (name, content.type)
    for name, operation in TABLE.items()
    for content in operation.content
    if isinstance(content.type, Jws)
]


@pytest.mark.parametrize(("name", "jws"), SIGNED, ids=[name for name, _ in SIGNED])
def test_an_example_is_taken_as_signed_payload(
    served: Served, told: Told, name: str, jws: Jws
) -> None:
    """No token is sent: the body is the credential. What was signed fits the document."""
    operation = TABLE[name]
    schema = DOCUMENT["paths"][operation.path]["post"]["requestBody"]["content"][JOSE]["schema"]
    example = operation.content[0].examples[0]
    said = example.value
    if isinstance(said, str):
        said = {"requests": _lines(said)[:1]}

    async def story() -> None:
        body = signed("signed", {"jti": f"signed-{name}"}, INSTANCE_ID, json.dumps(said).encode())
        answer = await served.http.post(
            _path(operation), headers={"Content-Type": JOSE}, content=body
        )

        assert answer.status_code == 200, answer.text
        judge(schema).validate(body.decode())
        judge(schema["contentSchema"]).validate(_payload(body.decode()))

    served.run(story())


def _payload(jws: str) -> Any:
    part = jws.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def _lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]
