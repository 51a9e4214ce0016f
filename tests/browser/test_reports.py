"""Reports in a real browser: days are chosen, corrected, drawn, compared and taken along."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.browser.site import LONG, SCRIPT, Site
from tests.browser.windows import LOOKS, Look, Window

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: look.name)
def test_each_view_is_sound_with_its_chart_and_its_table(site: Site, look: Look) -> None:
    async def story(seen: Window) -> None:
        pages = seen.page.get_by_role("navigation", name="Pages")
        await pages.get_by_role("link", name="Reports").click()
        await seen.page.get_by_role("heading", name="Reports").wait_for()
        await _show(seen, by="feature")
        await seen.page.get_by_role("img", name="units").wait_for()
        assert "sessions" in await seen.page.get_by_role("table").inner_text()
        await seen.check()
        await seen.shoot("reports-usage")
        await _show(seen, by="day,feature", compare=True)
        await seen.page.get_by_role("img", name=f"units of {LONG}").wait_for()
        await seen.check()
        await seen.shoot("reports-compared")
        main = seen.page.get_by_role("main")
        await main.get_by_role("link", name="Denials").click()
        await seen.page.get_by_role("heading", name="Denials from").wait_for()
        assert "Too little was left" in await seen.text()
        await seen.check()
        await main.get_by_role("link", name="Seats held at most").click()
        await seen.page.get_by_role("heading", name="Seats held at most from").wait_for()
        assert await seen.page.get_by_role("row", name="editor L3 5").count() == 1
        await seen.check()

    site.tell(story, look)


def test_days_that_are_wrong_are_said_and_mended_and_the_file_has_them(
    site: Site, tmp_path: Path
) -> None:
    async def story(seen: Window) -> None:
        page = seen.page
        seen.refused = True
        await seen.go(f"{site.base}/reports")
        await page.get_by_label("or from").fill("2026-02-02")
        await page.get_by_label("to, included").fill("2026-02-01")
        await page.get_by_label("Features, commas between").fill(f"sessions, {LONG}")
        await page.get_by_role("button", name="Show").click()
        await page.get_by_role("alert").wait_for()
        assert "is before from" in await page.get_by_role("alert").inner_text()
        assert await page.get_by_label("or from").input_value() == "2026-02-02"
        assert await page.get_by_label("to, included").get_attribute("aria-invalid") == "true"
        await page.get_by_label("to, included").fill("2026-02-03")
        await page.get_by_role("button", name="Show").click()
        await page.get_by_role("heading", name="Usage from 2026-02-02 to 2026-02-03").wait_for()
        async with page.expect_download() as waiting:
            await page.get_by_role("link", name="JSON").click()
        file = await waiting.value
        assert file.suggested_filename == f"usage-{site.instance}-2026-02-02-2026-02-03.json"
        await file.save_as(tmp_path / "report.json")
        rows = json.loads((tmp_path / "report.json").read_text())["rows"]
        assert {"sessions", LONG} == {row["feature"] for row in rows}
        await seen.go(f"{site.base}/reports?feature={SCRIPT}")
        await page.get_by_role("alert").wait_for()
        assert SCRIPT in await page.get_by_role("alert").inner_text()
        assert seen.wrong == []

    site.tell(story, scripts=False)


async def _show(seen: Window, *, by: str, compare: bool = False) -> None:
    """Ask for the days around today: whatever was used while tests ran is in them."""
    today = datetime.now(UTC).date()
    for label, days in (("or from", -3), ("to, included", 3)):
        await seen.page.get_by_label(label).fill(str(today + timedelta(days=days)))
    await seen.page.get_by_label("By", exact=True).select_option(by)
    await seen.page.get_by_label("Compare with").set_checked(compare)
    await seen.page.get_by_role("button", name="Show").click()
    await seen.page.wait_for_url(lambda url: parse_qs(urlsplit(url).query).get("by") == [by])
