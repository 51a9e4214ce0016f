"""What clients of the public record read of an answer, each trap named by what it says; signatures,
and why a request came to what it came to.

Source: protocols/licensespring.md 1.3, 2.1, 2.2 and 9.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.core.model import UNITS_MAX, FloatingLicense
from tests.licensespring.client import Answer
from tests.web.floats import INSTANCE, Floats, floats_serving


@pytest.fixture(scope="module")
def floats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Floats]:
    with floats_serving(tmp_path_factory.mktemp("floats")) as opened:
        yield opened


# What clients read --------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [1, 2])
def test_no_top_level_text_is_where_the_python_client_wants_objects(
    floats: Floats, version: int
) -> None:
    async def story() -> None:
        client = floats.client(version=version)
        for answer in (await client.register(), await client.borrow(), await client.add(1)):
            for body in (answer.body, answer.license):
                for name in ("user", "company", "customer", "product_details"):
                    assert not isinstance(body.get(name), str)

    floats.run(story)


@pytest.mark.parametrize("version", [1, 2])
def test_borrow_has_both_counters_and_the_licence_as_text(floats: Floats, version: int) -> None:
    """The python manager parses the shape of version 1 of either version."""

    async def story() -> None:
        body = (await floats.client(version=version).borrow()).body
        assert body["floating_slots_in_use"] == body["floating_in_use"] == 1
        assert json.loads(body["license_json"])["id"] == 77

    floats.run(story)


def test_the_licence_object_has_all_that_the_python_client_needs(floats: Floats) -> None:
    async def story() -> None:
        for version in (1, 2):
            own = (await floats.client(version=version).register()).license
            assert own["is_floating"] is True
            assert own["floating_timeout"] == 120  # minutes
            assert own["validity_period"] is None
            kinds = {each["feature_type"]: each for each in own["product_features"]}
            assert kinds["consumption"]["max_consumption"] == 50
            assert "max_consumptions" not in kinds["consumption"]
            if version == 2:
                assert own["license_features"] == own["product_features"]

    floats.run(story)


def test_seats_without_number_and_a_licence_without_product_are_told(floats: Floats) -> None:
    async def story() -> None:
        catalogue = await floats.settle()
        lines = tuple(
            replace(line, count=None, capacity=UNITS_MAX, licensespring=FloatingLicense(83))
            if line.id == "only-seats"
            else line
            for line in catalogue.lines
        )
        await floats.served.catalogues.put(replace(catalogue, lines=lines))
        client = floats.client(license_id=83)
        body = (await client.register()).body
        assert (body["floating_users"], body["license_type"]) == (UNITS_MAX, "perpetual")
        (only,) = (await client.users()).body
        assert (only["product"], only["product_id"]) == ("", 8)

    floats.run(story)


def test_what_other_servers_consumed_is_in_the_totals_that_are_read(floats: Floats) -> None:
    async def story() -> None:
        assert (await floats.client().add(3)).total == 3
        used = floats.served.catalogues.keys(INSTANCE).used
        (field,) = await floats.served.store.hkeys(used)
        await floats.served.store.hset(used, b"elsewhere|" + field, 4)
        for version in (1, 2):
            read = await floats.client(version=version).read()
            assert read.body["total_consumptions"] == 7

    floats.run(story)


def test_the_feature_call_names_its_maximum_as_its_version_does(floats: Floats) -> None:
    async def story() -> None:
        first = (await floats.client(version=1).add_feature("pages")).body
        assert first["max_consumption"] == first["max_consumptions"] == 50
        second = (await floats.client(version=2).add_feature("pages")).body
        assert second["max_consumptions"] == 50

    floats.run(story)


def test_every_4xx_has_a_body_with_a_message(floats: Floats) -> None:
    async def story() -> None:
        client = floats.client()
        asked: list[tuple[str, str, Any]] = [
            ("GET", "/api/v5/nosuch", None),
            ("DELETE", "/api/v5/license/77", None),
            ("POST", "/api/v5/license/77/consumption/add", {"consumptions": "x"}),
            ("GET", "/api/v5/auth/me", None),
            ("GET", "/api/v5/sync", None),
            ("POST", "/api/v4/register", {}),
        ]
        async with floats.nothing_moves():
            for method, path, body in asked:
                answer = await client.send(method, path, body)
                assert 400 <= answer.status < 500
                assert set(answer.body) - {"error"} == {"status", "code", "message"}
                assert answer.body["status"] == answer.status
                assert ("error" in answer.body) == path.startswith("/api/v5/auth/")

    floats.run(story)


def test_a_body_over_the_limit_is_a_413_of_this_shape(floats: Floats) -> None:
    async def story() -> None:
        answer = await floats.client().send("POST", "/api/v4/register", {"x": "y" * 70_000})
        assert (answer.status, answer.code) == (413, "too_large")

    floats.run(story)


# Signatures ---------------------------------------------------------------------------------------


def _compact(body: Any) -> bytes:
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


def test_a_signed_body_is_what_javascript_would_write(floats: Floats) -> None:
    """The node client verifies the body that it read and wrote again."""

    async def story() -> None:
        client = floats.client("Zoë <&> \u2028 東")
        for asked in (
            client.register(),
            client.borrow(),
            client.add(1),
            client.add_feature("pages"),
        ):
            answer = await asked
            assert answer.headers["LicenseSignature"]
            assert answer.content == _compact(answer.body)
            assert not any(key.isdigit() for key in _keys(answer.body))
            assert all(abs(number) <= 2**53 for number in _numbers(answer.body))
        (only,) = (await client.users()).body
        assert only["username"] == client.user

    floats.run(story)


def test_a_feature_code_is_not_escaped_in_a_signed_body(floats: Floats) -> None:
    async def story() -> None:
        catalogue = await floats.settle()
        lines = tuple(
            replace(line, licensespring=replace(line.licensespring, feature="Zoë <&> 東"))
            if line.id == "cad" and line.licensespring
            else line
            for line in catalogue.lines
        )
        await floats.served.catalogues.put(replace(catalogue, lines=lines))
        client = floats.client()
        await client.register()
        answer = await client.register_feature("Zoë <&> 東")
        assert "Zoë <&> 東".encode() in answer.content

    floats.run(story)


def test_what_is_refused_or_text_or_read_is_not_signed(floats: Floats) -> None:
    async def story() -> None:
        client = floats.client()
        answers: list[Answer] = [
            await client.add(10**9),
            await client.unregister(),
            await client.read(),
            await floats.client(version=1).add(1),
        ]
        assert ["licensesignature" in each.headers for each in answers] == [False] * 4

    floats.run(story)


def _keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield key
            yield from _keys(each)
    if isinstance(value, list):
        for each in value:
            yield from _keys(each)


def _numbers(value: Any) -> Iterator[int]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _numbers(each)
    elif isinstance(value, int):
        yield value


# Why --------------------------------------------------------------------------------------------


def test_consumption_is_explained_as_an_access_request_that_says_the_same(floats: Floats) -> None:
    with floats_serving(floats.data_dir, EXPLAIN__RETENTION="1h") as house:

        async def story() -> None:
            client, http = house.client(), house.served.http
            headers = {"Authorization": f"Bearer {house.token('ann', floating=False)}"}
            base = f"/api/1.0/instances/{INSTANCE}/requests"
            for key, units in (("why/1", 3), ("why/2", 98)):
                await client.add(units, headers={"Idempotency-Key": key})
            done, refused = [
                (await http.get(f"{base}/{key}", headers=headers)).json()["features"]
                for key in ("why/1", "why/2")
            ]
            assert [(each["name"], each["wants"][0]["granted"]) for each in done] == [
                ("prod units", 3)
            ]
            assert refused[0]["wants"][0]["code"] == "FEATURE_COUNT_INSUFFICIENT"
            await client.register(headers={"Idempotency-Key": "why/3"})
            assert (await http.get(f"{base}/why/3", headers=headers)).status_code < 500

        house.run(story)
