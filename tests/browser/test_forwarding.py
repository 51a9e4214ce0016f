"""Forwarding and the consumption list in a real browser: seen, decided, synced, nothing violated.

Law: WCAG 2 A and AA as axe judges them, in light and dark and at 390 px; no page is wider than its
window, none loads anything from elsewhere or says anything on the console; and all of it goes
without scripts.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.core.ports import Mark, Standing
from tests.store.outbox_house import INSTANCE, UPSTREAM
from tests.web.desks import PASSWORD
from tests.web.servers import standing
from tests.web.ui.lanes import BASE, CLOUD, Lanes, at_lanes

pytestmark = pytest.mark.browser

CHROMIUM = shutil.which("chromium")
EVIL = '"><img src=x onerror=alert(1)>'
BLOCKED = f"{INSTANCE}/{UPSTREAM}/L2"
MARK = Mark("L2", "", f"LIMIT {EVIL}", since_ms=1_000, retry_ms=4_102_444_800_000)
PATIENT_MS = 60_000
LOOKS: tuple[dict[str, Any], ...] = (
    {"color_scheme": "light", "viewport": {"width": 1280, "height": 900}},
    {"color_scheme": "dark", "viewport": {"width": 1280, "height": 900}},
    {"color_scheme": "light", "viewport": {"width": 390, "height": 844}},
)


@asynccontextmanager
async def browsing() -> AsyncIterator[Any]:
    if CHROMIUM is None:
        if os.environ.get("CI") == "1":
            pytest.fail("there is no chromium")
        pytest.skip("there is no chromium")
    playwright = pytest.importorskip("playwright.async_api")
    async with playwright.async_playwright() as opened:
        browser = await opened.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def window(browser: Any, url: str, **look: Any) -> AsyncIterator[tuple[Any, list[str]]]:
    """Open a window in which ann is logged in; gives its page and what is wrong with it."""
    context = await browser.new_context(base_url=url, **look)
    context.set_default_timeout(PATIENT_MS)
    wrong: list[str] = []

    async def dismiss(dialog: Any) -> None:
        wrong.append(f"dialog: {dialog.message}")
        await dialog.dismiss()

    def requested(request: Any) -> None:
        if not request.url.startswith(url):
            wrong.append(f"elsewhere: {request.url}")

    def answered(response: Any) -> None:
        if response.status >= 400 and not response.url.endswith("/favicon.ico"):
            wrong.append(f"{response.status}: {response.url}")

    def said(message: Any) -> None:
        if not message.text.startswith("Failed to load resource"):  # that is told by its answer
            wrong.append(f"console: {message.text}")

    try:
        page = await context.new_page()
        page.on("dialog", dismiss)
        page.on("console", said)
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on("response", answered)
        page.on("request", requested)
        await page.goto(f"/ui/login?instance={INSTANCE}")
        await page.get_by_label("User").fill("ann")
        await page.get_by_label("Password").fill(PASSWORD)
        await page.get_by_role("button", name="Log in").click()
        await page.wait_for_url(f"**{BASE}/")
        yield page, wrong
    finally:
        await context.close()


async def prepare(lanes: Lanes) -> None:
    """Let one batch be parked, one line refused, one batch under way, and something wait."""
    await lanes.house.use("sessions", 42)
    await lanes.house.put_aside("b1", Standing.PARKED, f"timed out {EVIL}")
    await lanes.house.use("users", 7, host=EVIL)
    await lanes.house.block("b2", [MARK])
    await lanes.house.use("sessions", 3)


async def check(page: Any, wrong: list[str], path: str) -> None:
    """Go to a page and hold it against the law."""
    from axe_playwright_python.async_playwright import Axe

    await page.goto(f"{BASE}/{path}")
    assert await page.locator("h1").count() == 1
    found = await Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "best-practice"]})
    worst = [
        (each["id"], [node["html"][:200] for node in each["nodes"]])
        for each in found.response["violations"]
        if each["impact"] in ("serious", "critical")
    ]
    assert worst == [], path
    width = await page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert width[0] <= width[1], path
    assert wrong == [], path


def test_pages_are_sound_in_light_and_dark_and_on_a_phone(tmp_path: Path) -> None:
    async def story(lanes: Lanes) -> None:
        await prepare(lanes)
        async with standing(lanes.app) as server, browsing() as browser:
            for look in LOOKS:
                async with window(browser, server.url, **look) as (page, wrong):
                    for path in (
                        "forwarding",
                        "forwarding/aside?address=b1",
                        f"forwarding/aside?address={BLOCKED}",
                        "forwarding/record",
                        "consumption",
                        "consumption?q=nothing",
                    ):
                        await check(page, wrong, path)
                    await page.goto(f"{BASE}/forwarding/aside?address=b1")
                    await page.get_by_label("Discard", exact=True).check()
                    await page.get_by_label("Reason").fill(EVIL)
                    await page.get_by_role("button", name="Go on").click()
                    await page.get_by_role("button", name="Discard").wait_for()
                    text = await page.locator("main").inner_text()
                    assert "42 units of 1 line" in text
                    assert EVIL in text
                    assert wrong == []

    at_lanes(tmp_path, story, attached=(UPSTREAM, CLOUD))


def test_a_person_decides_and_syncs_without_scripts(tmp_path: Path) -> None:
    async def story(lanes: Lanes) -> None:
        await prepare(lanes)
        async with (
            standing(lanes.app) as server,
            browsing() as browser,
            window(browser, server.url, java_script_enabled=False) as (page, wrong),
        ):
            pages = page.get_by_role("navigation", name="Pages")
            await pages.get_by_role("link", name="Forwarding").click()
            await page.get_by_role("link", name="b1", exact=True).click()
            await page.get_by_label("It was applied", exact=True).check()
            await page.get_by_label("Reason").fill("seen in their log")
            await page.get_by_role("button", name="Go on").click()
            await page.get_by_role("button", name="It was applied").click()
            told = page.get_by_role("status")
            await told.wait_for()
            assert "It is in the record." in await told.inner_text()
            assert (await lanes.house.sums())["L1"] == {"forwarded": 42, "open": 3}
            await page.get_by_role("link", name="L2", exact=True).click()
            await page.get_by_label("Send again", exact=True).check()
            await page.get_by_label("Reason").fill("their limit was raised")
            await page.get_by_role("button", name="Go on").click()
            await page.get_by_role("button", name="Send again").click()
            await told.wait_for()
            assert (await lanes.house.sums())["L2"] == {"open": 7}
            await page.get_by_role("button", name=f"Sync {UPSTREAM} now").click()
            await page.get_by_text("whoever forwards has not come to it yet").wait_for()
            assert (await lanes.syncs.schedule(INSTANCE, UPSTREAM)).asked == 1
            await page.get_by_role("link", name="What was decided, by whom and why").click()
            await page.get_by_text("seen in their log").wait_for()
            await pages.get_by_role("link", name="Consumption list").click()
            await page.get_by_text("10 units of 2 lines are not synced yet").wait_for()
            assert wrong == []

    at_lanes(tmp_path, story)
