"""The flow of a LicenseSpring client, of version 1, of version 2, and with signatures; and each
trap that clients of the public record would fall into, named by what it says.

The client is our own (tests/licensespring/client.py). Source: protocols/licensespring.md 1.1 to
1.3, 2, 2.2 and 9.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.core.model import FloatingLicense, Line
from tests.licensespring.client import Client
from tests.vectors.credentials import keys_of, token
from tests.web.floats import INSTANCE, Floats, floats_serving


@pytest.fixture(scope="module")
def floats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Floats]:
    with floats_serving(tmp_path_factory.mktemp("floats")) as opened:
        yield opened


# The flow -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "verifies"), [(1, False), (2, False), (2, True)], ids=["v1", "v2", "v2 signed"]
)
def test_the_flow_of_the_build_checklist(floats: Floats, version: int, verifies: bool) -> None:
    async def story() -> None:
        chain = floats.chain if verifies else None
        client = floats.client(version=version, chain=chain)
        assert (await client.register()).status == 200
        noted = (await client.add(3)).total
        assert (await client.add_feature("pages", 2)).total == 2
        assert (await client.borrow("2029-05-06T00:00:00Z")).status == 200
        refused = await client.add(10**9)
        assert (refused.status, refused.code) == (400, "license_not_enough_consumptions")
        assert (await client.add(1)).total == noted + 1
        assert (await client.unregister()).body == "user_unregistered"
        assert await floats.used() == {"units": 4, "pages": 2}

    floats.run(story)


def test_both_versions_count_on_the_same_lines(floats: Floats) -> None:
    async def story() -> None:
        old, new = floats.client("old", version=1), floats.client("new", version=2)
        await old.register()
        assert (await new.register()).body["floating_in_use"] == 2
        assert (await old.add(40)).total == 40
        assert (await new.add(40)).total == 80
        assert (await old.add(21)).code == "license_not_enough_consumptions"
        assert (await new.add(20)).total == 100

    floats.run(story)


def test_a_crowd_of_both_versions_gets_exactly_the_capacity(floats: Floats) -> None:
    async def story() -> None:
        clients = [floats.client(f"u{at}", version=1 + at % 2) for at in range(20)]
        answers = await asyncio.gather(*(each.add(7) for each in clients))
        granted = [each for each in answers if each.status == 200]
        assert len(granted) == 14
        assert {each.code for each in answers} == {"", "license_not_enough_consumptions"}
        assert await floats.used() == {"units": 98}

    floats.run(story)


def _ask(floats: Floats, host: str, feature: str) -> Any:
    """Let a CMAPI client ask for a line of the licence."""
    return floats.served.http.post(
        f"/api/1.0/instances/{INSTANCE}/access_request",
        headers={"Authorization": f"Bearer {token()}"},
        json={
            "hostId": {"type": "string", "value": host},
            "incremental": True,
            "features": [{"name": feature}],
        },
    )


def test_everybody_unregistered_is_every_floating_client_and_no_other(floats: Floats) -> None:
    """Another's seat on the same line stays; the same name at the other door is another host."""

    async def story() -> None:
        await floats.settle(keys=keys_of("own"))
        granted = await _ask(floats, "alice", "prod seats")
        assert granted.json()["statusList"] == []
        assert (await floats.client("alice").register()).body["floating_in_use"] == 2
        assert len((await floats.client().users()).body) == 1
        for path in ("/api/v4/unregister/all", "/api/v4/unregister/all"):
            answer = await floats.client().send("GET", path)
            assert (answer.status, answer.content) == (200, b"")
        assert await floats.used() == {"seats": 1}

    floats.run(story)


