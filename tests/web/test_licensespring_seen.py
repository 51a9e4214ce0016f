"""What administrators see of what LicenseSpring clients do: why a call came to what it came to, and
what other servers of a licence took of it.

Source: INTERFACE 4, protocols/licensespring.md 4 and 5, DESIGN 4.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.core.model import FloatingLicense
from tests.licensespring.client import Client
from tests.web.floats import INSTANCE, Floats, floats_serving

BASE = f"/api/1.0/instances/{INSTANCE}"


@pytest.fixture(scope="module")
def floats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Floats]:
    """Doors that keep why for an hour."""
    with floats_serving(tmp_path_factory.mktemp("seen"), EXPLAIN__RETENTION="1h") as opened:
        yield opened


async def read(floats: Floats, path: str) -> Any:
    headers = {"Authorization": f"Bearer {floats.token('ann', floating=False)}"}
    answer = await floats.served.http.get(f"{BASE}/{path}", headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def why(floats: Floats, key: str) -> Any:
    return await read(floats, f"requests/{key}")


def key(name: str) -> dict[str, str]:
    return {"Idempotency-Key": name}


async def wants(floats: Floats, name: str) -> list[tuple[Any, ...]]:
    """Give, of each feature that was decided over, its name and what became of its want."""
    return [
        (told["name"], want["asked"], want["granted"], want["code"], want["why"])
        for told in (await why(floats, name))["features"]
        for want in told["wants"]
    ]


async def others_took(floats: Floats, line: str, units: int) -> None:
    """Let a line be shared with another server that consumed so many of it in this period."""
    catalogue = await floats.settle()
    shared = FloatingLicense(license_id=77, product="PROD", license_key="KEY-77")
    lines = tuple(
        replace(each, licensespring=shared) if each.id == line else each for each in catalogue.lines
    )
    await floats.settle(lines=lines)
    await floats.client("nobody").add(1)
    used = floats.served.catalogues.keys(INSTANCE).used
    (field,) = [name.decode() for name in await floats.served.store.hkeys(used)]
    assert field.startswith(f"{line}|")
    await floats.served.store.hset(used, f"elsewhere|{field}", units)


def test_a_registration_is_a_seat_that_the_host_is_to_hold(floats: Floats) -> None:
    async def story() -> None:
        client = floats.client()
        await client.register(headers=key("reg-1"))
        told = await why(floats, "reg-1")
        # Lines that the answer only tells of decided nothing.
        assert await wants(floats, "reg-1") == [
            ("prod seats", 1, 1, None, "The host was to hold 1 of it, and does")
        ]
        assert (told["heldBefore"], told["heldAfter"]) == ({}, {"seats": 1})
        (seats,) = told["features"][0]["lines"]
        assert (seats["available"], seats["change"]) == (2, 1)
        await client.register(headers=key("reg-2"))
        (seats,) = (await why(floats, "reg-2"))["features"][0]["lines"]
        # Its own seat is a part of what it asks for.
        assert (seats["used"], seats["available"], seats["change"]) == (1, 2, 0)
        await floats.client("bob").register()
        await floats.client("eve").register(headers=key("reg-3"))
        assert await wants(floats, "reg-3") == [
            (
                *("prod seats", 1, 0, "FEATURE_COUNT_INSUFFICIENT"),
                "Of 1 asked for there were 0; partial was false, so nothing at all changed",
            )
        ]

    floats.run(story)


def test_a_borrow_and_an_unregistration_are_told_too(floats: Floats) -> None:
    async def story() -> None:
        client = floats.client()
        await client.borrow(headers=key("out-1"))
        assert [each[:3] for each in await wants(floats, "out-1")] == [("prod seats", 1, 1)]
        await client.unregister(headers=key("out-2"))
        told = await why(floats, "out-2")
        assert ("prod seats", 0, 0, None, "The host was to hold none of it") in await wants(
            floats, "out-2"
        )
        assert (told["heldBefore"], told["heldAfter"]) == ({"seats": 1}, {})
        assert told["released"] == {}
        consumption = floats.client(license_id=70)  # a licence without seats
        consumption.product = "TWICE"
        assert (await consumption.unregister(headers=key("out-3"))).status == 200
        assert (await why(floats, "out-3"))["features"] == []

    floats.run(story)


def test_a_feature_is_told_with_the_seat_that_it_presupposes(floats: Floats) -> None:
    async def story() -> None:
        client = floats.client()
        refused = await client.register_feature("cad", headers=key("cad-1"))
        assert refused.code == "license_not_found"
        seat, cad = await wants(floats, "cad-1")
        assert seat[:4] == ("prod seats", 0, 0, "NOT_HELD")
        assert seat[4].startswith("The host had to hold 1 of it already, and held 0; partial was")
        assert cad[:4] == ("prod cad", 1, 0, None)
        await client.register()
        await client.register_feature("cad", headers=key("cad-2"))
        seat, cad = await wants(floats, "cad-2")
        assert seat[1:] == (0, 0, None, "The host had to hold 1 of it already, and did")
        assert cad[1:] == (1, 1, None, "The host was to hold 1 of it, and does")
        told = await why(floats, "cad-2")
        assert told["heldAfter"] == {"seats": 1, "cad": 1}
        assert [each["lines"][0]["available"] for each in told["features"]] == [None, 1]

    floats.run(story)


def test_a_seat_of_another_licence_stays_whatever_its_feature_is_called(floats: Floats) -> None:
    async def story() -> None:
        lines = (await floats.settle()).lines
        (seats,) = (line for line in lines if line.id == "seats")
        other = FloatingLicense(license_id=99, product="OTHER")
        # One feature to clients of CMAPI, two licences to those of LicenseSpring.
        await floats.settle(
            lines=(*lines, replace(seats, id="twin", number=99, licensespring=other))
        )
        await Client(floats.served.http, "OTHER", "alice", version=1).register()
        await floats.client().register(headers=key("two-1"))
        told = await why(floats, "two-1")
        assert told["heldAfter"] == {"seats": 1, "twin": 1}
        await floats.client().unregister(headers=key("two-2"))
        told = await why(floats, "two-2")
        assert (told["heldAfter"], told["released"]) == ({"twin": 1}, {})

    floats.run(story)


def test_units_that_come_back_are_returned_not_undone(floats: Floats) -> None:
    async def story() -> None:
        client = floats.client(license_id=70)
        await client.add(-4, headers=key("back-1"))
        assert await wants(floats, "back-1") == [
            ("newer units", -4, -4, None, "All of it was returned")
        ]
        (line,) = (await why(floats, "back-1"))["features"][0]["lines"]
        assert (line["change"], line["undoable"], line["available"]) == (-4, None, None)

    floats.run(story)


@pytest.mark.parametrize("elsewhere", [60, -30])
def test_what_others_took_is_not_available(floats: Floats, elsewhere: int) -> None:
    """Wherever it is shown: in why, in the reads of features, in capacity."""

    async def story() -> None:
        await others_took(floats, "units", elsewhere)
        await floats.client().add(39, headers=key(f"shared{elsewhere}"))
        (line,) = (await why(floats, f"shared{elsewhere}"))["features"][0]["lines"]
        assert (line["used"], line["elsewhere"]) == (1, elsewhere)
        assert line["available"] == 99 - elsewhere
        (units,) = [each for each in await read(floats, "features") if each["featureId"] == "units"]
        assert units["used"] == units["sharedUsed"] == max(0, 40 + elsewhere)
        totals = (await read(floats, "features/summaries"))["prod units"]["1.0"]
        assert (totals["totalUsed"], totals["totalAvailable"]) == (
            units["used"],
            60 - elsewhere,
        )
        near = (await read(floats, "usage/capacity"))["lines"]
        full = {each["line"]: (each["used"], each["level"]) for each in near}
        assert full.get("units") == ((100, 100) if elsewhere == 60 else None)

    floats.run(story)


def test_more_back_than_was_consumed_is_nothing_used(floats: Floats) -> None:
    """Below 0 no reader of CMAPI expects anything."""

    async def story() -> None:
        await others_took(floats, "units", -60)
        (units,) = [each for each in await read(floats, "features") if each["featureId"] == "units"]
        assert (units["used"], units["overdraftUsedCount"]) == (0, 0)
        totals = (await read(floats, "features/summaries"))["prod units"]["1.0"]
        assert (totals["totalUsed"], totals["totalAvailable"]) == (0, 159)

    floats.run(story)
