"""Every error that can reach a wire has one status and one key, and all bodies have one shape."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from gateway.core import errors
from gateway.core.errors import (
    BadRequest,
    Forbidden,
    GatewayError,
    IdempotencyMismatch,
    InvalidInput,
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
from gateway.protocols.problem import (
    TABLE,
    body,
    render,
    render_internal,
    render_key_removed,
)

NEVER_ON_A_WIRE = {InvalidInput}  # files, flags and addresses of a command line

# SEMANTICS 10, row by row.
ROWS: list[tuple[GatewayError, int, str]] = [
    (BadRequest("features must be an array", "features"), 400, "gateway.badRequest"),
    (Unauthorized(), 401, "gateway.unauthorized"),
    (Forbidden("The role is missing", "ROLE_CAPABILITY"), 403, "gateway.forbidden"),
    (NotFound("No such path"), 404, "gateway.notFound"),
    (MethodNotAllowed("Not with this method"), 405, "gateway.methodNotAllowed"),
    (RequestTimeout("The body took too long"), 408, "gateway.requestTimeout"),
    (TooLarge("The body is too large"), 413, "gateway.tooLarge"),
    (UnsupportedMediaType("Not such a body"), 415, "gateway.unsupportedMediaType"),
    (IdempotencyMismatch("Another request"), 422, "gateway.idempotencyMismatch"),
    (TooManyRequests("Too many", 7), 429, "gateway.tooManyRequests"),
    (Unavailable("No store", "not_applied", 3), 503, "gateway.unavailable"),
    (InvalidPublicKey(), 400, "gateway.invalidPublicKey"),
    (UserAuthFailed("admin"), 401, "gateway.userAuthFailed"),
]
ADMINISTRATION = {InvalidPublicKey, UserAuthFailed}  # a 400 and a 401 of its own


def declared(parent: type[GatewayError] = GatewayError) -> Iterator[type[GatewayError]]:
    for child in parent.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
            yield from declared(child)


def test_every_error_that_can_reach_the_wire_has_a_row() -> None:
    assert set(TABLE) == set(declared()) - NEVER_ON_A_WIRE
    assert set(TABLE) == {type(error) for error, _, _ in ROWS}


def test_no_two_errors_share_a_key_or_a_status() -> None:
    assert len({key for _, key in TABLE.values()}) == len(TABLE)
    licensing = [status for error, (status, _) in TABLE.items() if error not in ADMINISTRATION]
    assert len(set(licensing)) == len(licensing)


@pytest.mark.parametrize(("error", "status", "key"), ROWS, ids=lambda each: str(each)[:24])
def test_an_error_is_its_status_and_a_body_of_key_message_arguments(
    error: GatewayError, status: int, key: str
) -> None:
    answered, headers, content = render(error)

    assert answered == status
    assert headers["Content-Type"] == "application/json"
    assert json.loads(content) == {
        "key": key,
        "message": error.message,
        "arguments": list(error.arguments),
    }


def test_retry_after_is_there_exactly_where_waiting_helps() -> None:
    waits = {status: render(error)[1].get("Retry-After") for error, status, _ in ROWS}

    assert {status: wait for status, wait in waits.items() if wait} == {429: "7", 503: "3"}


@pytest.mark.parametrize("outcome", ["not_applied", "applied_not_durable", "unknown"])
def test_unavailable_says_what_became_of_the_request(outcome: errors.Applied) -> None:
    _, _, content = render(Unavailable("The store did not answer in time", outcome))

    assert json.loads(content)["arguments"] == [outcome]


def test_every_401_is_the_same_and_challenges() -> None:
    assert render(Unauthorized()) == render(Unauthorized())
    assert render(Unauthorized())[1]["WWW-Authenticate"] == "Bearer"


def test_a_refinement_of_an_error_has_its_parents_row() -> None:
    class CutShort(BadRequest):
        pass

    assert render(CutShort("cut short"))[0] == 400


def test_an_error_of_the_command_line_is_not_answered() -> None:
    with pytest.raises(LookupError, match="InvalidInput"):
        render(InvalidInput("no such file"))


def test_a_failed_login_is_the_documented_body_byte_for_byte() -> None:
    assert render(UserAuthFailed("admin"))[2] == (
        b'{"key":"gateway.userAuthFailed","message":"User name or password is wrong",'
        b'"arguments":["admin"]}'
    )


def test_removing_keys_is_done_with_410() -> None:
    assert render_key_removed() == (
        410,
        {"Content-Type": "application/json"},
        b'{"key":"gateway.keyRemoved","message":"Licensing key removed","arguments":[]}',
    )


def test_an_internal_error_gives_a_request_id_and_nothing_else() -> None:
    status, headers, content = render_internal("r-1")

    assert (status, headers) == (500, {"Content-Type": "application/json"})
    assert json.loads(content) == {
        "key": "gateway.internalError",
        "message": "Internal error",
        "arguments": ["r-1"],
    }


def test_the_body_is_the_documented_one_byte_for_byte() -> None:
    expected = (
        b'{"key":"gateway.badRequest","message":"features[0].count must be an integer",'
        b'"arguments":["features[0].count"]}'
    )

    assert expected == body(
        "gateway.badRequest", "features[0].count must be an integer", "features[0].count"
    )
