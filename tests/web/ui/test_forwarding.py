"""Forwarding: what waits, what was set aside, and each decision, as a browser without scripts.

Law: DESIGN 5; a decision moves what was shown, once, and is recorded; whoever may not, or sends no
token of the page, moves nothing.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from gateway.core.model import Attachment
from gateway.core.ports import Mark, Standing
from gateway.service.decisions import MEANINGS, Action, Known
from tests.store.outbox_house import CATALOGUE, HOUR_MS, INSTANCE, UPSTREAM
from tests.web.ui.lanes import CLOUD, NOWHERE, Lanes, at_lanes, form_of, seen, words

MARK = Mark("L1", "", "sessions 1.0: LIMIT", since_ms=1_000, retry_ms=4_102_444_800_000)
BLOCKED = f"{INSTANCE}/{UPSTREAM}/L1"
EVIL = '"><script>alert(1)</script>'
WHY = "agreed with the vendor"
OVER = {"retry": "open", "discard": "dead", "reconcile --applied": "forwarded"}


async def put(lanes: Lanes, known: Known, why: str = "timed out") -> str:
    """Let 42 units of L1 stand as one of the cases; give the address."""
    await lanes.house.use("sessions", 42)
    if known is Known.BLOCKED:
        await lanes.house.block("b1", [replace(MARK, why=why)])
        return BLOCKED
    standing = Standing.DEAD if known is Known.DEAD else Standing.PARKED
    await lanes.house.put_aside("b1", standing, why)
    return "b1"


def test_a_page_says_first_whether_everything_was_forwarded(tmp_path: Path) -> None:
    async def story(lanes: Lanes) -> None:
        page = await lanes.bob.page("forwarding")
        assert "Everything was forwarded." in page
        assert "cloudevents" in page
        assert "http://127.0.0.1:9/events" in page
        assert "every 1 h 30 min" in page
        assert "for 7 d" in page
        await lanes.house.use("sessions", 40)
        await lanes.house.use("users", 2)
        page = await lanes.bob.page("forwarding")
        assert "42 units wait to be sent" in page
        assert "Everything was forwarded." not in page
        row = '<th scope="row">{}</th><td class="count">{}</td><td class="count">{}</td>'
        assert row.format("Older than a day", 0, 0) in page
        holder = await lanes.house.lease()
        batch = await lanes.house.seal(holder, "b7")
        await lanes.house.outbox.begin_attempt(holder, batch, HOUR_MS)
        page = await lanes.bob.page("forwarding")
        assert "Under way: batch <code>b7</code>, 42 units in 2 rows, 1 attempt, in doubt" in page

    at_lanes(tmp_path, story)


def test_open_rows_are_shown_by_age_and_what_is_carried_is_not_among_them(tmp_path: Path) -> None:
    async def story(lanes: Lanes) -> None:
        house = lanes.house
        await house.use("sessions", 1)
        await house.use("users", 5)
        keys = house.store.catalogues.keys(INSTANCE)
        (now_field,) = [
            name for name in await house.store.client.hkeys(keys.open(UPSTREAM)) if b"L1" in name
        ]
        hour = int(now_field.split(b"|")[1])
        # Rows of the past, as if they had waited since; the books follow.
        for age, units in ((1, 10), (30, 100)):
            await house.store.client.hset(keys.open(UPSTREAM), f"L1|{hour - age}", units)
            await house.store.client.hincrby(keys.ledger, f"open|L1|{UPSTREAM}", units)
        await house.use("users", -5)
        await house.store.client.hset(keys.open(UPSTREAM), f"L2|{hour - 2}", -7)
        await house.store.client.hincrby(keys.ledger, f"open|L2|{UPSTREAM}", -7)
        carried = '{"line":"","host":"","why":"","since_ms":1,"retry_ms":2,"carried":true}'
        await house.store.client.hset(keys.refused(UPSTREAM), "L2|", carried)
        page = await lanes.bob.page("forwarding")
        row = '<th scope="row">{}</th><td class="count">{}</td><td class="count">{}</td>'
        older = [row.format("Up to a day", 1, 10), row.format("Older than a day", 1, 100)]
        assert all(each in page for each in older)
        assert "\u22127 units: they were undone" in page
        assert "111 units wait to be sent" in page

    at_lanes(tmp_path, story)


@pytest.mark.parametrize(("known", "action"), sorted(MEANINGS))
def test_each_decision_that_fits_is_confirmed_in_numbers_then_done_and_recorded(
    tmp_path: Path, known: Known, action: Action
) -> None:
    kind = "spool" if known is Known.HANDED_OVER else "cloudevents"

    async def story(lanes: Lanes) -> None:
        address = await put(lanes, known)
        listed = await lanes.ann.page("forwarding")
        assert seen(f"forwarding/aside?address={address.replace('/', '%2F')}") in listed
        shown = await lanes.ann.page("forwarding/aside", address=address)
        assert seen(MEANINGS[known, action]) in shown
        assert ("forward --receipt FILE" in shown) is (known is Known.HANDED_OVER)
        form = await lanes.ann.form("forwarding/aside", "forwarding/confirm", address=address)
        assert action in form.choices
        before = await lanes.house.dump()
        asked = await lanes.ann.send(form, what=action, why=f" {WHY} ")
        assert asked.status_code == 200
        assert "42 units of 1 line, in 1 row, " in words(asked)
        assert await lanes.house.dump() == before  # asked once more, nothing is changed
        sure = form_of(asked, "forwarding/decide")
        done = await lanes.ann.follow(await lanes.ann.send(sure))
        assert "42 units of 1 line" in done
        place = {**OVER, "reconcile --not-applied": "open"}[action]
        assert (await lanes.house.sums())["L1"] == {place: 42}
        (decision,) = await lanes.house.asides.decisions(INSTANCE)
        said = (decision.who, decision.what, decision.why, decision.units)
        assert said == (f"ann@{INSTANCE}", action, WHY, "L1=42")
        record = await lanes.bob.page("forwarding/record")
        assert all(word in record for word in (f"ann@{INSTANCE}", action, WHY, "L1=42"))
        # The same once more, as by a double click: told who was first, and nothing moves.
        before = await lanes.house.dump()
        again = await lanes.ann.send(sure)
        assert again.status_code == 404
        assert seen(f"is not set aside any more: ann@{INSTANCE}") in words(again)
        assert await lanes.house.dump() == before

    at_lanes(tmp_path, story, kind=kind)


def test_what_does_not_fit_or_has_no_reason_is_said_beside_the_form(tmp_path: Path) -> None:
    async def story(lanes: Lanes) -> None:
        address = await put(lanes, Known.DEAD)
        form = await lanes.ann.form("forwarding/aside", "forwarding/confirm", address=address)
        assert form.choices == ["retry", "discard"]
        before = await lanes.house.dump()
        for said, sentence in (
            ({"what": "discard", "why": " "}, "The reason is empty"),
            ({"what": "discard", "why": "x" * 501}, "The reason has 501 characters"),
            ({"what": "discard", "why": "a\nb"}, "control characters"),
            ({"what": "", "why": WHY}, "Choose what is to happen"),
            ({"what": "burn", "why": WHY}, "no such decision"),
            ({"what": "reconcile --applied", "why": WHY}, "nothing to reconcile"),
        ):
            for target in ("forwarding/confirm", "forwarding/decide"):
                form.action = form.action.rpartition("/")[0] + "/" + target.rpartition("/")[2]
                answer = await lanes.ann.send(form, **said)
                assert answer.status_code == 400
                assert seen(sentence) in words(answer)
                kept = form_of(answer, "forwarding/confirm").fields
                assert kept["why"] == said["why"].strip()
                assert kept.get("what", "") == (said["what"] if said["what"] == "discard" else "")
        assert await lanes.house.dump() == before

    at_lanes(tmp_path, story)


def test_more_that_is_refused_meanwhile_is_shown_before_it_is_decided(tmp_path: Path) -> None:
    async def story(lanes: Lanes) -> None:
        await put(lanes, Known.BLOCKED)
        form = await lanes.ann.form("forwarding/aside", "forwarding/confirm", address=BLOCKED)
        sure = form_of(await lanes.ann.send(form, what="discard", why=WHY), "forwarding/decide")
        await lanes.house.use("sessions", 8)
        await lanes.house.block("b2", [MARK])
        before = await lanes.house.dump()
        asked = await lanes.ann.send(sure)
        assert asked.status_code == 409
        assert "nothing was done" in asked.text
        assert "50 units of 1 line" in words(asked)
        assert await lanes.house.dump() == before
        answer = await lanes.ann.send(form_of(asked, "forwarding/decide"))
        assert answer.status_code == 303
        assert (await lanes.house.sums())["L1"] == {"dead": 50}

    at_lanes(tmp_path, story)


def test_who_may_only_look_sees_no_form_and_moves_nothing(tmp_path: Path) -> None:
    async def story(lanes: Lanes) -> None:
        address = await put(lanes, Known.IN_DOUBT)
        page = await lanes.bob.page("forwarding")
        assert "takes the role ADMIN" in page
        assert "forwarding/sync" not in page
        page = await lanes.bob.page("forwarding/aside", address=address)
        assert "To decide takes the role ADMIN" in page
        assert "forwarding/confirm" not in page
        assert "It was not applied" in page
        form = await lanes.ann.form("forwarding/aside", "forwarding/confirm", address=address)
        sure = form_of(await lanes.ann.send(form, what="retry", why=WHY), "forwarding/decide")
        sync = await lanes.ann.form("forwarding", "forwarding/sync")
        before = await lanes.house.dump()
        own = form_of(await lanes.bob.get("forwarding"), "logout").fields["xsrf"]
        for each in (form, sure, sync):
            refused = await lanes.bob.send(each, xsrf=own, what="retry", why=WHY)
            assert refused.status_code == 403
            # A page of somebody else's session, or none, is no page of this one.
            for said in ({"xsrf": own}, {"xsrf": ""}):
                forged = await lanes.ann.send(each, what="retry", why=WHY, **said)
                assert forged.status_code == 403
        for path in ("forwarding", "forwarding/record", "consumption"):
            assert (await lanes.cat.get(path)).status_code == 403
        assert await lanes.house.dump() == before
        assert (await lanes.syncs.schedule(INSTANCE, UPSTREAM)).asked == 0

    at_lanes(tmp_path, story)


def test_what_is_of_another_instance_is_not_there(tmp_path: Path) -> None:
    async def story(lanes: Lanes) -> None:
        address = await put(lanes, Known.IN_DOUBT)
        form = await lanes.ann.form("forwarding/aside", "forwarding/confirm", address=address)
        # The same outbox, as that of an instance whose people are others.
        keys, theirs = (lanes.house.store.catalogues.keys(name) for name in (INSTANCE, "THEIRS"))
        await lanes.put(replace(CATALOGUE, id="THEIRS", default=False))
        client = lanes.house.store.client
        aside = await client.hgetall(keys.aside(UPSTREAM))
        await client.hset(theirs.aside(UPSTREAM), mapping=aside)
        await client.hset(theirs.blocked(UPSTREAM), "L1|1", 5)
        await client.delete(keys.aside(UPSTREAM))
        for other in ("b1", f"THEIRS/{UPSTREAM}/L1", "nothing", "../..", EVIL):
            answer = await lanes.ann.get("forwarding/aside", address=other)
            assert answer.status_code == 404
            sent = await lanes.ann.send(form, address=other, what="discard", why=WHY)
            assert sent.status_code == 404
            assert EVIL not in sent.text
        assert await client.hgetall(theirs.aside(UPSTREAM)) == aside
        assert (await lanes.ann.get("forwarding", upstream="elsewhere")).status_code == 404

    at_lanes(tmp_path, story)


def test_a_sync_is_asked_for_and_said_until_it_was_made(tmp_path: Path) -> None:
    async def story(lanes: Lanes) -> None:
        page = await lanes.ann.page("forwarding")
        assert "It is attached, but not in the configuration" in page
        assert page.count("forwarding/sync") == 2
        assert "not once yet" in page
        for name in (UPSTREAM, CLOUD):
            form = await lanes.ann.form("forwarding", "forwarding/sync", upstream=name)
            assert form.fields["upstream"] == name
            assert "asked for" in await lanes.ann.follow(await lanes.ann.send(form))
            schedule = await lanes.syncs.schedule(INSTANCE, name)
            assert (schedule.asked, schedule.answered) == (1, 0)
            assert "has not come to it yet" in await lanes.bob.page("forwarding", upstream=name)
            await lanes.syncs.synced(INSTANCE, name, schedule.now_ms, schedule.asked)
            page = await lanes.bob.page("forwarding", upstream=name)
            assert "has not come to it yet" not in page
        assert "last begun" in page
        for name in (NOWHERE, "unheard-of"):
            refused = await lanes.ann.send(form, upstream=name)
            assert refused.status_code == 404
            assert (await lanes.syncs.schedule(INSTANCE, name)).asked == 0

    at_lanes(tmp_path, story, attached=(UPSTREAM, CLOUD, NOWHERE))


def test_names_and_reasons_from_outside_are_texts(tmp_path: Path) -> None:
    async def story(lanes: Lanes) -> None:
        for known in (Known.IN_DOUBT, Known.BLOCKED):
            await put(lanes, known, f"{EVIL}\x1b[2J")
        for address in ("b1", BLOCKED):
            page = (await lanes.ann.get("forwarding/aside", address=address)).text
            assert EVIL not in page
            assert seen(EVIL) in page
            assert "\x1b" not in page
            form = await lanes.ann.form("forwarding/aside", "forwarding/confirm", address=address)
            asked = await lanes.ann.send(form, what="retry", why=EVIL)
            assert seen(EVIL) in asked.text
            assert EVIL not in asked.text
            done = await lanes.ann.send(form_of(asked, "forwarding/decide"))
            assert EVIL not in await lanes.ann.follow(done)
        record = await lanes.ann.page("forwarding/record")
        assert EVIL not in record
        assert record.count(seen(EVIL)) == 2

    at_lanes(tmp_path, story)


def test_long_lists_are_turned_page_by_page(tmp_path: Path) -> None:
    async def story(lanes: Lanes) -> None:
        for number in range(21):
            await lanes.house.use("sessions", 1)
            await lanes.house.put_aside(f"b{number:02}", Standing.PARKED)
        page = await lanes.bob.page("forwarding")
        assert "1 to 20 of 21 batches" in page
        assert ">b20</a>" not in page
        page = await lanes.bob.page("forwarding", upstream=UPSTREAM, aside="2")
        assert "21 to 21 of 21 batches" in page
        assert ">b20</a>" in page
        assert (await lanes.bob.get("forwarding", upstream=UPSTREAM, aside="x")).status_code == 400
        form = await lanes.ann.form("forwarding/aside", "forwarding/confirm", address="b00")
        for number in range(2):
            sent = await lanes.ann.send(form, address=f"b{number:02}", what="discard", why=WHY)
            await lanes.ann.send(form_of(sent, "forwarding/decide"))
        newest = await lanes.house.asides.decided(INSTANCE, 1)
        assert [decision.subject for _, decision in newest] == ["b01"]
        older = await lanes.bob.page("forwarding/record", before=newest[0][0])
        assert "b00" in older
        assert "b01" not in older
        assert (await lanes.bob.get("forwarding/record", before="+")).status_code == 400

    at_lanes(tmp_path, story)


def test_an_upstream_that_cannot_be_read_hides_no_other(tmp_path: Path) -> None:
    async def story(lanes: Lanes) -> None:
        await lanes.house.use("sessions", 42)
        client, keys = lanes.house.store.client, lanes.house.store.catalogues.keys(INSTANCE)
        await client.hset(keys.aside(UPSTREAM), "b1|facts", "damaged")
        page = await lanes.bob.page("forwarding")
        assert f"What waits for {UPSTREAM} cannot be read" in page
        assert "Sync cloud now" in await lanes.ann.page("forwarding")
        await client.delete(keys.aside(UPSTREAM))
        await client.hset(keys.ledger, "open|L1|up", "damaged")
        page = await lanes.bob.page("forwarding")
        assert "The sums of this instance cannot be read" in page
        assert "Everything was forwarded." not in page

    at_lanes(tmp_path, story, attached=(UPSTREAM, CLOUD))


def test_without_upstream_it_says_so(tmp_path: Path) -> None:
    async def story(lanes: Lanes) -> None:
        assert "Nothing is forwarded:" in await lanes.bob.page("forwarding")
        assert Attachment(UPSTREAM) not in (await lanes.catalogue()).upstreams

    at_lanes(tmp_path, story, attached=())
