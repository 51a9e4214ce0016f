"""Dropping a client over HTTP: what it held returns, it is no client any more, and it is on record.

Source: protocols/cmapi.md 8.4, SEMANTICS 10 and 11.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from structlog.testing import CapturingLogger

from gateway.cli.forwarding.shown import decision_json
from gateway.core.model import Role, User
from gateway.core.numbers import client_number
from gateway.service import clients
from gateway.service.asides import Recorded
from gateway.store import clients as stored
from gateway.store.asides import Asides
from gateway.store.ledgers import read_deep
from gateway.store.scripts import Scripts
from gateway.store.topology import OneServer
from tests.vectors.served import Served
from tests.web.clerks import Clerk, at_clerk, session
from tests.web.doors import Door, door_serving

H1 = client_number("STRING:h1")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with door_serving(tmp_path_factory.mktemp("door")) as opened:
        yield opened


def at_dropper(served: Served, story: Any, *roles: Role, **changes: Any) -> None:
    at_clerk(served, story, *(roles or (Role.DROPCLIENT,)), **changes)


async def drop(clerk: Clerk, number: object = H1) -> httpx.Response:
    return await clerk.send("DELETE", f"clients/{number}")


async def hosts(door: Door) -> set[str]:
    keys = door.served.catalogues.keys(door.instance)
    return {name.decode() for name in await door.served.store.zrange(keys.seen, 0, -1)}


async def decided(door: Door) -> list[dict[str, str]]:
    keys = door.served.catalogues.keys(door.instance)
    return [
        {name.decode(): value.decode() for name, value in fields.items()}
        for _, fields in await door.served.store.xrange(keys.record)
    ]


async def stands(door: Door) -> Any:
    """Give all that a drop may move."""
    keys = door.served.catalogues.keys(door.instance)
    ledger = await read_deep(door.served.store, keys, ["parent"], "UTC")
    held = await door.served.store.hgetall(keys.holds)
    return ledger.used, ledger.acked, ledger.rows, held, await hosts(door), await decided(door)


def test_what_a_dropped_client_held_returns_and_is_told(served: Served) -> None:
    async def story(clerk: Clerk) -> None:
        await clerk.ask("h2", ("editor", 1))
        await clerk.ask("h1", ("editor", 2), ("pages", 5), ("sessions", 7))
        assert (await clerk.ask("h3", ("editor", 1)))["statusList"] != []
        answer = await drop(clerk)
        assert answer.status_code == 200
        said = answer.json()
        assert set(said) == {"client", "returned"}
        assert (said["client"]["id"], said["client"]["servedStatus"]) == (H1, "NORMAL")
        assert said["client"]["hostid"] == {"hostidType": "STRING", "hostidValue": "h1"}
        assert said["client"]["expiry"] > said["client"]["updateTime"]
        assert said["returned"] == [
            {"featureId": "editor", "featureName": "editor", "featureVersion": "2.0", "count": 2},
            {"featureId": "pages", "featureName": "pages", "featureVersion": "1.0", "count": 5},
        ]
        assert "STRING:h1" not in await hosts(clerk.door)
        assert (await clerk.ask("h3", ("editor", 2)))["statusList"] == []  # there is room again
        assert {name.split("|")[0]: units for name, units in (await clerk.door.used()).items()} == {
            "editor": 3,
            "sessions": 7,  # consumed for good
        }

    at_dropper(served, story)


def test_the_return_of_reusable_usage_goes_upstream_as_usage_does(served: Served) -> None:
    async def story(clerk: Clerk) -> None:
        await clerk.ask("h1", ("pages", 5), borrow="0")
        keys = served.catalogues.keys(clerk.door.instance)
        before = await read_deep(served.store, keys, ["parent"], "UTC")
        assert before.upstream("pages", "parent").open == 5
        await drop(clerk)
        after = await read_deep(served.store, keys, ["parent"], "UTC")
        assert after.acked["pages"] == 0
        assert after.upstream("pages", "parent").open == 0
        assert after.rows is not None
        assert after.rows.days["pages"] == 0

    at_dropper(served, story)


def test_a_drop_is_on_record_with_who_and_what_returned(served: Served) -> None:
    async def story(clerk: Clerk) -> None:
        await clerk.ask("h1", ("editor", 2), ("pages", 5))
        await drop(clerk)
        assert await decided(clerk.door) == [
            {
                "who": "ann",
                "what": "drop",
                "why": f"DELETE clients/{H1}",
                "upstream": "",
                "subject": "STRING:h1",
                "units": "editor=2 pages=5",
            }
        ]
        asides = Asides(OneServer(served.store), Scripts(), served.catalogues.partitions)
        (decision,) = await asides.decisions(clerk.door.instance)
        told = decision_json(Recorded(clerk.door.instance, decision))
        assert (told["what"], told["subject"], told["upstream"]) == ("drop", "STRING:h1", "")
        assert told["units"] == {"editor": 2, "pages": 5}

    at_dropper(served, story)


def test_a_client_that_holds_nothing_can_be_dropped(served: Served) -> None:
    async def story(clerk: Clerk) -> None:
        await clerk.ask("h1", ("sessions", 1))
        answer = await drop(clerk)
        assert (answer.status_code, answer.json()["returned"]) == (200, [])
        assert answer.json()["client"]["expiry"] == answer.json()["client"]["updateTime"]
        assert await hosts(clerk.door) == set()

    at_dropper(served, story)


def test_a_dropped_client_is_gone_until_it_asks_again(served: Served) -> None:
    async def story(clerk: Clerk) -> None:
        await clerk.ask("h1", ("editor", 1))
        assert (await drop(clerk)).status_code == 200
        before = await stands(clerk.door)
        answer = await drop(clerk)
        assert answer.status_code == 404
        assert answer.json() == {
            "key": "gateway.notFound",
            "message": f"There is no client {H1}",
            "arguments": [str(H1)],
        }
        assert await stands(clerk.door) == before
        await clerk.ask("h1", ("editor", 1))
        assert (await drop(clerk)).status_code == 200

    at_dropper(served, story)


@pytest.mark.parametrize("number", ["0", "1", "h1", "STRING:h1", "-1", "9" * 40, "x" * 300])
def test_what_is_no_clients_number_is_not_found(served: Served, number: str) -> None:
    async def story(clerk: Clerk) -> None:
        await clerk.ask("h1", ("editor", 1))
        before = await stands(clerk.door)
        answer = await drop(clerk, number)
        assert (answer.status_code, answer.json()["key"]) == (404, "gateway.notFound")
        assert answer.json()["arguments"] == [number[:64]]
        assert await stands(clerk.door) == before

    at_dropper(served, story)


def test_two_clients_of_one_number_are_both_kept(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "client_number", lambda host: 7)

    async def story(clerk: Clerk) -> None:
        await clerk.ask("h1", ("editor", 1))
        await clerk.ask("h2", ("editor", 1))
        before = await stands(clerk.door)
        answer = await drop(clerk, 7)
        assert (answer.status_code, answer.json()["key"]) == (400, "gateway.badRequest")
        assert answer.json()["message"] == "Two clients have this number, so none was dropped"
        assert await stands(clerk.door) == before

    at_dropper(served, story)


@pytest.mark.parametrize("roles", [(Role.ADMIN,), (Role.READ, Role.RESERVATIONS, Role.PRODUCER)])
def test_no_other_role_drops_a_client(served: Served, roles: tuple[Role, ...]) -> None:
    async def story(clerk: Clerk) -> None:
        await clerk.ask("h1", ("editor", 1))
        before = await stands(clerk.door)
        for number in (H1, "nobody"):
            answer = await drop(clerk, number)
            assert (answer.status_code, answer.json()["arguments"]) == (403, ["ROLE_DROPCLIENT"])
        assert await stands(clerk.door) == before

    at_dropper(served, story, *roles)


def test_a_client_of_another_instance_is_not_reached(served: Served) -> None:
    async def story(clerk: Clerk) -> None:
        await clerk.ask("h1", ("editor", 1))
        other = Door(served)
        await other.put(users=(User("ann", "", (Role.DROPCLIENT.value,)),))
        before = await stands(clerk.door)
        stranger = Clerk(clerk.door, await session(other, Role.DROPCLIENT))
        assert (await drop(stranger)).status_code == 401
        assert (await drop(Clerk(other, stranger.header))).status_code == 404
        assert await stands(clerk.door) == before

    at_dropper(served, story)


def test_a_catalogue_that_moves_meanwhile_is_read_again(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = clients.Clients._find
    moves = iter([True, False, False])

    async def story(clerk: Clerk) -> None:
        await clerk.ask("h1", ("editor", 1))

        async def late(self: Any, instance: str, number: str) -> Any:
            found = await find(self, instance, number)
            if next(moves):
                await clerk.door.put(name="moved")
            return found

        monkeypatch.setattr(clients.Clients, "_find", late)
        answer = await drop(clerk)
        assert (answer.status_code, answer.json()["returned"][0]["count"]) == (200, 1)
        assert len(await decided(clerk.door)) == 1

    at_dropper(served, story)


def test_a_user_removed_meanwhile_drops_nothing(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = clients.Clients._find

    async def story(clerk: Clerk) -> None:
        await clerk.ask("h1", ("editor", 1))

        async def late(self: Any, instance: str, number: str) -> Any:
            found = await find(self, instance, number)
            await clerk.door.put(users=())
            return found

        monkeypatch.setattr(clients.Clients, "_find", late)
        before = await stands(clerk.door)
        assert (await drop(clerk)).status_code == 401
        assert await stands(clerk.door) == before

    at_dropper(served, story)


def test_of_drops_at_once_one_returns_what_was_held(served: Served) -> None:
    async def story(clerk: Clerk) -> None:
        await clerk.ask("h1", ("editor", 3))
        answers = await asyncio.gather(*(drop(clerk) for _ in range(8)))
        assert sorted(answer.status_code for answer in answers) == [200] + 7 * [404]
        (done,) = (answer.json() for answer in answers if answer.status_code == 200)
        assert [each["count"] for each in done["returned"]] == [3]
        assert await clerk.door.used() == {}
        assert len(await decided(clerk.door)) == 1

    at_dropper(served, story)


@pytest.mark.parametrize("back", [False, True], ids=["gone", "back at the same moment"])
def test_a_drop_that_another_one_overtook_looks_again(
    served: Served, monkeypatch: pytest.MonkeyPatch, back: bool
) -> None:
    find, overtaken = clients.Clients._find, []

    async def story(clerk: Clerk) -> None:
        keys = served.catalogues.keys(clerk.door.instance)
        await clerk.ask("h1", ("sessions", 1))

        async def late(self: Any, instance: str, number: str) -> Any:
            found = await find(self, instance, number)
            if not overtaken:
                overtaken.append(found)
                assert (await drop(clerk)).status_code == 200
                if back:  # as with a store whose clock was put back: all asks have one moment
                    await served.store.zadd(keys.seen, {found.host: found.at_ms})
            return found

        monkeypatch.setattr(clients.Clients, "_find", late)
        answer = await drop(clerk)
        assert answer.status_code == (200 if back else 404)
        assert len(await decided(clerk.door)) == (2 if back else 1)
        assert await hosts(clerk.door) == set()

    at_dropper(served, story)


def test_the_log_tells_who_dropped_which_number_and_no_host(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = CapturingLogger()
    monkeypatch.setattr(clients, "_log", log)

    async def story(clerk: Clerk) -> None:
        number = client_number("STRING:plant-seven")
        await clerk.ask("plant-seven", ("editor", 1))
        await drop(clerk, number)
        (line,) = log.calls
        assert (line.method_name, line.args) == ("info", ("client_dropped",))
        assert line.kwargs == {
            "instance": clerk.door.instance,
            "user": "ann",
            "client": str(number),
        }

    at_dropper(served, story)
