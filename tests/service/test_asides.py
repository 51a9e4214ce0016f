"""What a person sees set aside and decides: what fits, what is moved, what is said of what is gone.

Law: DESIGN 5 (parked, dead, blocked), on a real store and the real scripts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec
import pytest

from gateway.core.decisions import Fate
from gateway.core.errors import InvalidInput
from gateway.core.keys import PublicKey, generate
from gateway.core.ports import Mark, Standing
from gateway.core.usage import Batch
from gateway.service.asides import Desk, Gone, Item, Receipt, Told
from gateway.service.decisions import (
    MEANINGS,
    REASON_CHARS_MAX,
    SENTENCES,
    Action,
    Known,
    check_text,
    look_for,
    meanings,
)
from gateway.upstream.spool import Trailer, trailer
from tests.store.outbox_house import INSTANCE, UPSTREAM, House, at_home
from tests.stores.homes import Home

MARK = Mark("L1", "", "sessions 1.0: LIMIT", since_ms=1_000, retry_ms=2_000)
KEY = generate("EdDSA")
PUBLIC: PublicKey = KEY.public_key()
SPOOLED = {UPSTREAM: "spool"}


def desk_of(house: House, kinds: Mapping[str, str] | None = None) -> Desk:
    return Desk(house.asides, house.store.catalogues, kinds or {})


async def put(house: House, known: Known) -> tuple[Desk, Item]:
    """Let 42 units of L1 stand as one of the cases, and find them."""
    await house.use("sessions", 42)
    desk = desk_of(house, SPOOLED if known is Known.HANDED_OVER else {UPSTREAM: "cmapi"})
    if known is Known.BLOCKED:
        await house.block("b1", [MARK])
        return desk, await desk.find(f"{INSTANCE}/{UPSTREAM}/L1")
    await house.put_aside("b1", Standing.DEAD if known is Known.DEAD else Standing.PARKED)
    return desk, await desk.find("b1")


FITTING = sorted(MEANINGS)
PLACES = {
    Action.RETRY: Fate.OPEN,
    Action.DISCARD: Fate.DEAD,
    Action.APPLIED: Fate.FORWARDED,
    Action.NOT_APPLIED: Fate.OPEN,
}


@pytest.mark.parametrize(("known", "action"), FITTING)
def test_a_decision_that_fits_moves_all_units_and_is_recorded(
    home: Home, known: Known, action: Action
) -> None:
    async def story(house: House) -> None:
        desk, item = await put(house, known)
        assert item.known is known
        assert item.units == {"L1": 42}
        assert await desk.decide(item, action, "dana", "we looked") is PLACES[action]
        assert await house.sums() == {"L1": {PLACES[action].value: 42}, "L2": {}}
        assert [each async for each in desk.items()] == []
        (recorded,) = await desk.record()
        decision = recorded.decision
        assert (recorded.instance, decision.upstream) == (INSTANCE, UPSTREAM)
        assert (decision.who, decision.what, decision.why) == ("dana", action, "we looked")
        assert (decision.subject, decision.units) == (item.subject, "L1=42")
        # What is gone is told of with who decided what, and nothing moves.
        before = await house.dump()
        with pytest.raises(Gone, match=rf"dana, .*: {action} \(we looked\)"):
            await desk.find(item.address)
        assert before == await house.dump()

    at_home(home, story)


@pytest.mark.parametrize("known", [Known.DEAD, Known.BLOCKED])
def test_what_was_not_applied_for_sure_is_not_reconciled(home: Home, known: Known) -> None:
    async def story(house: House) -> None:
        desk, item = await put(house, known)
        before = await house.dump()
        for action in (Action.APPLIED, Action.NOT_APPLIED):
            with pytest.raises(InvalidInput, match="not applied for sure"):
                await desk.decide(item, action, "dana", "we looked")
        assert before == await house.dump()

    at_home(home, story)


def test_a_desk_of_one_instance_knows_no_other(home: Home) -> None:
    async def story(house: House) -> None:
        desk, item = await put(house, Known.IN_DOUBT)
        other = Desk(house.asides, house.store.catalogues, only="OTHER")
        own = Desk(house.asides, house.store.catalogues, only=INSTANCE)
        assert (await own.find("b1")).rows == item.rows
        await desk.decide(item, Action.DISCARD, "dana", "we looked")
        await house.use("users", 3)
        await house.block("b2", [])
        for address in ("b1", f"{INSTANCE}/{UPSTREAM}/L2"):
            with pytest.raises(Gone) as gone:
                await other.find(address)
            assert gone.value.decided == ""
        assert await other.record() == []
        assert [each async for each in other.items()] == []
        with pytest.raises(Gone) as known:
            await own.find("b1")
        assert "we looked" in known.value.decided

    at_home(home, story)


def test_of_two_people_the_second_is_told_what_the_first_decided(home: Home) -> None:
    async def story(house: House) -> None:
        desk, item = await put(house, Known.IN_DOUBT)
        await desk.decide(item, Action.APPLIED, "dana", "in their log")
        before = await house.dump()
        with pytest.raises(Gone, match=r"reconcile --applied \(in their log\)"):
            await desk.decide(item, Action.RETRY, "kim", "it is not there")
        assert before == await house.dump()

    at_home(home, story)


def test_everything_set_aside_is_listed_with_an_address_that_finds_it(home: Home) -> None:
    async def story(house: House) -> None:
        await house.use("users", 1)
        await house.put_aside("dead", Standing.DEAD, "HTTP 422")
        await house.use("users", 2)
        await house.put_aside("parked", Standing.PARKED)
        await house.use("sessions", 3)
        await house.block("blocked", [MARK])
        desk = desk_of(house)
        items = [item async for item in desk.items()]
        assert [(item.address, item.standing, dict(item.units)) for item in items] == [
            ("dead", "dead", {"L2": 1}),
            ("parked", "parked", {"L2": 2}),
            (f"{INSTANCE}/{UPSTREAM}/L1", "blocked", {"L1": 3}),
        ]
        dead, parked, blocked = items
        assert (dead.why, dead.attempts, dead.retry_ms) == ("HTTP 422", 1, None)
        assert (blocked.why, blocked.since_ms, blocked.retry_ms) == (MARK.why, 1_000, 2_000)
        for item in items:
            found = await desk.find(item.address)
            assert item == msgspec.structs.replace(found, body=b"")
        assert (await desk.find("parked")).body == b"body of parked"
        assert parked.kind == ""

    at_home(home, story)


def test_what_is_no_address_is_bad_input(home: Home) -> None:
    async def story(house: House) -> None:
        for address in ("", "a/b", "a/b/c/d", "a b", "../x", "DEMO/up/", "x" * 65):
            with pytest.raises(InvalidInput, match="is no address"):
                await desk_of(house).find(address)

    at_home(home, story)


def test_what_never_was_there_is_said_not_to_be_there(home: Home) -> None:
    async def story(house: House) -> None:
        before = await house.dump()
        for address in ("b1", f"{INSTANCE}/{UPSTREAM}/L1", "NOBODY/up/L1"):
            with pytest.raises(Gone, match="forward list shows what is"):
                await desk_of(house).find(address)
        assert before == await house.dump()

    at_home(home, story)


async def spooled(house: House, batch_id: str, number: int) -> Trailer:
    await house.use("sessions", 1)
    batch = await house.put_aside(batch_id, Standing.PARKED, "written to a file", body=b"x\n")
    return trailer(number, batch, KEY)


async def settled(desk: Desk, *trailers: Trailer) -> list[Receipt]:
    return [each async for each in desk.settle(trailers, PUBLIC, "dana", "r.ndjson")]


def test_a_receipt_settles_what_waits_and_says_what_was_settled_before(home: Home) -> None:
    async def story(house: House) -> None:
        desk = desk_of(house, SPOOLED)
        first, second = await spooled(house, "b1", 1), await spooled(house, "b2", 2)
        assert [each.told for each in await settled(desk, first)] == [Told.SETTLED]
        assert (await house.sums())["L1"] == {"forwarded": 1, "parked": 1}
        told = await settled(desk, first, second)
        assert [each.told for each in told] == [Told.BEFORE, Told.SETTLED]
        assert (await house.sums())["L1"] == {"forwarded": 2}
        record = [each.decision for each in await desk.record()]
        assert [(each.what, each.subject, each.why) for each in record] == [
            ("receipt", "b2", "r.ndjson"),
            ("receipt", "b1", "r.ndjson"),
        ]
        before = await house.dump()
        assert {each.told for each in await settled(desk, first, second)} == {Told.BEFORE}
        assert before == await house.dump()

    at_home(home, story)


def test_one_forged_line_settles_nothing_of_a_receipt(home: Home) -> None:
    async def story(house: House) -> None:
        desk = desk_of(house, SPOOLED)
        good = await spooled(house, "b1", 1)
        others = trailer(2, Batch("b2", UPSTREAM, INSTANCE, (), b"x\n"), generate("EdDSA"))
        changed = msgspec.structs.replace(good, batch="b3")
        before = await house.dump()
        with pytest.raises(InvalidInput) as caught:
            await settled(desk, good, others, changed)
        assert [problem.split(" ")[1] for problem in caught.value.problems] == ["b2", "b3"]
        assert before == await house.dump()

    at_home(home, story)


def test_what_a_receipt_names_and_is_not_waiting_is_told_with_the_reason(home: Home) -> None:
    async def story(house: House) -> None:
        desk = desk_of(house, SPOOLED)
        retried, waits = await spooled(house, "b1", 1), await spooled(house, "b2", 2)
        await desk.decide(await desk.find("b1"), Action.RETRY, "kim", "the stick was lost")
        unknown = trailer(3, Batch("b3", UPSTREAM, INSTANCE, (), b"x\n"), KEY)
        elsewhere = trailer(4, Batch("b2", "other", INSTANCE, (), b"x\n"), KEY)
        other_bytes = trailer(5, Batch("b2", UPSTREAM, INSTANCE, (), b"y\n"), KEY)
        told = await settled(desk, retried, unknown, elsewhere, other_bytes, waits)
        assert [each.told for each in told] == [*([Told.NOT_WAITING] * 4), Told.SETTLED]
        assert "kim" in told[0].why
        assert "the stick was lost" in told[0].why
        assert "not set aside here" in told[1].why
        assert "other bytes" in told[3].why
        assert (await house.sums())["L1"] == {"forwarded": 1, "open": 1}

    at_home(home, story)


def test_a_dead_batch_waits_for_no_receipt(home: Home) -> None:
    async def story(house: House) -> None:
        await house.use("sessions", 1)
        batch = await house.put_aside("b1", Standing.DEAD, body=b"x\n")
        before = await house.dump()
        (told,) = await settled(desk_of(house, SPOOLED), trailer(1, batch, KEY))
        assert (told.told, told.why) == (Told.NOT_WAITING, "it is dead and waits for no receipt")
        assert before == await house.dump()
        assert hashlib.sha256(batch.body).hexdigest() == told.trailer.sha256

    at_home(home, story)


def test_every_case_has_a_sentence_and_a_way_out() -> None:
    for known in Known:
        assert SENTENCES[known]
        assert {Action.RETRY, Action.DISCARD} <= set(meanings(known))
    assert "count twice" in MEANINGS[Known.IN_DOUBT, Action.RETRY]
    assert "must not be taken over" in MEANINGS[Known.HANDED_OVER, Action.RETRY]


@pytest.mark.parametrize("kind", ["cmapi", "cloudevents", "spool", ""])
def test_what_to_look_for_names_the_batch(kind: str) -> None:
    assert "b1" in look_for(kind, "b1", INSTANCE, UPSTREAM, 3)


@pytest.mark.parametrize(
    "text", ["", "  ", "x" * (REASON_CHARS_MAX + 1), "a\nb", "\x1b[2J", "\udcff"]
)
def test_a_reason_is_one_line_of_text(text: str) -> None:
    with pytest.raises(InvalidInput):
        check_text(text, "--reason", REASON_CHARS_MAX)


def test_a_reason_may_be_in_any_language() -> None:
    assert check_text(" Vendeur d’accord : 数えた ", "--reason", REASON_CHARS_MAX) == (
        "Vendeur d’accord : 数えた"
    )
