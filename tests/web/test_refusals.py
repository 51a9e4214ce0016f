"""A negative case for each refusal of SEMANTICS 10 at each kind of endpoint that can give it.

A case is a line of a table; which lines there must be follows from the errors there are and from
the operations that take a body. The 401 and the 403 of every operation are test_every_door.py's,
what the vectors can say of access requests is theirs. After a refusal nothing has moved.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gateway.core.errors import (
    BadRequest,
    Forbidden,
    GatewayError,
    IdempotencyMismatch,
    InvalidPublicKey,
    MethodNotAllowed,
    NotFound,
    RequestTimeout,
    TooLarge,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    UnsupportedMediaType,
    UserAuthFailed,
)
from gateway.protocols.cmapi_batch import BATCH_BYTES_MAX
from gateway.protocols.openapi import operations as documented
from gateway.protocols.problem import TABLE
from gateway.store.catalogues import CatalogueConflict, Catalogues
from gateway.store.keys import InstanceKeys, address_logins
from gateway.store.logins import PER_ADDRESS_MAX, PER_USER_MAX
from tests.vectors.credentials import public_der, signed
from tests.web.doors import BODY_BYTES_MAX, speak
from tests.web.operations import ASKED, HOST, OPERATIONS, Operation, Way
from tests.web.tenants import OWN, Tenants, tenants_serving

OPERATION = {str(each).replace("/api/1.0/instances/{instance}", "…"): each for each in OPERATIONS}
BODIES = [name for name, each in OPERATION.items() if each.media_type]


@dataclass(frozen=True)
class Case:
    """A request that is refused: what of a good one is another, and how that is told."""

    operation: str
    error: type[GatewayError]
    content: bytes | None = None
    signed: Any = None  # a payload, to be signed when it is sent
    query: str = ""
    tail: tuple[str, str] | None = None  # of the path: what stands there, and what is sent
    method: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    no_credential: bool = False
    arguments: list[str] | None = None

    def __str__(self) -> str:
        said = self.query or (self.tail and self.tail[1]) or self.content or self.signed
        if isinstance(said, bytes) and not said.isascii():
            said = said[:10].hex()  # of a random key its type: the same name in every worker
        return f"{self.error.__name__}-{self.operation}-{str(said or self.headers)[:24]}"


def _signed(payload: Any) -> bytes:
    """Sign a payload now: one of some minutes ago would be refused for that."""
    return signed("signed", {"jti": "b"}, OWN, json.dumps(payload).encode())


ACCESS, SIGNED, PREVIEW, BATCH = (
    f"POST …/{name}"
    for name in ("access_request", "signed_access_request", "preview_request", "access_requests")
)
UPLOAD, LOGIN, POLICIES = "POST …/rest_licensing_keys", "POST …/authorize", "PATCH …/policies"
FEATURE, FEATURE_CLIENTS = "GET …/features/{number}", "GET …/features/{number}/clients"
CLIENTS, DROP, EXPLAIN = "GET …/clients", "DELETE …/clients/{number}", "GET …/requests/{id:path}"
SHORT = "GET /api/1.0/"
JOSE = {"Content-Type": "application/jose"}
NOT_NAMES = (b"", b"nonsense", b"[]", b"null", b"{", b"\xff", b"[" * 5_000)
NO_KEYS = (b"", b"nonsense", public_der("own", "ES256"), public_der("own", "EdDSA"))
NO_QUESTIONS = (("feature=none", "feature"), ("format=xml", "format"), ("limit=1", "limit"))
NO_REPORTS = (
    ("period=ever", "period"), ("period=today&from=2026-02-01", "period"), ("by=hour", "by"),
    ("to=2026-02-01", "from"), ("from=2026-02-30&to=2026-03-01", "from"), ("by=day,week", "by"),
    ("compare=yes", "compare"), ("compare=true&format=csv", "compare"), ("%FF", "query"),
)  # fmt: skip

CASES = [
    # 400
    *(Case(each, BadRequest, body) for each in (ACCESS, SIGNED, PREVIEW, LOGIN, POLICIES)
      for body in NOT_NAMES),
    *(Case(each, BadRequest, b'{"features": []}', arguments=["hostId"])
      for each in (ACCESS, SIGNED, PREVIEW)),
    *(Case(each, BadRequest, headers={"Idempotency-Key": key}, arguments=["Idempotency-Key"])
      for each in (ACCESS, SIGNED) for key in ("", "x" * 256, "a b")),
    Case(BATCH, BadRequest, signed={"requests": "none"}, headers=JOSE, arguments=["requests"]),
    Case(LOGIN, BadRequest, b'{"user": "ann"}', arguments=["password"]),
    Case(LOGIN, BadRequest, b'{"user": 1, "password": "x"}', arguments=["user"]),
    Case(POLICIES, BadRequest, b'{"licensing.none": 1}', arguments=["licensing.none"]),
    *(Case(UPLOAD, BadRequest, query=query, arguments=[what]) for query, what in (
        ("?kid=", "kid"), ("?kid=a&kid=b", "kid"), ("?overlap=1y", "overlap"), ("?%FF", "query"))),
    *(Case(form, BadRequest, query=f"?activeOnly={value}", arguments=["activeOnly"])
      for form in ("GET …/features", f"{SHORT}features") for value in ("", "maybe", "1", "TRUE")),
    *(Case(form, BadRequest, query=f"?{query}", arguments=[query.partition("=")[0]])
      for form in (FEATURE_CLIENTS, CLIENTS, f"{SHORT}features/{{number}}/clients",
                   f"{SHORT}clients")
      for query in ("limit=0", "limit=", "limit=-1", "limit=1.0", "limit=99999999999999999999",
                    "limit=%D9%A1", "after=x", "after=", "after=-1")),
    *(Case(form, BadRequest, query=f"?limit=1&limit={'1' * many}")
      for form in (FEATURE_CLIENTS, CLIENTS) for many in (1, 3_000)),
    *(Case(f"{form}usage{view}", BadRequest, query=f"?{query}", arguments=[what])
      for form in ("GET …/", SHORT) for view in ("", "/denials", "/peaks", "/capacity")
      for query, what in NO_QUESTIONS + (() if view == "/capacity" else NO_REPORTS)),
    *(Case(UPLOAD, InvalidPublicKey, body, arguments=[]) for body in NO_KEYS),
    # 401, 403: once here, of every operation in test_every_door.py
    Case(ACCESS, Unauthorized, no_credential=True, arguments=[]),
    Case(CLIENTS, Unauthorized, no_credential=True, arguments=[]),
    Case(LOGIN, UserAuthFailed, b'{"user": "ann", "password": "x"}', arguments=["ann"]),
    # 404
    *(Case(form, NotFound, tail=("/features/1", f"/features/{number}"))
      for form in (FEATURE, f"{SHORT}features/{{number}}")
      for number in ("0", "9", "-1", "01", "x", "%D9%A1", "9" * 30)),
    *(Case(form, NotFound, tail=("/features/3/", f"/features/{number}/"))
      for form in (FEATURE_CLIENTS, f"{SHORT}features/{{number}}/clients")
      for number in ("9", "x")),
    *(Case(DROP, NotFound, tail=("/clients/", f"/clients/{prefix}")) for prefix in ("9", "0", "x")),
    *(Case(form, NotFound, tail=(f"/{ASKED}", f"/{name}"))
      for form in (EXPLAIN, f"{SHORT}requests/{{id:path}}")
      for name in ("unknown", "", "a%20b", "%C3%A9", "x" * 300)),
    *(Case(each, NotFound, tail=(OPERATION[each].at(OWN), OPERATION[each].at(OWN) + "/"))
      for each in BODIES),
    # 405
    *(Case(each, MethodNotAllowed, method="PUT", arguments=["PUT"]) for each in OPERATION),
    # 415
    *(Case(each, UnsupportedMediaType, headers={"Content-Type": kind}, arguments=["content-type"])
      for each in BODIES for kind in ("text/plain", "multipart/form-data; boundary=x", "x")),
    *(Case(each, UnsupportedMediaType, headers={"Content-Encoding": "gzip"},
           arguments=["content-encoding"]) for each in BODIES),
]  # fmt: skip

ELSEWHERE: dict[type[GatewayError], set[str]] = {
    RequestTimeout: set(BODIES),
    TooLarge: set(BODIES),
    IdempotencyMismatch: {ACCESS, SIGNED},
    TooManyRequests: {LOGIN, ACCESS, SIGNED, PREVIEW, BATCH},  # and test_key_rates_http.py
    Unavailable: {UPLOAD, "DELETE …/rest_licensing_keys", POLICIES},
    Unauthorized: {
        name for name, each in OPERATION.items() if each.roles or each.way is Way.CLIENT
    },
    Forbidden: {name for name, each in OPERATION.items() if each.roles or each.way is Way.CLIENT},
}


@pytest.fixture(scope="module")
def tenants(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenants]:
    with tenants_serving(tmp_path_factory.mktemp("tenants")) as opened:
        yield opened


# Which cases there must be ----------------------------------------------------------------------


def test_no_error_is_without_a_case() -> None:
    assert {case.error for case in CASES} | set(ELSEWHERE) == set(TABLE)


def test_no_documented_refusal_of_a_request_is_without_a_case() -> None:
    """A 503 is no fault of the request: the stores' tests tell of each."""
    shown = {(case.operation, case.error) for case in CASES}
    shown |= {(name, error) for error, names in ELSEWHERE.items() for name in names}
    for operation in (each for each in documented() if each.tag != "licensespring"):
        path = operation.path.replace("/api/1.0/instances/{instance}", "…")
        name = f"{operation.method} {path.replace('{id}', '{id:path}')}"
        refusals = {error for error in operation.refusals if TABLE[error][0] < 500}
        missing = {error for error in refusals if (name, error) not in shown}
        # Two hosts whose numbers are the same: test_drop_client_http.py.
        assert missing == ({BadRequest} if name == DROP else set()), name


