"""The walk: every page that a person can reach, in every look, held against what all pages must be.

What is checked of each page is windows.py's, what there is to see site.py's. The walk goes on from
the navigation by links, one of a kind: of twenty lines that lead to the same page the first, and
those whose names try to be markup.
"""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from tests.browser.site import DENIED_ID, IMAGE, KID, SCRIPT, Site
from tests.browser.windows import LOOKS, PHONE, Look, Window, browsing, window

pytestmark = pytest.mark.browser

PAGES_MAX = 60
PAGES = (
    "Overview",
    "Licences",
    "Registrations",
    "Consumption list",
    "Reports",
    "Forwarding",
    "Configuration",
)


async def links_of(opened: Window, site: Site) -> list[str]:
    """Give the addresses of pages that a page links to, below the instance's."""
    found: list[str] = await opened.page.evaluate(
        "[...document.querySelectorAll('main a[href]:not([download])')].map(a => a.href)"
    )
    base = f"{site.url}{site.base}/"
    return [each.removeprefix(base).partition("#")[0] for each in found if each.startswith(base)]


def kind_of(path: str) -> tuple[Any, ...]:
    """Say which links are alike: the same page asked the same, whatever of; markup is no other."""
    parts = urlsplit(path)
    odd = any(text in value for _, value in parse_qsl(parts.query) for text in (SCRIPT, IMAGE, KID))
    return parts.path, odd, tuple(sorted(name for name, _ in parse_qsl(parts.query)))


async def walk(opened: Window, site: Site) -> list[str]:
    """Go through all pages, and check each; gives those that were seen."""
    nav = opened.page.get_by_role("navigation", name="Pages").get_by_role("link")
    assert await nav.all_inner_texts() == list(PAGES)
    waiting = [str(await link.get_attribute("href")) for link in await nav.all()]
    waiting = [each.removeprefix(f"{site.base}/") for each in waiting]
    waiting += [f"licences/request?id={DENIED_ID}", "licences?q=nothing-like-it"]
    seen: dict[tuple[Any, ...], str] = {}
    while waiting and len(seen) < PAGES_MAX:
        path = waiting.pop(0)
        if kind_of(path) in seen:
            continue
        seen[kind_of(path)] = path
        answer = await opened.page.context.request.get(f"{site.base}/{path}")
        assert answer.status == 200, path
        if "text/html" not in answer.headers["content-type"]:
            continue  # a file to keep
        text = await answer.text()
        assert SCRIPT not in text, path
        assert IMAGE not in text, path
        await opened.go(f"{site.base}/{path}")
        await opened.check()
        await opened.shoot(path or "overview")
        waiting += await links_of(opened, site)
    return list(seen.values())


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: look.name)
def test_every_page_is_sound_in_every_look(site: Site, look: Look) -> None:
    async def story(opened: Window) -> None:
        seen = {urlsplit(path).path for path in await walk(opened, site)}
        assert seen > {
            *("", "licences", "licences/line", "licences/request", "registrations"),
            *("registrations/release", "consumption", "reports", "reports/file", "forwarding"),
            *("forwarding/aside", "forwarding/record", "configuration", "configuration/keys"),
            *("configuration/keys/public", "configuration/keys/revoke", "configuration/users"),
            *("configuration/users/change", "configuration/users/remove"),
        }

    site.tell(story, look)


def test_the_way_in_is_sound_in_every_look(site: Site) -> None:
    async def told() -> None:
        async with browsing() as browser:
            for look in LOOKS:
                async with window(browser, site.url, look) as opened:
                    opened.refused = True
                    await opened.go(f"/ui/login?instance={site.instance}&over=1")
                    await opened.check()
                    await opened.shoot("login")
                    await opened.page.get_by_label("User").fill(IMAGE)
                    await opened.page.get_by_label("Password").fill("wrong")
                    await opened.page.get_by_role("button", name="Log in").click()
                    await opened.page.get_by_role("alert").wait_for()
                    await opened.check()
                    await opened.go(f"{site.base}/{IMAGE}")
                    await opened.check()

    asyncio.run(told())


def test_every_page_of_the_navigation_is_read_without_scripts(site: Site) -> None:
    async def story(opened: Window) -> None:
        nav = opened.page.get_by_role("navigation", name="Pages")
        for title in PAGES:
            await nav.get_by_role("link", name=title, exact=True).click()
            current = nav.locator("[aria-current=page]")
            assert await current.inner_text() == title
            assert await opened.page.locator("h1").count() == 1
            assert len(await opened.text()) > 20
        await opened.page.get_by_role("button", name="Log out").click()
        await opened.page.get_by_role("status").filter(has_text="You are logged out.").wait_for()

    site.tell(story, scripts=False)