def test_a_feature_released_for_everybody_is_that_feature_alone(floats: Floats) -> None:
    async def story() -> None:
        catalogue = await floats.settle()
        cad = next(line for line in catalogue.lines if line.id == "cad")
        cam = replace(
            cad,
            id="cam",
            feature="prod cam",
            number=99,
            licensespring=FloatingLicense(license_id=77, product="PROD", feature="cam"),
        )
        await floats.served.catalogues.put(replace(catalogue, lines=(*catalogue.lines, cam)))
        client, path = floats.client(), "/api/v5/license/77/feature/release_all"
        await client.register()
        for name in ("cad", "cam"):
            assert (await client.register_feature(name)).status == 200
        for wrong in ("pages", "none"):
            refused = await client.send("POST", path, {"feature": wrong})
            assert refused.code == "unsupported_product_feature"
        assert (await client.send("POST", path, {"feature": "cad"})).status == 200
        assert await floats.used() == {"seats": 1, "cam": 1}
        assert (await client.send("POST", path, {})).status == 200
        assert await floats.used() == {"seats": 1}

    floats.run(story)


def test_users_of_a_licence_are_no_others_users(floats: Floats) -> None:
    async def story() -> None:
        await Client(floats.served.http, "SEATS", "bob", version=1).register()
        assert (await floats.client().users()).body == []
        await floats.client().register()
        (only,) = (await floats.client(license_id=8).users()).body
        assert (only["username"], only["license_id"]) == ("bob", 8)

    floats.run(story)


def test_who_holds_nothing_unregisters_all_the_same(floats: Floats) -> None:
    async def story() -> None:
        for version in (1, 2):
            for product, license_id in (("PROD", 77), ("OPEN", 79)):
                client = Client(floats.served.http, product, "alice", license_id, version=version)
                assert (await client.unregister()).body == "user_unregistered"

    floats.run(story)


def test_a_licence_without_a_key_is_not_there_for_who_names_none(floats: Floats) -> None:
    async def story() -> None:
        client = floats.client()
        for product in ("PROD", "KEYED"):
            path = f"/api/v4/addProduct?product={product}&username=ann&password=x"
            assert (await client.send("GET", path)).code == "license_not_found"

    floats.run(story)


@pytest.mark.slow
def test_everybody_is_more_than_one_step_of_a_walk(floats: Floats) -> None:
    async def story() -> None:
        catalogue = await floats.settle()
        lines = tuple(
            replace(line, count=700, capacity=700) if line.id == "seats" else line
            for line in catalogue.lines
        )
        await floats.served.catalogues.put(replace(catalogue, lines=lines))
        answers = await asyncio.gather(
            *(floats.client(f"u{at}", version=1).register() for at in range(600))
        )
        assert {each.status for each in answers} == {200}
        assert len((await floats.client().users()).body) == 600
        done = await floats.client().send("POST", "/api/v5/license/77/user/unregister_all", {})
        assert done.status == 200
        assert await floats.used() == {}

    floats.run(story)


def test_what_is_provisioned_from_behind_is_there_at_once(floats: Floats) -> None:
    """A gateway that remembers the former catalogue looks again before it refuses."""

    async def story() -> None:
        client = floats.client()
        assert (await client.add_feature("new")).code == "unsupported_product_feature"
        assert (await client.add(1, max_overages=3, allow_overages=True)).status == 400
        catalogue = await floats.settle()

        def changed(line: Line) -> Line:
            if line.id == "pages":
                sold = FloatingLicense(license_id=77, product="PROD", feature="new")
                return replace(line, licensespring=sold)
            return replace(line, client_overages=line.id == "units")

        lines = tuple(map(changed, catalogue.lines))
        await floats.served.catalogues.put(replace(catalogue, lines=lines))
        assert (await client.add_feature("new")).total == 1
        assert (await client.add(1, max_overages=3, allow_overages=True)).total == 1
        stranger = Client(floats.served.http, "LATER", "alice", version=1)
        assert (await stranger.add(1)).code == "unknown_product"

    floats.run(story)


# Choosing a version -------------------------------------------------------------------------------


def test_a_client_chooses_by_itself(floats: Floats) -> None:
    async def story() -> None:
        client = floats.client(version=0, license_id=None)
        assert await client.choose() == 2
        assert client.license_id == 77

    floats.run(story)


def test_with_v2_false_clients_choose_version_1(floats: Floats) -> None:
    """Not even a key is made; that nothing else of version 2 is there follows from the pong."""
    with floats_serving(floats.data_dir, LICENSESPRING__V2="false") as old:

        async def story() -> None:
            client = old.client(version=0, license_id=None)
            assert await client.choose() == 1
            assert (await client.register()).status == 200
            ping = await client.send("GET", "/api/v5/ping")
            assert (ping.status, ping.code) == (404, "not_found")
            assert (await client.send("GET", "/api/v5/license")).status == 404

        old.run(story)


