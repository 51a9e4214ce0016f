"""How refusals look to LicenseSpring clients. Source: protocols/licensespring.md 3.3 and 10."""

from __future__ import annotations

import json

import pytest

from gateway.core import errors
from gateway.core.errors import GatewayError
from gateway.core.floating import Refusal
from gateway.protocols import problem
from gateway.protocols.licensespring_problem import (
    MESSAGES,
    TABLE,
    FloatingRefused,
    is_theirs,
    render,
    render_internal,
)
from gateway.protocols.openapi_parts import SAMPLES

# Keys are uploaded at no path of theirs; a refusal of theirs has no other shape.
SHARED = [
    each for each in SAMPLES if not isinstance(each, errors.InvalidPublicKey | FloatingRefused)
]
PATH = "/api/v5/license/77/consumption/add"


@pytest.mark.parametrize("refusal", list(Refusal))
def test_every_refusal_is_a_400_with_the_words_that_the_cloud_lists(refusal: Refusal) -> None:
    status, headers, body = render(FloatingRefused(refusal), PATH)
    assert (status, headers) == (400, {"Content-Type": "application/json"})
    expected = {"status": 400, "code": refusal.value, "message": MESSAGES[refusal]}
    assert json.loads(body) == expected


@pytest.mark.parametrize("error", SHARED, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("path", [PATH, "/api/v4/register", "/auth", "/api/v5/auth/me"])
def test_every_error_has_this_shape_under_their_paths(error: GatewayError, path: str) -> None:
    status, headers, body = render(error, path)
    said = json.loads(body)
    assert said["status"] == status
    assert isinstance(said["message"], str)
    assert ("error" in said) == path.startswith("/api/v5/auth/")
    house_status = problem.render(error)[0]
    assert status == (400 if house_status == 422 else house_status)
    assert ("Retry-After" in headers) == (status in (429, 503))


def test_every_error_of_the_house_has_a_row() -> None:
    for error in problem.TABLE.keys() - {errors.InvalidPublicKey}:
        assert any(ancestor in TABLE for ancestor in error.__mro__), error


def test_the_documented_words_of_unauthorized() -> None:
    for error, path, said in (
        (errors.Unauthorized(), "/api/v4/register", "Unauthorized: Please log in"),
        (errors.Unauthorized(), "/api/v5/auth/me", "Unauthorized"),
        (errors.UserAuthFailed("ann"), "/auth", "Invalid username or password"),
        (errors.UserAuthFailed("ann"), "/api/v5/auth/login", "Invalid username or password"),
    ):
        status, _, body = render(error, path)
        assert (status, json.loads(body)["message"]) == (401, said)


def test_a_store_that_is_away_is_a_503_to_come_back_after() -> None:
    away = errors.Unavailable("The store does not answer", "unknown", 7)
    status, headers, body = render(away, PATH)
    assert (status, headers["Retry-After"]) == (503, "7")
    assert json.loads(body)["code"] == "unavailable"


def test_what_nobody_foresaw_tells_a_request_id_and_nothing_else() -> None:
    status, _, body = render_internal("abc", PATH)
    expected = {"status": 500, "code": "internal_error", "message": "Internal error abc"}
    assert (status, json.loads(body)) == (500, expected)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/api/v4", True),
        ("/api/v4/x", True),
        ("/api/v5/x/y", True),
        ("/auth", True),
        ("/auth/x", False),
        ("/api/v45", False),
        ("/api/1.0/health", False),
        ("/", False),
        ("//api/v4/x", False),
    ],
)
def test_the_shape_of_an_error_is_that_of_its_path(path: str, expected: bool) -> None:
    assert is_theirs(path) == expected
