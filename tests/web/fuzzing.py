"""Requests drawn from the OpenAPI document by schemathesis, and what there is to ask about.

Decided here: what is varied, which is the JSON inside of bodies that are not JSON as well, and how
often a request is aimed at what is there: a drawn name hardly ever is. Not decided here: what an
answer must be (test_openapi_fuzz.py).
"""

from __future__ import annotations

import copy
import json
import os
from typing import Any, Final

import httpx
import requests
import schemathesis
from hypothesis import strategies as st
from msgspec.structs import replace
from schemathesis import GenerationMode

from gateway.core.model import Role, User
from gateway.core.numbers import client_number
from gateway.protocols.openapi_licensespring import TAG as FLOATING
from tests.contract import DOCUMENT
from tests.vectors.credentials import keys_of, public_der, signed, token
from tests.vectors.loader import applied
from tests.vectors.served import Served
from tests.web.clerks import session
from tests.web.desks import HASH, LOGIN
from tests.web.doors import Door

FUZZ_EXAMPLES: Final = int(os.environ.get("GATEWAY_FUZZ_EXAMPLES", "1000"))  # of a slow run
JOSE, NDJSON = "application/jose", "application/x-ndjson"
ASKED: Final = "asked"
HOST: Final = {"type": "string", "value": "h1"}
FEATURES: Final = ("sessions", "users", "editor", "pages", "api")
NUMBERS: Final = ("1", "3", str(client_number("STRING:h1")))  # lines, and the client


def _drawable() -> dict[str, Any]:
    """Give the document with the schema of what is inside in the place of that of the text."""
    document = copy.deepcopy(DOCUMENT)
    for path in document["paths"].values():
        for operation in path.values():
            for content in operation.get("requestBody", {}).get("content", {}).values():
                inner = content.get("schema", {}).get("contentSchema")
                if inner is not None:
                    content.clear()
                    content["schema"] = inner
    return document


@schemathesis.serializer(NDJSON)
def _lines(ctx: Any, value: Any) -> bytes:
    lines = value if isinstance(value, list) else [value]
    return b"\n".join(json.dumps(line).encode() for line in lines)


@schemathesis.serializer(JOSE)
def _jws(ctx: Any, value: Any) -> bytes:
    """Sign what was drawn, as of this moment and for this instance."""
    if not isinstance(value, dict):
        return json.dumps(value).encode()
    instance = str(ctx.case.path_parameters["instance"])
    drawn = {name: each for name, each in value.items() if name not in ("iat", "aud")}
    return signed("signed", {}, instance, json.dumps(drawn).encode())


_SCHEMA: Final = schemathesis.openapi.from_dict(_drawable())
_FOUND: Final = [found.ok() for found in _SCHEMA.get_all_operations()]
_ALL: Final[dict[str, Any]] = {each.definition.raw["operationId"]: each for each in _FOUND}
FLOATING_OPERATIONS: Final = {
    name: each for name, each in _ALL.items() if each.definition.raw["tags"] == [FLOATING]
}
OPERATIONS: Final = {name: each for name, each in _ALL.items() if name not in FLOATING_OPERATIONS}


def cases(name: str) -> st.SearchStrategy[Any]:
    """Draw requests that the document allows, and, where there is anything to vary, others."""
    operation = _ALL[name]
    modes = [GenerationMode.POSITIVE]
    if operation.body or operation.query or operation.headers:
        modes.append(GenerationMode.NEGATIVE)
    return st.one_of([operation.as_strategy(mode) for mode in modes])


class Subject:
    """An operation at an instance of its own, of which ann is administrator and h1 a client."""

    def __init__(self, served: Served, name: str) -> None:
        self.served, self.name, self.door = served, name, Door(served)
        operation = OPERATIONS[name]
        self.told = DOCUMENT["paths"][operation.path][operation.method.lower()]
        self.scheme = next((scheme for each in self.told["security"] for scheme in each), None)

    async def settle(self) -> None:
        """Provision the instance, which is what `~` means until the next one is."""
        former = await self.served.catalogues.default()
        if former not in (None, self.door.instance):
            await self._put(former, default=False)
        await self._put(self.door.instance, default=True)
        await self.ask()

    async def ask(self) -> None:
        """Let h1 ask, so that there is a client and, for an hour, something to explain."""
        body = {"hostId": HOST, "features": [{"name": "editor"}], "incremental": True}
        headers = {"Idempotency-Key": ASKED}
        for sent in (headers, {}):
            answer = await self.door.knock(body, sent)
            assert answer.status_code == 200, answer.text

    async def forget_logins(self) -> None:
        """Let no attempt have failed: they are limited, and that is no fault."""
        failed = [key for key in await self.served.keys() if ":l:" in key]
        if failed:
            await self.served.store.delete(*failed)

    async def credential(self) -> dict[str, str]:
        """Give what lets in."""
        if self.scheme == "capability":
            return {"Authorization": f"Bearer {token()}"}
        return {} if self.scheme is None else await session(self.door, *Role)

    async def _put(self, instance: str | None, *, default: bool) -> None:
        assert instance is not None
        found = await self.served.catalogues.read(instance)
        new = applied("DEMO", instance, found and found.catalogue)
        ann = User("ann", HASH, tuple(role.value for role in Role))
        await self.served.catalogues.put(
            replace(new, default=default, keys=keys_of("own"), users=(ann,))
        )

    def aim(self, data: st.DataObject, case: Any) -> None:
        """Let most drawn requests be about what there is."""
        own = [self.door.instance]
        # A signed payload is for an instance by its name.
        named = own if case.media_type == JOSE else [*own, "~"]
        there = {"instance": named, "number": NUMBERS, "id": [ASKED]}
        for name in case.path_parameters:
            if data.draw(st.integers(0, 7)):
                case.path_parameters[name] = data.draw(st.sampled_from(there[name]))
        for feature in _features(case.body):
            if data.draw(st.booleans()):
                feature["name"] = data.draw(st.sampled_from(FEATURES))

    def wire(self, data: st.DataObject, case: Any) -> httpx.Request | None:
        """Give the request as it is sent; None for one that HTTP has no way to say."""
        arguments = case.as_transport_kwargs(base_url=self.served.url)
        try:
            made = requests.Request(**arguments).prepare()
        except (requests.exceptions.InvalidHeader, UnicodeError):
            return None
        assert made.method
        assert made.url
        headers = {name: value for name, value in made.headers.items() if name != "Content-Length"}
        content = made.body.encode() if isinstance(made.body, str) else made.body or b""
        honest = {
            "authorize": [json.dumps(LOGIN).encode()],
            "uploadLicensingKey": [public_der("own", "RS256"), public_der("other", "RS256")],
        }.get(self.name)
        if honest and data.draw(st.booleans()):
            content = data.draw(st.sampled_from(honest))
        try:
            return httpx.Request(made.method, made.url, headers=headers, content=content)
        except (httpx.InvalidURL, UnicodeError):
            return None


def _features(body: Any) -> list[dict[str, Any]]:
    """Find what looks like a feature that is asked for, in a body of any shape."""
    if isinstance(body, list):
        return [found for each in body for found in _features(each)]
    if not isinstance(body, dict):
        return []
    features = body.get("features")
    listed = features if isinstance(features, list) else []
    return [each for each in listed if isinstance(each, dict)] + _features(body.get("requests"))
