"""One pool, two doors: CMAPI and LicenseSpring clients race for the last units and the last
seats of one licence; settings that are changed while others consume; what is reported of both.

Source: protocols/licensespring.md 4, SEMANTICS 4 and 11.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.core.model import Reset
from gateway.store.catalogues import CatalogueConflict
from tests.licensespring.client import Client
from tests.vectors.credentials import keys_of, token
from tests.web.floats import INSTANCE, Floats, floats_serving

UNITS, SEATS = 100, 9  # of the licence
CROWD = 12  # clients of either protocol
TRIES_MAX = 100


@pytest.fixture(scope="module")
def floats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Floats]:
    with floats_serving(tmp_path_factory.mktemp("floats")) as opened:
        yield opened


async def cmapi(floats: Floats, host: str, feature: str, count: int) -> int:
    """Let a CMAPI client ask for all of a count or nothing; give what it was granted."""
    answer = await floats.served.http.post(
        f"/api/1.0/instances/{INSTANCE}/access_request",
        headers={"Authorization": f"Bearer {token()}"},
        json={
            "hostId": {"type": "user", "value": host},
            "incremental": True,
            "features": [{"name": feature, "count": count}],
        },
    )
    assert answer.status_code == 200, answer.text
    said = answer.json()
    return 0 if said["statusList"] else int(said["features"][0]["count"])


async def consume(client: Client, count: int) -> int:
    answer = await client.add(count)
    assert answer.code in ("", "license_not_enough_consumptions")
    return count if answer.status == 200 else 0


async def register(client: Client) -> int:
    answer = await client.register()
    assert answer.code in ("", "floating_not_available")
    return 1 if answer.status == 200 else 0


async def command(floats: Floats, *words: str) -> Any:
    """Run a command beside the gateway, over its store; give what it said as JSON."""
    program = "from gateway.cli import main; main()"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, *words, "--data-dir", str(floats.data_dir)),
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said
    return json.loads(said)


async def crowd(floats: Floats) -> list[Client]:
    """Provision UNITS and SEATS, for clients of both versions."""
    catalogue = await floats.settle(keys=keys_of("own"))
    changes: dict[str, dict[str, Any]] = {
        "units": {"reset": Reset.NONE},  # or it would be two pools at midnight
        "seats": {"count": SEATS, "capacity": SEATS},
    }
    lines = tuple(replace(line, **changes.get(line.id, {})) for line in catalogue.lines)
    await floats.served.catalogues.put(replace(catalogue, lines=lines))
    return [floats.client(f"u{at}", version=1 + at % 2) for at in range(CROWD)]


async def by_turns(theirs: list[Any], ours: list[Any]) -> tuple[list[int], list[int]]:
    """Let all ask at once, clients of either door by turns; give what each was granted."""
    granted = await asyncio.gather(
        *(each for pair in zip(theirs, ours, strict=True) for each in pair)
    )
    return granted[::2], granted[1::2]


def test_two_doors_race_for_one_pool_and_exactly_the_capacity_is_granted(floats: Floats) -> None:
    """Users of one name are two hosts. The books and the report know no doors."""

    async def story() -> None:
        clients = await crowd(floats)
        theirs: list[int] = []
        ours: list[int] = []
        for count in (7, 1):  # first what not all can have, then to the last unit
            added, counted = await by_turns(
                [consume(each, count) for each in clients],
                [cmapi(floats, each.user, "prod units", count) for each in clients],
            )
            theirs, ours = theirs + added, ours + counted
        assert sum(theirs) + sum(ours) == UNITS
        assert min(sum(theirs), sum(ours)) > 0
        registered, held = await by_turns(
            [register(each) for each in clients],
            [cmapi(floats, each.user, "prod seats", 1) for each in clients],
        )
        assert sum(registered) + sum(held) == SEATS
        assert min(sum(registered), sum(held)) > 0
        assert await floats.used() == {"units": UNITS, "seats": SEATS}
        assert (await clients[1].read()).body["floating_in_use"] == SEATS
        assert len((await clients[1].users()).body) == sum(registered)

        books, report = await asyncio.gather(
            command(floats, "verify", INSTANCE, "--format", "json", "--deep"),
            command(floats, "report", INSTANCE, "--by", "line", "--format", "json"),
        )
        assert books["conservation"] == "OK"
        lines = {each["id"]: each for each in books["instances"][0]["lines"]}
        assert (lines["units"]["acked"], lines["units"]["used"]) == (UNITS, UNITS)
        assert lines["seats"]["held"] == SEATS
        rows = {each["line"]: each for each in report["rows"]}
        refused = {"units": (theirs + ours).count(0), "seats": (registered + held).count(0)}
        assert (rows["units"]["units"], rows["seats"]["peak"]) == (UNITS, SEATS)
        assert {line: rows[line]["denied"] for line in refused} == refused

    floats.run(story)


def test_settings_change_while_others_consume_and_provision(floats: Floats) -> None:
    """Each answer has the setting that its own request made, and no change is lost to another."""

    async def provision(most: int) -> int:
        """Give a line a notice, as another process would."""
        for _ in range(TRIES_MAX):
            index = await floats.served.catalogues.read(INSTANCE)
            assert index is not None
            lines = tuple(
                replace(line, notice=f"{most}") if line.id == "units" else line
                for line in index.catalogue.lines
            )
            try:
                put = await floats.served.catalogues.put(replace(index.catalogue, lines=lines))
            except CatalogueConflict:
                continue
            return put.version
        raise AssertionError("a file is never provisioned")

    async def changed(client: Client, most: int) -> int:
        for _ in range(TRIES_MAX):
            answer = await client.add(
                1,
                allow_overages="true",
                max_overages=most,
                headers={"Idempotency-Key": client.user},
            )
            if answer.status == 200:
                assert answer.body["max_overages"] == most
                return 1
            assert answer.status == 503  # others changed it in between, too often
        raise AssertionError("a setting is never changed")

    async def story() -> None:
        version = (await floats.settle()).version
        clients = [
            Client(floats.served.http, "OPEN", f"u{at}", 79, version=1 + at % 2) for at in range(8)
        ]
        done = await asyncio.gather(
            *(changed(each, 100 + at) for at, each in enumerate(clients)),
            *(consume(each, 1) for each in clients),
            *(provision(at) for at in range(2)),
        )
        index = await floats.served.catalogues.read(INSTANCE)
        assert index is not None
        assert index.catalogue.version == version + len(clients) + 2
        assert index.line["units"].notice in ("0", "1")
        assert int(index.line["open"].overdraft) in range(100, 100 + len(clients))
        assert await floats.used() == {"open": sum(done[: 2 * len(clients)])}

    floats.run(story)


def test_a_setting_that_is_refused_with_its_units_is_not_made(floats: Floats) -> None:
    """One step: whoever lowers the limit below what is used by now gets neither."""

    async def story() -> None:
        version = (await floats.settle()).version
        client = Client(floats.served.http, "OPEN", "alice", 79, version=1)
        assert (await client.add(13)).total == 13
        off = {"allow_overages": False, "max_overages": 0}
        assert (await client.add(1, **off)).code == "license_not_enough_consumptions"
        after = (await client.add(1)).body
        assert (after["allow_overages"], after["max_overages"]) == (True, 5)
        index = await floats.served.catalogues.read(INSTANCE)
        assert index is not None
        assert index.catalogue.version == version
        assert await floats.used() == {"open": 14}

    floats.run(story)