# The table --------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_request_that_is_wrong_is_refused_as_documented(tenants: Tenants, case: Case) -> None:
    operation = OPERATION[case.operation]
    path = operation.at(OWN)
    if case.tail is not None:
        assert case.tail[0] in path
        path = path.replace(*case.tail)
    content = operation.body if case.content is None else case.content
    if case.signed is not None:
        content = _signed(case.signed)
    headers = {} if case.no_credential or case.headers is JOSE else tenants.good(operation)
    if operation.media_type:
        headers["Content-Type"] = operation.media_type

    async def story() -> None:
        answer = await tenants.http.request(
            case.method or operation.method,
            path + case.query,
            headers=headers | case.headers,
            content=content,
        )
        status, key = TABLE[case.error]
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")
        told = answer.json()
        assert list(told) == ["key", "message", "arguments"]
        assert (told["key"], bool(told["message"])) == (key, True)
        assert all(len(each) <= 255 for each in told["arguments"])
        if case.arguments is not None:
            assert told["arguments"] == case.arguments
        if case.error is UserAuthFailed:  # an attempt is counted, and nothing else
            await tenants.settle()

    if case.error is UserAuthFailed:
        tenants.moving(story)
    else:
        tenants.at_rest(story)


# What takes more than a line --------------------------------------------------------------------


