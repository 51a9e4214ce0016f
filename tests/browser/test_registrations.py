"""Registrations in a real browser: who holds seats is found at once, and released once only."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.core.model import Role
from tests.browser.site import IMAGE, SCRIPT, Site
from tests.browser.windows import LOOKS, Look, Window, browsing, window
from tests.vectors.served import Served
from tests.web.doors import door_serving
from tests.web.ui.visitors import Visit, at_visitor

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with door_serving(tmp_path_factory.mktemp("registrations")) as opened:
        yield opened


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: look.name)
def test_who_holds_seats_of_which_protocol_is_found_in_two_clicks(site: Site, look: Look) -> None:
    async def story(seen: Window) -> None:
        pages = seen.page.get_by_role("navigation", name="Pages")
        await pages.get_by_role("link", name="Registrations").click()
        await seen.page.get_by_role("heading", name="Registrations").wait_for()
        text = await seen.text()
        for host in ("STRING:h1", f"STRING:{SCRIPT}", f"STRING:{IMAGE}"):
            assert host in text
        alice = await seen.page.get_by_role("row", name="alice").inner_text()
        assert "LicenseSpring" in alice
        assert "suite-seats" in alice
        assert "late" not in await seen.page.locator("tbody").inner_text()  # it was denied
        await seen.check()
        await seen.shoot("registrations")
        await seen.page.get_by_label("Holds something of line").fill("L3")
        await seen.page.get_by_role("button", name="Search").click()
        await seen.page.get_by_text("Who holds something of line").wait_for()
        first = await seen.page.locator("tbody tr").first.inner_text()
        assert first.startswith("STRING:h1")
        assert "3 of editor" in first
        assert "alice" not in await seen.text()
        await seen.page.get_by_role("link", name="Release STRING:h1", exact=True).click()
        await seen.page.get_by_role("button", name="Release STRING:h1").wait_for()
        await seen.check()
        await seen.shoot("registrations-release")
        await seen.page.get_by_role("link", name="Leave it").click()
        await seen.page.get_by_text("Who holds something of line").wait_for()

    site.tell(story, look)


def test_a_double_click_returns_what_is_held_once(served: Served) -> None:
    async def story(ann: Visit) -> None:
        await ann.ask("h1", ("editor", 2))
        async with browsing() as browser, window(browser, served.url) as seen:
            await seen.log_in(ann.door.instance)
            seen.refused = True  # whichever click came second may be told so
            await seen.go(f"{ann.base}/registrations/release?host=STRING:h1")
            await seen.page.get_by_role("button", name="Release STRING:h1").dblclick()
            await (
                seen.page.get_by_text("Released STRING:h1: 2 of editor came back")
                .or_(seen.page.get_by_text("This host is not here any more"))
                .wait_for()
            )
            assert seen.wrong == []
        assert await ann.door.used() == {}

    at_visitor(served, story, Role.READ, Role.DROPCLIENT)


def test_what_changed_since_it_was_shown_is_shown_again_and_released_by_key(
    served: Served,
) -> None:
    async def story(ann: Visit) -> None:
        await ann.ask("h1", ("editor", 1))
        async with browsing() as browser, window(browser, served.url) as seen:
            await seen.log_in(ann.door.instance)
            seen.refused = True
            await seen.go(f"{ann.base}/registrations/release?host=STRING:h1")
            await ann.ask("h1", ("editor", 2))
            button = seen.page.get_by_role("button", name="Release STRING:h1")
            await button.focus()
            await seen.page.keyboard.press("Enter")
            await seen.page.get_by_role("alert").wait_for()
            assert "2 of editor" in await seen.text()
            await seen.check()
            await button.focus()
            await seen.page.keyboard.press("Enter")
            await seen.page.get_by_text("2 of editor came back").wait_for()
            assert seen.wrong == []
        assert await ann.door.used() == {}

    at_visitor(served, story, Role.READ, Role.DROPCLIENT)
