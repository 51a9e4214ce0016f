"""The consumption list: what was counted here and elsewhere, what is not synced, the last sync."""

from __future__ import annotations

import time
from pathlib import Path

from msgspec.structs import replace

from gateway.core.elsewhere import Known
from gateway.core.model import Product
from gateway.core.ports import Mark, Standing, Step
from tests.store.outbox_house import CATALOGUE, INSTANCE, UPSTREAM, line
from tests.web.ui.lanes import CLOUD, Lanes, at_lanes, seen

EVIL = "<img src=x onerror=alert(1)>"
UNSYNCED = '<td class="count"><strong>{}</strong>'


def test_each_line_is_listed_with_what_its_upstream_lacks_the_most_first(tmp_path: Path) -> None:
    async def story(lanes: Lanes) -> None:
        page = await lanes.bob.page("consumption")
        assert "Everything is synced." in page
        await lanes.house.use("sessions", 3)
        await lanes.house.put_aside("b1", Standing.PARKED)
        await lanes.house.use("sessions", 2)
        await lanes.house.use("users", 40)
        await lanes.house.block("b2", [Mark("L2", "", "LIMIT", since_ms=1, retry_ms=2)])
        page = await lanes.bob.page("consumption")
        assert "45 units of 2 lines are not synced yet" in page
        assert page.index("licences/line?id=L2") < page.index("licences/line?id=L1")
        assert UNSYNCED.format(40) in page
        assert UNSYNCED.format(5) in page
        assert "5 set aside" in page
        assert "0 forwarded in all, 40 waiting" in page
        assert page.count("Not yet.") == 2

    at_lanes(tmp_path, story)


def test_the_last_sync_and_what_came_of_it_are_told_line_by_line(tmp_path: Path) -> None:
    async def story(lanes: Lanes) -> None:
        house = lanes.house
        await house.use("sessions", 3)
        holder = await house.lease()
        assert await house.outbox.settle(holder, await house.seal(holder)) is Step.DONE
        await lanes.syncs.synced(INSTANCE, UPSTREAM, 1_767_225_600_000, 0)
        await house.use("users", 4)
        page = await lanes.bob.page("consumption")
        at = "2026-01-01 00:00 UTC</time>: "
        assert f'{at}<span class="good">ok</span>, 3 forwarded in all.' in page
        assert f"{at}0 forwarded in all, 4 waiting." in page
        page = await lanes.bob.page("forwarding")
        assert "every 1 h 30 min, last begun" in page

    at_lanes(tmp_path, story)


def test_what_a_cloud_last_said_stands_beside_its_lines(tmp_path: Path) -> None:
    async def story(lanes: Lanes) -> None:
        page = await lanes.bob.page("consumption")
        assert page.count("Not asked about yet.") == 2
        now_ms = int(time.time() * 1000)
        said = {
            "L1": Known(at_ms=now_ms, total=70, period="0", elsewhere=30, late=4),
            "L2": Known(at_ms=now_ms, code="license_expired", text=EVIL + "\x1b[2J"),
        }
        await lanes.syncs.note(INSTANCE, CLOUD, said)
        await lanes.house.use("sessions", 40)
        keys = lanes.house.store.catalogues.keys(INSTANCE)
        await lanes.house.store.client.hset(keys.used, "elsewhere|L1|0", 30)
        page = await lanes.bob.page("consumption")
        assert '<span class="good">ok</span>, the cloud has 70' in page
        assert "4 of an earlier period" in page
        assert '<td class="count">40</td> <td class="count">30</td>' in page
        assert "license_expired" in page
        assert seen(EVIL) in page
        assert EVIL not in page
        assert "\x1b" not in page
        await lanes.house.store.client.hset(keys.sync(CLOUD), "L1", "damaged")
        page = await lanes.bob.page("consumption")
        assert "What an upstream last said cannot be read. cloud:" in page
        assert UNSYNCED.format(40) in page

    at_lanes(tmp_path, story, attached=(CLOUD,))


def test_lines_are_searched_and_turned_page_by_page(tmp_path: Path) -> None:
    async def story(lanes: Lanes) -> None:
        lines = tuple(line(f"M{number:03}", f"feature{number}") for number in range(60))
        sold = replace(lines[7], product=Product(name=f"Seven {EVIL}"))
        now = await lanes.catalogue()
        await lanes.put(replace(now, lines=(*CATALOGUE.lines, *lines[:7], sold, *lines[8:])))
        page = await lanes.bob.page("consumption")
        assert "1 to 50 of 62 entries" in page
        assert "51 to 62 of 62 entries" in await lanes.bob.page("consumption", page="2")
        assert "51 to 62 of 62 entries" in await lanes.bob.page("consumption", page="9999999")
        page = await lanes.bob.page("consumption", q="seVen <img")
        assert "1 to 1 of 1 entries" in page
        assert "licences/line?id=M007" in page
        page = await lanes.bob.page("consumption", q=EVIL + '"')
        assert "Nothing fits this search." in page
        assert seen(EVIL + '"') in page
        assert EVIL not in page
        assert "Nothing fits" in await lanes.bob.page("consumption", waiting="1")
        for wrong in ("0x1", "-1", "10000000"):
            assert (await lanes.bob.get("consumption", page=wrong)).status_code == 400

    at_lanes(tmp_path, story)


def test_without_upstream_what_is_counted_is_shown_all_the_same(tmp_path: Path) -> None:
    async def story(lanes: Lanes) -> None:
        await lanes.house.use("sessions", 5)
        page = await lanes.bob.page("consumption")
        assert "is counted here and goes nowhere" in page
        assert '<td class="count">5</td>' in page
        assert UPSTREAM not in (each.name for each in (await lanes.catalogue()).upstreams)

    at_lanes(tmp_path, story, attached=())