@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_is_announced_over_the_bound_is_refused_unread(
    tenants: Tenants, name: str
) -> None:
    bound = BATCH_BYTES_MAX if name == BATCH else BODY_BYTES_MAX

    async def parts() -> AsyncIterator[bytes]:
        yield _head(tenants, OPERATION[name], bound + 1)

    async def story() -> None:
        status, told = await speak(tenants.served, parts())
        assert (status, told["key"]) == (413, "gateway.tooLarge")
        assert told["arguments"] == [str(bound)]

    tenants.at_rest(story)


def test_bodies_that_stay_away_are_given_up(tmp_path: Path) -> None:
    """All kinds at once: each of them would wait as long."""

    async def parts(name: str) -> AsyncIterator[bytes]:
        yield _head(tenants, OPERATION[name], len(OPERATION[name].body) + 1)
        yield OPERATION[name].body

    async def story() -> None:
        answers = await asyncio.gather(*(speak(tenants.served, parts(name)) for name in BODIES))
        for name, (status, told) in zip(BODIES, answers, strict=True):
            assert (status, told["key"]) == (408, "gateway.requestTimeout"), name

    with tenants_serving(tmp_path, SERVER__BODY_TIMEOUT_S="0.3") as tenants:
        tenants.at_rest(story)


def _head(tenants: Tenants, operation: Operation, announced: int) -> bytes:
    """Give a good request's head for a connection of our own."""
    headers = {
        "Host": "x",
        "Content-Type": operation.media_type,
        "Content-Length": str(announced),
        **tenants.good(operation),
    }
    lines = [f"{name}: {value}" for name, value in headers.items()]
    first = f"{operation.method} {operation.at(OWN)} HTTP/1.1"
    return "\r\n".join([first, *lines]).encode() + b"\r\n\r\n"


