"""Every path with every method: what is there, what is not, and that nothing else leads anywhere.

Source: SEMANTICS 10, protocols/cmapi.md 2 and 3.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.web.operations import BASE, OPERATIONS, SHORT, Operation, Way, heads, methods_of, those
from tests.web.tenants import EVERY, OTHER, OWN, Tenants, tenants_serving, without_ids

pytestmark = pytest.mark.slow

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
PATHS = sorted({operation.path for operation in OPERATIONS})
CLOSED = those(Way.CLIENT, Way.ADMINISTRATOR)
OF_AN_INSTANCE = [operation for operation in CLOSED if not operation.short]


@pytest.fixture(scope="module")
def tenants(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenants]:
    with tenants_serving(tmp_path_factory.mktemp("tenants")) as opened:
        yield opened


@pytest.mark.parametrize("operation", [each for each in CLOSED if each.short], ids=str)
def test_the_short_form_means_the_default_instance(tenants: Tenants, operation: Operation) -> None:
    long = next(each for each in OPERATIONS if each.path == BASE + operation.path[len(SHORT) :])

    async def story() -> None:
        good = tenants.good(operation)
        own, short, tilde, encoded = [
            without_ids(await tenants.send(each, good, instance=instance))
            for each, instance in (
                (long, OWN),
                (operation, OWN),
                (long, "~"),
                (long, "%7E"),
            )
        ]
        assert own == short == tilde == encoded
        await tenants.refuse(operation, tenants.session(*EVERY, instance=OTHER))

    tenants.moving(story)


@pytest.mark.parametrize(
    "operation",
    [each for each in OPERATIONS if each.method != "GET" and each.path.startswith(BASE)],
    ids=str,
)
def test_what_changes_or_counts_has_no_short_form(tenants: Tenants, operation: Operation) -> None:
    path = SHORT + operation.path[len(BASE) :]
    short = Operation(operation.method, path, operation.way, values=operation.values)

    async def story() -> None:
        answer = await tenants.send(short, tenants.good(operation), content=operation.body)
        assert answer.status_code == (405 if path in PATHS else 404)

    tenants.at_rest(story)


@pytest.mark.parametrize("operation", heads(), ids=str)
def test_head_is_answered_as_get_without_a_body(tenants: Tenants, operation: Operation) -> None:
    async def story() -> None:
        get, head = [
            without_ids(await tenants.send(operation, tenants.good(operation), method=method))
            for method in ("GET", "HEAD")
        ]
        assert head == (*get[:2], b"")

    tenants.moving(story)


@pytest.mark.parametrize("path", PATHS)
def test_another_method_is_told_which_there_are(tenants: Tenants, path: str) -> None:
    operation = next(each for each in OPERATIONS if each.path == path)
    known = methods_of(path)

    async def story() -> None:
        for method in set(METHODS) - known:
            answer = await tenants.send(operation, tenants.good(operation), method=method)
            assert answer.status_code == 405, method
            assert set(answer.headers["allow"].split(", ")) == known
            if method != "HEAD":
                assert answer.json()["key"] == "gateway.methodNotAllowed"
                assert answer.json()["arguments"] == [method]

    tenants.at_rest(story)


# An idempotency id is the rest of its path, whatever is in it.
ENDING = [each for each in OPERATIONS if "{id:path}" not in each.path]


@pytest.mark.parametrize("operation", ENDING, ids=str)
def test_a_path_is_that_path_and_no_other(tenants: Tenants, operation: Operation) -> None:
    """A slash more is another path: no redirect makes a client send its credential twice."""

    async def story() -> None:
        path, good = operation.at(OWN), tenants.good(operation)
        for other in (path + "/", path + "//", path + "%2F", path + "/x/y/z", "/" + path):
            answer = await tenants.http.request(
                operation.method,
                f"{tenants.served.url}{other}",
                headers=good,
                content=operation.body,
            )
            assert answer.status_code == 404, other
            assert answer.json()["key"] == "gateway.notFound"

    tenants.at_rest(story)


@pytest.mark.parametrize("operation", OF_AN_INSTANCE, ids=str)
def test_an_encoded_slash_is_a_slash_once_and_leads_nowhere_else(
    tenants: Tenants, operation: Operation
) -> None:
    async def story() -> None:
        own, other = OWN, OTHER
        for instance in (f"{own}%252F..%252F{other}", f"{other}%252F{own}", f"%2E%2E%252F{other}"):
            await tenants.refuse(operation, tenants.good(operation), instance=instance)
        for instance in (f"{own}%2F..%2F{other}", f"..%2Finstances%2F{other}", f"{own}%2F"):
            answer = await tenants.send(operation, tenants.good(operation), instance=instance)
            assert answer.status_code in (401, 404, 405), instance

    tenants.at_rest(story)
