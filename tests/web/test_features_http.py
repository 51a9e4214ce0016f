"""The reads of features over HTTP: who may, what is listed, and that it is right at its moment.

Source: protocols/cmapi.md 3.3, 3.4 and Q14, SEMANTICS 3, 4, 7 and 10.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.core.model import Line, Reset, Role
from gateway.core.provisioning import next_catalogue
from gateway.store import reads
from gateway.store.catalogues import Catalogues
from gateway.store.keys import InstanceKeys
from gateway.store.reads import Standing
from tests.vectors.credentials import token
from tests.vectors.loader import ms
from tests.vectors.served import Served, serving
from tests.web.desks import without_ids
from tests.web.readers import DAY_MS, HOUR_MS, START, Reader, reading, refused

PATHS = ("features", "features/1", "features/1/clients", "features/summaries")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("features")) as opened:
        yield opened


def test_the_lines_are_listed_in_the_order_of_the_file(served: Served) -> None:
    async def story(reader: Reader) -> None:
        found = await reader.read()
        named = [(each["id"], each["featureId"]) for each in found]
        assert named == [(1, "sessions"), (2, "users"), (3, "editor"), (4, "pages"), (5, "api")]
        assert all(each["receivedTime"] == "2026-03-02T10:00:00.000Z" for each in found)
        assert found[0]["featureCount"] == 100
        assert (found[1]["overdraftCount"], found[1]["meteredUndoInterval"]) == (2, 3_600)
        assert (found[4]["featureCount"], found[4]["uncounted"]) == ("uncounted", True)

    reading(served, story)


def test_one_line_is_the_element_of_the_list(served: Served) -> None:
    async def story(reader: Reader) -> None:
        for element in await reader.read():
            assert await reader.read(f"features/{element['id']}") == element

    reading(served, story)


def test_a_number_of_no_line_is_not_found(served: Served) -> None:
    async def story(reader: Reader) -> None:
        for number in ("6", "0", "-1", "01", "x", "1.0", "9" * 30, "%D9%A1"):
            refused(await reader.get(f"features/{number}"), 404, "notFound")
            refused(await reader.get(f"features/{number}/clients"), 404, "notFound")

    reading(served, story)


def test_used_is_what_was_consumed_and_what_is_held(served: Served) -> None:
    async def story(reader: Reader) -> None:
        await reader.ask("sessions", 42)
        await reader.ask("users", 12)
        await reader.ask("editor", 2, **{"borrow-interval": "1h"})
        used = {each["featureId"]: each["used"] for each in await reader.read()}
        assert used == {"sessions": 42, "users": 12, "editor": 2, "pages": 0, "api": 0}
        assert (await reader.line("users"))["overdraftUsedCount"] == 2

    reading(served, story)


def test_a_lapse_counts_from_its_moment_on(served: Served) -> None:
    async def story(reader: Reader) -> None:
        await reader.ask("editor", 2, **{"borrow-interval": "1h"})
        await reader.at(START + HOUR_MS - 1)
        assert (await reader.line("editor"))["used"] == 2
        assert len(await reader.read("features/3/clients")) == 1
        await reader.at(START + HOUR_MS)
        assert (await reader.line("editor"))["used"] == 0
        assert await reader.read("features/3/clients") == []
        totals = (await reader.read("features/summaries"))["editor"]["2.0"]
        assert (totals["totalUsed"], totals["totalAvailable"]) == (0, 3)

    reading(served, story)


def test_what_another_call_has_only_begun_to_sweep_is_swept_first(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(reader: Reader) -> None:
        await reader.ask("editor", 2, **{"borrow-interval": "1h"})
        read, looked = reads.read_standing, []

        async def overtaken(client: Any, keys: InstanceKeys) -> Standing:
            if not looked:
                await reader.at(START + HOUR_MS)
                await client.hset(keys.ledger, "last_ms", START + HOUR_MS)
            looked.append(await read(client, keys))
            return looked[-1]

        monkeypatch.setattr(reads, "read_standing", overtaken)
        assert (await reader.line("editor"))["used"] == 0
        assert [standing.settled for standing in looked] == [False, True]

    reading(served, story)


def test_a_reset_counts_from_its_moment_on(served: Served) -> None:
    async def story(reader: Reader) -> None:
        await reader.change("sessions", reset=Reset.DAILY)
        await reader.ask("sessions", 42)
        await reader.at(ms("2026-03-02T23:59:59.999Z"))
        assert (await reader.line("sessions"))["used"] == 42
        await reader.at(ms("2026-03-03T00:00:00.000Z"))
        assert (await reader.line("sessions"))["used"] == 0
        await reader.ask("sessions", 7)
        assert (await reader.line("sessions"))["used"] == 7

    reading(served, story)


def test_expired_lines_stay_listed_and_active_only_leaves_them_out(served: Served) -> None:
    async def story(reader: Reader) -> None:
        await reader.ask("sessions", 42)
        await reader.change("sessions", expires_ms=START + DAY_MS)
        await reader.change("users", starts_ms=START + 1)
        everything = [each["featureId"] for each in await reader.read("features?activeOnly=false")]
        assert len(everything) == 5
        active = [each["featureId"] for each in await reader.read("features?activeOnly=true")]
        assert active == ["sessions", "editor", "pages", "api"]
        await reader.at(START + DAY_MS)
        active = [each["featureId"] for each in await reader.read("features?activeOnly=true")]
        assert active == ["users", "editor", "pages", "api"]
        assert set(await reader.read("features/summaries")) == set(active)
        # A change of what is provisioned does not make them vanish either.
        await reader.change("editor", notice="changed")
        expired = await reader.line("sessions")
        assert (expired["used"], expired["expiry"]) == (42, "2026-03-03T10:00:00.000Z")

    reading(served, story)


def test_a_retired_line_counts_as_absent(served: Served) -> None:
    async def story(reader: Reader) -> None:
        await reader.ask("users", 3)
        await reader.change("users", retired=True)
        assert "users" not in [each["featureId"] for each in await reader.read()]
        assert "users" not in await reader.read("features/summaries")
        refused(await reader.get("features/2"), 404, "notFound")
        refused(await reader.get("features/2/clients"), 404, "notFound")

    reading(served, story)


def test_a_catalogue_that_came_meanwhile_is_read(served: Served) -> None:
    async def story(reader: Reader) -> None:
        assert (await reader.line("sessions"))["featureCount"] == 100
        await reader.change("sessions", count=200, capacity=200)
        assert (await reader.line("sessions"))["featureCount"] == 200

    reading(served, story)


def test_a_catalogue_that_comes_while_it_is_read_is_read_again(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(reader: Reader) -> None:
        fresh, changed = Catalogues.fresh, []

        async def overtaken(catalogues: Catalogues, instance: str) -> Any:
            found = await fresh(catalogues, instance)
            if not changed:
                changed.append(instance)
                await reader.change("sessions", count=200, capacity=200)
            return found

        monkeypatch.setattr(Catalogues, "fresh", overtaken)
        assert (await reader.line("sessions"))["featureCount"] == 200
        assert changed

    reading(served, story)


def test_a_query_that_says_nothing_known_is_refused(served: Served) -> None:
    async def story(reader: Reader) -> None:
        for query in (
            "activeOnly=1",
            "activeOnly=",
            "activeOnly",
            "activeOnly=true&activeOnly=true",
        ):
            refused(await reader.get(f"features?{query}"), 400, "badRequest")
        for query in ("limit=0", "limit=10001", "limit=x", "after=x", "after=-1"):
            refused(await reader.get(f"features/3/clients?{query}"), 400, "badRequest")
        for path in PATHS:
            for query in ("other=1&other=2", "other", "&", "other=&&"):
                assert (await reader.get(f"{path}?{query}")).status_code == 200
        assert len(await reader.read("features?activeOnly=true&")) == 5

    reading(served, story)


def test_summaries_are_totals_by_name_and_version(served: Served) -> None:
    async def story(reader: Reader) -> None:
        await reader.ask("sessions", 42)
        await reader.ask("users", 11)
        found = await reader.read("features/summaries")
        assert found["sessions"] == {
            "1.0": {
                "totalCount": 100,
                "totalUsed": 42,
                "totalOverdraftCount": 0,
                "totalAvailable": 58,
            }
        }
        assert found["users"]["1.0"] == {
            "totalCount": 10,
            "totalUsed": 11,
            "totalOverdraftCount": 2,
            "totalAvailable": 1,
        }
        assert found["api"]["1.0"]["totalCount"] == 2**53 - 1

    reading(served, story)


def test_the_short_form_reads_the_default_instance(served: Served) -> None:
    async def story(reader: Reader) -> None:
        for path in PATHS:
            long = await reader.get(path)
            short = await reader.desk.http.get(f"/api/1.0/{path}", headers=reader.credential)
            tilde = await reader.get(path, instance="~")
            assert long.status_code == 200
            assert without_ids(long) == without_ids(short) == without_ids(tilde)

    reading(served, story, default=True)


def test_whoever_may_not_read_learns_nothing(served: Served) -> None:
    """The credential comes first, the role second; path and query are looked at after them."""

    async def story(reader: Reader) -> None:
        http, answers = reader.desk.http, []
        for path in (*PATHS, "features/77", "features/1/clients?limit=0"):
            refused(await reader.get(path), 403, "forbidden")
            where = reader.door.path(path)
            answers += [
                await http.get(where),
                await http.get(where, headers={"Authorization": "Bearer a.b.c"}),
                await http.get(where, headers={"Authorization": f"Bearer {token()}"}),
                await reader.get(path, instance="NOBODY"),
            ]
        for answer in answers:
            refused(answer, 401, "unauthorized")
        assert len({without_ids(answer) for answer in answers}) == 1

    others = [role for role in Role if role is not Role.READ]
    reading(served, story, *others)


def test_reads_are_not_written_to(served: Served) -> None:
    async def story(reader: Reader) -> None:
        before = await reader.read()
        for path in PATHS:
            for method in ("POST", "PUT", "PATCH", "DELETE"):
                answer = await reader.desk.http.request(
                    method, reader.door.path(path), headers=reader.credential
                )
                refused(answer, 405, "methodNotAllowed")
        assert await reader.read() == before

    reading(served, story)


def test_the_head_of_a_read_is_told_without_its_body(served: Served) -> None:
    async def story(reader: Reader) -> None:
        where = reader.door.path("features")
        answer = await reader.desk.http.head(where, headers=reader.credential)
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-length"] == str(len((await reader.get()).content))

    reading(served, story)


def test_ten_thousand_lines_are_one_answer(served: Served) -> None:
    async def story(reader: Reader) -> None:
        catalogue = await reader.desk.catalogue()
        plain = next(line for line in catalogue.lines if line.id == "sessions")
        many: list[Line] = [
            replace(plain, id=f"L{number}", feature=f"f{number // 50}", number=0)
            for number in range(9_995)
        ]
        declared = replace(catalogue, lines=(*catalogue.lines, *many))
        await reader.door.put(lines=next_catalogue(catalogue, declared).lines)
        answer = await reader.get()
        assert answer.status_code == 200
        assert [each["id"] for each in answer.json()] == list(range(1, 10_001))

    reading(served, story)
