"""What floating clients need of the store: holds as they are kept, what others took, a catalogue
that comes with an ask, and data of before all that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count
from math import inf
from pathlib import Path
from typing import Any

import msgspec

from gateway.core.calls import INCREMENTAL, LATER, SET, TELL, Reply, Verdict
from gateway.core.catalogue import CatalogueIndex, period_of
from gateway.core.model import (
    AccessRequest,
    Catalogue,
    FloatingLicense,
    Held,
    Holding,
    Host,
    Line,
    Model,
    Reset,
    Told,
    Want,
)
from gateway.core.ports import Step
from gateway.store.calls import Job
from gateway.store.durable import Durable
from gateway.store.elsewhere import TAKEN_MAX, Taken, note_elsewhere
from gateway.store.explained import read_why
from gateway.store.keys import InstanceKeys
from gateway.store.opening import Store, open_store
from gateway.store.reads import Bounds, read_holders, read_standing
from tests.stores.homes import PATIENT_S

HOLDER, TTL_MS = "a:1", 60_000
NOW_MS = 1_784_000_000_000  # in July 2026: no month begins while a test goes on
PRELUDE = (Path(__file__).parents[1] / "model" / "clock.lua").read_text()
SOLD = FloatingLicense(license_id=77, product="PROD", license_key="key")
NAMES = count(1)


def line(line_id: str, model: Model, units: int, **more: Any) -> Line:
    said: dict[str, Any] = {"feature": line_id.lower(), "version": "1.0", "capacity": units} | more
    return Line(id=line_id, model=model, count=units, **said)


CATALOGUE = Catalogue(
    id="FLOATING",
    lines=(
        line("USES", Model.METERED, 100, reset=Reset.MONTHLY, licensespring=SOLD),
        line("SEATS", Model.CONCURRENT, 3),
    ),
)


@dataclass
class Office:
    """An instance in a store, its catalogue as it was read, and one way to ask."""

    store: Store
    index: CatalogueIndex

    @property
    def keys(self) -> InstanceKeys:
        return self.store.catalogues.keys("FLOATING")

    def job(self, *wishes: tuple[str, int], flags: int = SET | LATER, **more: Any) -> Job:
        new = more.pop("new", None)
        index = CatalogueIndex(new) if new else self.index
        wants = [
            (index.resolve_line(index.line[name]), [(units, at)])
            for at, (name, units) in enumerate(wishes)
        ]
        said = ("one meaning", "echo", more.pop("host", "LICENSESPRING:ann"), flags | INCREMENTAL)
        name = more.pop("name", f"job-{next(NAMES)}")
        blob = msgspec.msgpack.encode(new) if new else b""
        return Job(self.index, wants, name, TTL_MS, *said, catalogue=blob, **more)

    async def ask(self, *wishes: tuple[str, int], **more: Any) -> Reply:
        return await self.store.lane.submit(self.job(*wishes, **more))

    async def counters(self) -> list[dict[bytes, bytes]]:
        keys, client = self.keys, self.store.client
        hashes = (keys.used, keys.holds, keys.cat)
        return [dict(await client.hgetall(key)) for key in hashes]

    async def note(self, *taken: Taken, holder: str = HOLDER) -> Step:
        durable = Durable(self.store.topology)
        return await note_elsewhere(durable, self.store.scripts, self.keys, holder, taken)


def played(tmp_path: Path, story: Callable[[Office], Awaitable[None]]) -> None:
    async def whole() -> None:
        settings: dict[str, Any] = {"prelude": PRELUDE, "deadline_s": PATIENT_S}
        async with open_store("embedded", tmp_path, partitions=2, **settings) as store:
            await store.client.set("gw:clock", NOW_MS)
            await store.catalogues.put(CATALOGUE)
            index = await store.catalogues.read("FLOATING")
            assert index is not None
            office = Office(store, index)
            await store.client.set(office.keys.lease, HOLDER)
            await story(office)

    asyncio.run(whole())


def allowing(office: Office, units: int) -> Catalogue:
    """The next version, in which more may be consumed."""
    now = office.index.catalogue
    lines = tuple(
        msgspec.structs.replace(each, capacity=units) if each.id == "USES" else each
        for each in now.lines
    )
    return msgspec.structs.replace(now, version=now.version + 1, lines=lines)


def test_holders_are_told_with_what_is_kept_of_their_hold(tmp_path: Path) -> None:
    async def story(office: Office) -> None:
        first = await office.ask(("SEATS", 1))
        assert first.outcome is not None
        began_ms = first.outcome.at_ms
        (held,) = first.outcome.held
        await office.ask(("SEATS", 2), flags=SET)
        bounds = Bounds(0, 9, NOW_MS, inf)
        ((_, served),) = await read_holders(office.store.client, office.keys, "SEATS", bounds)
        kept = served.holding
        assert kept is not None
        assert (kept.count, kept.since_ms, kept.borrowed) == (2, began_ms, True)
        assert kept.lapses_ms >= held.lapses_ms

    played(tmp_path, story)


def test_a_hold_of_before_is_read_renewed_and_given_back(tmp_path: Path) -> None:
    """It was packed without the moment at which it began; nobody knows that any more."""

    async def story(office: Office) -> None:
        client, keys, host = office.store.client, office.keys, "LICENSESPRING:ann"
        until_ms = NOW_MS + 60_000
        packed = msgspec.msgpack.encode([("SEATS", 2, until_ms, 2)])
        await client.hset(keys.holds, host, packed)
        await client.hset(keys.used, "SEATS|0", 2)
        await client.zadd(keys.lapse, {host: until_ms})
        bounds = Bounds(0, 9, until_ms - 1, inf)
        ((_, served),) = await read_holders(client, keys, "SEATS", bounds)
        assert Holding("SEATS", 2, until_ms, 2) == served.holding
        reply = await office.ask(("SEATS", 2))
        assert reply.outcome is not None
        (held,) = reply.outcome.held
        assert (held.count, held.lapses_ms > until_ms) == (2, True)
        kept = msgspec.msgpack.decode(await client.hget(keys.holds, host))
        assert kept == [["SEATS", 2, held.lapses_ms, 2, 0]]
        assert (await office.ask(("SEATS", 0))).outcome is not None
        assert (await client.hgetall(keys.holds), await client.hget(keys.used, "SEATS|0")) == (
            {},
            b"0",
        )

    played(tmp_path, story)


def test_only_the_leases_holder_says_what_others_took(tmp_path: Path) -> None:
    async def story(office: Office) -> None:
        uses = office.index.line["USES"]
        before = await office.counters()
        assert await office.note(Taken.at(uses, NOW_MS, 60), holder="b:2") is Step.LEASE_LOST
        assert before == await office.counters()
        for _ in range(2):  # a repeat changes nothing more
            assert await office.note(Taken.at(uses, NOW_MS, 60)) is Step.DONE
        reply = await office.ask(("USES", 41), flags=TELL)
        assert reply.outcome is not None
        assert [each.available for each in reply.outcome.shortfalls] == [40]
        assert [Told("USES", 0, 60)] == reply.outcome.told
        label, _ = period_of(uses, NOW_MS)
        standing = await read_standing(office.store.client, office.keys)
        assert (standing.used("USES", label), standing.elsewhere("USES", label)) == (0, 60)
        assert await office.note(Taken.at(uses, NOW_MS, 0)) is Step.DONE
        assert (await read_standing(office.store.client, office.keys)).elsewhere("USES", label) == 0

    played(tmp_path, story)


def test_a_period_that_only_others_used_is_forgotten_when_it_is_due(tmp_path: Path) -> None:
    async def story(office: Office) -> None:
        client, keys = office.store.client, office.keys
        await office.note(Taken("USES", "m20200101", -7, 1))
        assert await client.hget(keys.used, "elsewhere|USES|m20200101") == b"-7"
        assert await client.zscore(keys.due, "FLOATING") == 1.0
        await office.ask(("SEATS", 1))
        assert not await client.hexists(keys.used, "elsewhere|USES|m20200101")
        assert await client.zscore(keys.lapse, "p|USES|m20200101") is None

    played(tmp_path, story)


def test_what_others_took_of_many_lines_is_noted(tmp_path: Path) -> None:
    async def story(office: Office) -> None:
        several = [Taken(f"L{n}", "0", n, 0) for n in range(1, TAKEN_MAX + 2)]
        assert await office.note(*several) is Step.DONE
        standing = await read_standing(office.store.client, office.keys)
        assert sum(standing.elsewhere(each.line, "0") for each in several) == sum(
            each.units for each in several
        )
        assert await office.note() is Step.DONE

    played(tmp_path, story)


def test_why_a_request_was_refused_tells_what_others_took(tmp_path: Path) -> None:
    async def story(office: Office) -> None:
        uses = office.index.line["USES"]
        await office.note(Taken.at(uses, NOW_MS, 60))
        await office.ask(("USES", 41), ("SEATS", 1), flags=0, name="one", explain_ms=TTL_MS)
        why = await read_why(office.store.client, office.keys, "one")
        assert why is not None
        rows = [table.rows[0] for table in why.tables]
        assert [(row.id, row.used, row.elsewhere, row.version) for row in rows] == [
            ("USES", 0, 60, "1.0"),
            ("SEATS", 0, 0, "1.0"),
        ]

    played(tmp_path, story)


def test_a_catalogue_comes_into_force_with_the_ask_that_needs_it(tmp_path: Path) -> None:
    """Who asks by the former one in the same call is told the version, and reads it."""

    async def story(office: Office) -> None:
        new = allowing(office, 120)
        jobs = (office.job(("USES", 110), new=new), office.job(("USES", 1)))
        granted, stale = await asyncio.gather(*map(office.store.lane.submit, jobs))
        assert granted.outcome is not None
        assert granted.outcome.shortfalls == []
        assert Reply(Verdict.STALE, version=2) == stale
        found = await office.store.catalogues.read("FLOATING")
        assert found is not None
        assert new == found.catalogue
        office.index = found
        assert await shortfall(office, 11) == [10]

    played(tmp_path, story)


def test_a_refused_ask_leaves_the_catalogue_and_a_repeat_brings_none(tmp_path: Path) -> None:
    async def story(office: Office) -> None:
        before = await office.counters()
        refused = await office.ask(("USES", 121), new=allowing(office, 120))
        assert refused.outcome is not None
        assert [each.available for each in refused.outcome.shortfalls] == [120]
        assert before == await office.counters()
        first = await office.ask(("USES", 110), new=allowing(office, 120), name="one")
        found = await office.store.catalogues.read("FLOATING")
        assert found is not None
        office.index = found
        before = await office.counters()
        again = await office.ask(("USES", 110), new=allowing(office, 500), name="one")
        assert (Verdict.REPLAYED, first.outcome) == (again.verdict, again.outcome)
        assert before == await office.counters()

    played(tmp_path, story)


def test_a_catalogue_of_any_bytes_and_size_is_written_as_it_is(tmp_path: Path) -> None:
    async def story(office: Office) -> None:
        job = office.job(("USES", 1))
        job.catalogue = bytes(range(256)) * 4_000
        assert (await office.store.lane.submit(job)).verdict is Verdict.DONE
        assert await office.store.client.hget(office.keys.cat, "blob") == job.catalogue

    played(tmp_path, story)


def test_cmapi_clients_and_floating_ones_share_a_line(tmp_path: Path) -> None:
    async def story(office: Office) -> None:
        request = AccessRequest(
            host=Host("user", "carl"), wants=(Want("seats", "0", 2),), incremental=True
        )
        job = Job(office.index, office.index.resolve(request), "c", TTL_MS, "f", "", "USER:carl", 1)
        reply = await office.store.lane.submit(job)
        assert reply.outcome is not None
        assert [each.count for each in reply.outcome.held] == [2]
        floating = await office.ask(("SEATS", 2))
        assert floating.outcome is not None
        assert [each.available for each in floating.outcome.shortfalls] == [1]
        assert floating.outcome.held == []
        one = await office.ask(("SEATS", 1))
        assert one.outcome is not None
        assert [Held("SEATS", 1, one.outcome.held[0].lapses_ms)] == one.outcome.held

    played(tmp_path, story)


async def shortfall(office: Office, units: int) -> list[int]:
    reply = await office.ask(("USES", units))
    assert reply.outcome is not None
    return [each.available for each in reply.outcome.shortfalls]
