"""What a person has to find at the pages without a manual, from the log-in on, and does there.

Which line is nearly used up; who holds its seats, and how one is taken back; how many sessions
there were last quarter; what was not forwarded, and why; how a key and a line are added.
"""

from __future__ import annotations

import pytest

from gateway.core.keys import public_pem
from tests.browser.site import EARLIER, IMAGE, SCRIPT, Site
from tests.browser.windows import Window
from tests.vectors.credentials import private

pytestmark = pytest.mark.browser


def test_a_person_finds_and_does_all_of_it_from_the_first_page_on(fresh_site: Site) -> None:
    async def story(seen: Window) -> None:
        await _take_a_seat_of_the_fullest_line_back(seen)
        await _count_the_sessions_of_the_last_quarter(seen)
        await _see_what_was_not_forwarded(seen)
        await _add_a_key(seen)
        await _add_a_line(seen)
        assert seen.wrong == []

    fresh_site.tell(story)


async def _turn_to(seen: Window, title: str) -> None:
    pages = seen.page.get_by_role("navigation", name="Pages")
    await pages.get_by_role("link", name=title, exact=True).click()
    await seen.page.get_by_role("heading", level=1, name=title, exact=True).wait_for()


async def _take_a_seat_of_the_fullest_line_back(seen: Window) -> None:
    page = seen.page
    assert "Fullest: editor, 100 %" in await seen.text()
    await page.get_by_role("listitem").get_by_role("link", name="editor").click()
    await page.get_by_role("heading", name="Who holds it").wait_for()
    held = page.get_by_role("table", name="Hosts that hold it")
    assert "STRING:h1 3" in " ".join((await held.inner_text()).split())
    await page.get_by_role("link", name="Registrations of this line").click()
    await page.get_by_role("link", name="Release STRING:h1", exact=True).click()
    await page.get_by_role("button", name="Release STRING:h1").click()
    await page.get_by_text("Released STRING:h1: 3 of editor came back.").wait_for()


async def _count_the_sessions_of_the_last_quarter(seen: Window) -> None:
    await _turn_to(seen, "Reports")
    await seen.page.get_by_label("Period").select_option(label="last quarter")
    await seen.page.get_by_role("button", name="Show").click()
    row = seen.page.get_by_role("row", name=f"sessions {EARLIER}")
    await row.wait_for()
    await seen.page.get_by_role("img", name="units").wait_for()


async def _see_what_was_not_forwarded(seen: Window) -> None:
    await _turn_to(seen, "Forwarding")
    text = await seen.text()
    assert "units wait to be sent" in text
    for what, why in (("parked-1", f"timed out {IMAGE}"), ("dead-1", f"400 {SCRIPT}")):
        row = seen.page.get_by_role("row", name=what)
        assert why in await row.inner_text()
    refused = seen.page.get_by_role("table", name="Refused for now")
    assert f"LIMIT {IMAGE}" in await refused.inner_text()


async def _add_a_key(seen: Window) -> None:
    page = seen.page
    await _turn_to(seen, "Configuration")
    await page.get_by_role("link", name="Upload and revoke keys").click()
    pem = public_pem(private("third", "EdDSA").public_key()).decode()
    await page.get_by_label("or pasted, PEM").fill(pem)
    await page.get_by_label("Kid, empty for its fingerprint").fill("another")
    await page.get_by_role("button", name="Trust this key").click()
    await page.get_by_text("Requests signed with another are trusted.").wait_for()


async def _add_a_line(seen: Window) -> None:
    """Do what the page says: take the signs before the example away."""
    page = seen.page
    await _turn_to(seen, "Configuration")
    await page.get_by_role("link", name="Add and change lines").click()
    declared = page.get_by_label("or what it says")
    text = await declared.input_value()
    example = text.partition("# To add a line")[2].splitlines()[1:]
    added = "\n".join(row.removeprefix("#") for row in example).replace('"L9"', '"L99"')
    await declared.fill(f"{text}\n{added}")
    await seen.check()
    await seen.shoot("provisioning-line")
    await page.get_by_role("button", name="Show what it would change").click()
    changes = page.get_by_label("Changes")
    await changes.wait_for()
    [told] = (await changes.inner_text()).strip().splitlines()
    assert told.startswith("+ instance DEMO, line L99: feature sessions")
    await page.get_by_role("button", name="Apply these changes").click()
    await page.get_by_text("Done: the instance is at version").wait_for()
    await _turn_to(seen, "Licences")
    await page.get_by_role("row", name="L99").wait_for()