def test_without_an_instance_there_are_no_doors(floats: Floats) -> None:
    with floats_serving(floats.data_dir, LICENSESPRING__INSTANCE="") as closed:

        async def story() -> None:
            for path in ("/api/v5/ping", "/api/v4/license?product=PROD", "/auth"):
                answer = await closed.served.http.get(path)
                assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
            assert (await closed.served.http.get("/")).json()["key"] == "gateway.notFound"

        closed.run(story)


# What clients send --------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [1, 2])
def test_numbers_and_booleans_may_be_texts_and_nulls_are_nothing(
    floats: Floats, version: int
) -> None:
    said: list[dict[str, Any]] = [
        {"consumptions": "2"},
        {"allow_overages": "false", "max_overages": "0"},
        {"max_overages": None, "allow_overages": None},
        {"allowOverages": False},  # as the node client spells it
        {"Allowe_overages": False},  # as a table of the documentation does
        {"ip_local": None, "user_info": None, "nobody": {"knows": [1]}},
    ]

    async def story() -> None:
        client = floats.client(version=version)
        for at, more in enumerate(said, 1):
            assert (await client.add(**{"consumptions": 2} | more)).total == 2 * at, more

    floats.run(story)


@pytest.mark.parametrize("version", [1, 2])
def test_what_is_no_integer_is_refused_and_counts_nothing(floats: Floats, version: int) -> None:
    async def story() -> None:
        for amount in (1.5, 1.0, "1.0", "1e2", "", True, [1], {}, "٣", 10**30):
            refused = await floats.client(version=version).add(amount)
            assert (refused.status, refused.code) == (400, "validation_error"), amount
            assert refused.body["message"].startswith("consumptions: must be ")
        assert await floats.used() == {}

    floats.run(story)


def test_a_mac_number_as_text_is_a_user(floats: Floats) -> None:
    """The higher-level manager of the python client always registers with it."""

    async def story() -> None:
        client = floats.client(str(uuid.getnode()))
        await client.register()
        (only,) = (await client.users()).body
        assert only["username"] == client.user

    floats.run(story)


def test_capitalised_register_keys_are_the_same_user(floats: Floats) -> None:
    async def story() -> None:
        client = floats.client("alice")
        await client.register()
        body = {"Username": "alice", "Password": "secret", "Role": "user"}
        answer = await client.send("POST", "/api/v5/license/77/user/register", body)
        assert answer.body["floating_in_use"] == 1

    floats.run(story)


def test_a_bare_key_in_the_query_is_a_product(floats: Floats) -> None:
    async def story() -> None:
        client = floats.client()
        for query, found in (("?PROD", [77]), ("?product=TWICE", [70, 69]), ("?NONE", [])):
            listed = await client.send("GET", f"/api/v5/license{query}")
            assert [each["id"] for each in listed.body] == found
        assert len((await client.send("GET", "/api/v5/license")).body) == 7

    floats.run(story)


def test_license_none_in_the_path_is_not_found(floats: Floats) -> None:
    async def story() -> None:
        client = floats.client(license_id=None)
        asked = [client.register(), client.add(1), client.borrow(), client.users()]
        asked += [floats.client(version=1, license_id=each).add(1) for each in (-5, 78)]
        for each in asked:
            answer = await each
            assert (answer.status, answer.code) == (400, "license_not_found")
        assert await floats.used() == {}

    floats.run(story)


def test_a_body_without_content_type_is_taken_and_another_type_is_not(floats: Floats) -> None:
    async def story() -> None:
        http, said = floats.served.http, b'{"product": "PROD"}'
        path = "/api/v4/add_consumption"
        assert (await http.post(path, content=said)).status_code == 200
        odd = await http.post(path, content=said, headers={"Content-Type": "text/plain"})
        assert (odd.status_code, odd.json()["code"]) == (415, "unsupported_media_type")
        assert await floats.used() == {"units": 1}

    floats.run(story)
