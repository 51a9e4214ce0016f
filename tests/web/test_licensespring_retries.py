"""Retries of LicenseSpring calls: one key, one count, whichever door it came by and whatever became
of the catalogue or of the store meanwhile.

Source: protocols/licensespring.md 10, SEMANTICS 9.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.core.model import FloatingLicense, Line
from tests.licensespring.client import Answer, Client
from tests.vectors.credentials import keys_of, token
from tests.web.floats import INSTANCE, Floats, floats_serving

BORROWED = "2027-01-01T00:00:00Z"


@pytest.fixture(scope="module")
def floats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Floats]:
    with floats_serving(tmp_path_factory.mktemp("floats")) as opened:
        yield opened


def key(name: str) -> dict[str, Any]:
    return {"headers": {"Idempotency-Key": name}}


async def change(floats: Floats, edit: Callable[[Line], Line]) -> None:
    """Provision other lines, as another process would; nothing that was counted is forgotten."""
    index = await floats.served.catalogues.read(INSTANCE)
    assert index is not None
    lines = tuple(map(edit, index.catalogue.lines))
    await floats.served.catalogues.put(replace(index.catalogue, lines=lines))


def retired(line: Line) -> Line:
    return replace(line, retired=True)


Call = Callable[[Client], Awaitable[Answer]]
CALLS: dict[str, Call] = {
    "register": lambda client: client.register(**key("k")),
    "borrow": lambda client: client.borrow(BORROWED, **key("k")),
    "add": lambda client: client.add(3, **key("k")),
    "add to a feature": lambda client: client.add_feature("pages", 3, **key("k")),
    "register a feature": lambda client: client.register_feature("cad", **key("k")),
    "release a feature": lambda client: client.release_feature("cad", **key("k")),
    "unregister": lambda client: client.unregister(**key("k")),
}


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("name", CALLS)
def test_who_was_answered_is_answered_again_although_the_licence_is_gone(
    floats: Floats, name: str, version: int
) -> None:
    async def story() -> None:
        client = floats.client(version=version)
        if "feature" in name:
            await client.register()
        first = await CALLS[name](client)
        assert first.status == 200
        await change(floats, retired)
        async with floats.nothing_moves():
            again = await CALLS[name](client)
            assert (again.status, again.headers["Idempotency-Replayed"]) == (200, "true")
            if "add" in name:
                assert again.content == first.content
            assert (await client.add(1)).code in ("unknown_product", "license_not_found")

    floats.run(story)


def test_a_setting_that_clients_may_change_no_more_does_not_hide_what_was_counted(
    floats: Floats,
) -> None:
    async def story() -> None:
        client = Client(floats.served.http, "OPEN", "alice", 79, floats.chain, version=2)
        first = await client.add(12, allow_overages=True, max_overages=9, **key("k"))
        assert (first.total, first.body["max_overages"]) == (12, 9)
        await change(floats, lambda line: replace(line, client_overages=False, overdraft="0"))
        async with floats.nothing_moves():
            again = await client.add(12, allow_overages=True, max_overages=9, **key("k"))
            assert (again.total, again.headers["Idempotency-Replayed"]) == (12, "true")
            other = await client.add(11, allow_overages=True, max_overages=9, **key("k"))
            assert (other.code, "Idempotency-Key" in other.body["message"]) == (
                "validation_error",
                True,
            )
            fresh = await client.add(12, allow_overages=True, max_overages=9, **key("l"))
            assert "client_overages" in fresh.body["message"]

    floats.run(story)


@pytest.mark.parametrize("version", [1, 2])
def test_a_feature_that_came_since_is_not_in_what_was_told_before(
    floats: Floats, version: int
) -> None:
    def became_a_feature(line: Line) -> Line:
        sold = FloatingLicense(license_id=77, product="PROD", feature="new")
        return replace(line, licensespring=sold) if line.id == "newer" else line

    async def story() -> None:
        client = floats.client(version=version)
        first = await client.register(**key("k"))
        await change(floats, became_a_feature)
        again = await client.register(**key("k"))
        assert (again.status, again.content) == (200, first.content)
        codes = [each["code"] for each in (await client.read()).body["product_features"]]
        assert codes == ["pages", "cad", "new"]

    floats.run(story)


def test_a_denial_stays_one_although_its_line_is_gone(floats: Floats) -> None:
    async def story() -> None:
        client = floats.client()
        assert (await client.add(101, **key("k"))).code == "license_not_enough_consumptions"
        await change(floats, retired)
        assert (await client.add(101, **key("k"))).code == "license_not_enough_consumptions"
        assert await floats.used() == {}

    floats.run(story)


def test_what_the_catalogue_refused_is_not_remembered(floats: Floats) -> None:
    async def story() -> None:
        client = floats.client()
        await change(floats, retired)
        before = await floats.served.keys()
        for _ in range(2):
            assert (await client.add(3, **key("k"))).code == "license_not_found"
        assert await floats.served.keys() == before
        await change(floats, lambda line: replace(line, retired=False))
        granted = await client.add(3, **key("k"))
        assert (granted.total, "Idempotency-Replayed" in granted.headers) == (3, False)

    floats.run(story)


def test_ids_are_shared_by_all_doors_and_mean_one_thing(floats: Floats) -> None:
    """Whichever door a key came by first, at the others it is another request."""

    async def cmapi(name: str) -> Any:
        return await floats.served.http.post(
            f"/api/1.0/instances/{INSTANCE}/access_request",
            headers={"Authorization": f"Bearer {token()}", "Idempotency-Key": name},
            json={
                "hostId": {"type": "user", "value": "alice"},
                "incremental": True,
                "features": [{"name": "prod units", "count": 3}],
            },
        )

    async def story() -> None:
        await floats.settle(keys=keys_of("own"))
        old, new = floats.client(version=1), floats.client(version=2)
        assert (await new.add(3, **key("k"))).total == 3
        assert (await cmapi("l")).json()["statusList"] == []
        async with floats.nothing_moves():
            assert (await cmapi("k")).status_code == 422
            for asked in (
                old.add(3, **key("k")),
                old.add(3, **key("l")),
                new.add(3, **key("l")),
                new.add_feature("pages", 3, **key("k")),
                floats.client("bob").add(3, **key("k")),
            ):
                answer = await asked
                assert (answer.status, answer.code) == (400, "validation_error")
            assert (await new.add("3", **key("k"))).headers["Idempotency-Replayed"] == "true"

    floats.run(story)


def test_a_key_that_is_none_is_refused_and_counts_nothing(floats: Floats) -> None:
    async def story() -> None:
        client = floats.client()
        for name in ("", "a b", "x" * 256):
            assert (await client.add(1, **key(name))).code == "validation_error"
        assert await floats.used() == {}

    floats.run(story)


def test_outcomes_are_remembered_as_configured_and_as_long_as_they_may_be_sent_again(
    floats: Floats,
) -> None:
    settings = {"DEDUPE__RETENTION": "5m", "REDIS__DEADLINE_MS": "40000"}
    with floats_serving(floats.data_dir, **settings) as house:

        async def story() -> None:
            before = await house.served.keys()
            assert (await house.client().add(1, **key("k"))).status == 200
            assert (await house.client().add(1)).status == 200
            left = [
                await house.served.store.pttl(name)
                for name in await house.served.keys() - before
                if ":d:" in name
            ]
            assert [round(each / 10_000) for each in sorted(left)] == [8, 30]

        house.run(story)


def test_one_key_in_parallel_counts_once(floats: Floats) -> None:
    async def story() -> None:
        client = floats.client()
        answers = await asyncio.gather(*(client.add(3, **key("k")) for _ in range(20)))
        assert {each.content for each in answers} == {answers[0].content}
        assert sum("Idempotency-Replayed" not in each.headers for each in answers) == 1
        assert await floats.used() == {"units": 3}

    floats.run(story)


@pytest.mark.parametrize("version", [1, 2])
def test_a_retry_after_an_unknown_outcome_counts_once(floats: Floats, version: int) -> None:
    """The store is held while the call is under way: it is applied after its client gave up."""

    async def before() -> None:
        assert (await floats.client(version=version).add(1)).total == 1

    async def lose() -> None:
        await hurried.served.store.execute_command("CLIENT", "PAUSE", "60000", "WRITE")
        lost = await hurried.client(version=version).add(3, **key("k"))
        assert (lost.status, lost.body["status"], lost.code) == (503, 503, "unavailable")
        assert int(lost.headers["Retry-After"]) >= 1
        await hurried.served.store.execute_command("CLIENT", "UNPAUSE")

    async def after() -> None:
        again = await floats.client(version=version).add(3, **key("k"))
        assert (again.status, again.total) == (200, 4)
        assert await floats.used() == {"units": 4}

    floats.run(before)
    with floats_serving(floats.data_dir, REDIS__DEADLINE_MS="150") as hurried:
        hurried.served.run(lose())  # another gateway, which waits little for the store
    floats.served.run(after())