@pytest.mark.parametrize("name", [ACCESS, SIGNED])
def test_an_id_of_another_request_is_a_422(tenants: Tenants, name: str) -> None:
    operation = OPERATION[name]

    async def story() -> None:
        answer = await tenants.send(
            operation, tenants.good(operation) | {"Idempotency-Key": ASKED}, content=operation.body
        )
        assert (answer.status_code, answer.json()["key"]) == (422, "gateway.idempotencyMismatch")

    tenants.at_rest(story)


def test_a_line_of_a_batch_with_an_id_of_another_request_is_a_422_of_that_line(
    tenants: Tenants,
) -> None:
    operation = OPERATION[BATCH]
    line = {"hostId": HOST, "correlationId": ASKED, "features": [{"name": "users"}]}

    async def story() -> None:
        answer = await tenants.send(
            operation, tenants.good(operation), content=json.dumps(line).encode()
        )
        assert answer.status_code == 200
        told = answer.json()
        assert (told["correlationId"], told["status"], told["replayed"]) == (ASKED, 422, False)
        assert told["response"]["key"] == "gateway.idempotencyMismatch"

    tenants.at_rest(story)


@pytest.mark.parametrize("whose", ["the user's", "the address's"])
def test_a_login_after_too_many_is_a_429_for_the_right_password_too(
    tenants: Tenants, whose: str
) -> None:
    served, operation = tenants.served, OPERATION[LOGIN]
    partitions = served.catalogues.partitions
    key, most = {
        "the user's": (InstanceKeys(OWN, partitions).logins("ann"), PER_USER_MAX),
        "the address's": (address_logins("127.0.0.1", partitions), PER_ADDRESS_MAX),
    }[whose]

    async def story() -> None:
        await served.store.set(key, most, px=90_000)
        answer = await tenants.send(operation)
        assert (answer.status_code, answer.json()["key"]) == (429, "gateway.tooManyRequests")
        assert 80 <= int(answer.headers["retry-after"]) <= 90
        assert int(await served.store.get(key)) == most
        assert (await tenants.send(operation, content=b"{}")).status_code == 400  # no attempt

    tenants.moving(story)


@pytest.mark.parametrize("name", [UPLOAD, "DELETE …/rest_licensing_keys", POLICIES])
def test_a_change_that_is_always_overtaken_is_a_503(
    tenants: Tenants, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    operation = OPERATION[name]

    async def overtaken(*_: Any) -> Any:
        raise CatalogueConflict("overtaken")

    async def story() -> None:
        upload = OPERATION[UPLOAD]
        if operation.method == "DELETE":  # where there is none, nothing is written
            assert (await tenants.send(upload, tenants.good(upload))).status_code == 200
        async with tenants.nothing_moves():
            with monkeypatch.context() as patch:
                patch.setattr(Catalogues, "put", overtaken)
                answer = await tenants.send(operation, tenants.good(operation))
            assert (answer.status_code, answer.json()["arguments"]) == (503, ["not_applied"])
            assert answer.headers["retry-after"] == "1"

    tenants.moving(story)