def test_who_may_only_read_finds_every_page_and_is_offered_no_change(site: Site) -> None:
    async def story(opened: Window) -> None:
        nav = opened.page.get_by_role("navigation", name="Pages")
        for title in PAGES:
            await nav.get_by_role("link", name=title, exact=True).click()
            assert await opened.page.locator("main form[method=post]").count() == 0, title

    site.tell(story, user="bob")


def test_a_keyboard_reaches_the_content_and_each_thing_in_order(site: Site) -> None:
    async def story(opened: Window) -> None:
        page = opened.page
        for path in ("", "licences", "forwarding", "configuration/users"):
            await opened.go(f"{site.base}/{path}")
            await page.keyboard.press("Tab")
            assert await page.evaluate("document.activeElement.className") == "skip"
            box = await page.locator(".skip").bounding_box()
            assert box is not None
            assert box["x"] >= 0, "the link to the content is not seen when it has the focus"
            await page.keyboard.press("Enter")
            assert await page.evaluate("document.activeElement.id") == "main"
            await page.keyboard.press("Tab")
            assert await page.evaluate(
                "document.querySelector('main').contains(document.activeElement)"
            ), path
            ordered = "[tabindex]:not([tabindex='0'], [tabindex='-1'])"
            assert await page.locator(ordered).count() == 0, "an order of its own"
            assert opened.wrong == []

    site.tell(story)


# A person finds within a minute: two clicks at most from the overview -----------------------------


async def click(opened: Window, name: str) -> None:
    """Follow the first link of the page's content with this name."""
    before = opened.page.url
    await opened.page.locator("main").get_by_role("link", name=name).first.click()
    await opened.page.wait_for_url(lambda url: url != before)


def test_which_line_is_nearly_used_up_and_who_holds_it(site: Site) -> None:
    async def story(opened: Window) -> None:
        text = await opened.text()
        assert text.index("Fullest: editor, 100 %") < text.index("pages")
        await click(opened, "editor")
        told = await opened.text()
        for holder in ("h1", SCRIPT, IMAGE):
            assert holder in told
        assert "4" in told

    site.tell(story, PHONE)


def test_why_a_request_was_denied(site: Site) -> None:
    async def story(opened: Window) -> None:
        text = await opened.text()
        assert "Too little was left" in text
        asked = opened.page.get_by_label("Why was a request granted or denied?")
        await asked.fill(DENIED_ID)
        await opened.page.get_by_role("button", name="Explain").click()
        await opened.page.wait_for_url(f"**{DENIED_ID}**")
        told = await opened.text()
        assert "Of 1 asked for there were 0" in told
        assert "See who holds it and release what is not needed" in told

    site.tell(story)


def test_whether_everything_was_forwarded_and_what_to_decide(site: Site) -> None:
    async def story(opened: Window) -> None:
        text = await opened.text()
        assert "2 batches set aside, 1 row blocked" in text
        await click(opened, "Decide")
        told = await opened.text()
        for name in ("parked-1", "dead-1", "timed out"):
            assert name in told
        await click(opened, "parked-1")
        assert "42" in await opened.text()

    site.tell(story)


# Shown anew ---------------------------------------------------------------------------------------


def test_a_page_is_shown_anew_and_says_since_when_it_could_not_be(fresh_site: Site) -> None:
    async def story(opened: Window) -> None:
        page, overview = opened.page, f"{fresh_site.base}/"
        await page.clock.install()
        await opened.go(overview)
        await page.evaluate("document.querySelector('main').dataset.was = 'here'")
        await page.clock.fast_forward(60_000)
        await page.locator("main[data-was]").wait_for(state="detached")
        assert await page.locator("#stale").count() == 0

        await page.route(f"**{overview}", lambda route: route.abort())
        await page.clock.fast_forward(60_000)
        stale = page.locator("#stale")
        await stale.filter(has_text="the gateway does not answer").wait_for()
        await page.unroute(f"**{overview}")
        await page.clock.fast_forward(60_000)
        await stale.wait_for(state="detached")

        xsrf = await page.locator("header input[name=xsrf]").get_attribute("value")
        await page.context.request.post(f"{overview}logout", form={"xsrf": xsrf})
        await page.clock.fast_forward(60_000)
        await stale.filter(has_text="you are logged out").wait_for()
        assert "Books" in await opened.text()

    fresh_site.tell(story)
