"""Overview and licences in a real browser: sound in every look, and found within a minute."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from gateway.core.model import Attachment, Line, Product
from tests.browser.windows import LOOKS, browsing, window
from tests.vectors.loader import applied
from tests.vectors.served import Served
from tests.web.ui.looks import EVIL, Looker, at_looker, looks_serving

pytestmark = pytest.mark.browser

LONG = "a" * 128
PATHS = (
    "",
    "licences",
    "licences?show=retired",
    "licences/line?id=sessions",
    "licences/line?id=editor",
    "licences/line?id=long",
    "licences/request?id=order-1",
    "licences/request?id=nothing",
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    data_dir = tmp_path_factory.mktemp("licences")
    with looks_serving(data_dir, EXPLAIN__RETENTION="1h") as opened:
        yield opened


def _lines() -> tuple[Line, ...]:
    """Give lines of all models, with awkward names where they come from outside."""
    lines = [
        replace(line, product=Product(name=EVIL), notice=LONG, vendor_string=EVIL)
        for line in applied("DEMO", "DEMO").lines
    ]
    first = lines[0]
    lines += [
        replace(first, id="long", feature=LONG, number=8, product=Product(name=LONG)),
        replace(first, id="gone", feature="gone", number=9, retired=True),
    ]
    return tuple(lines)


async def _prepare(looker: Looker) -> None:
    """Let one line be full, one nearly so, and hosts of awkward names be denied."""
    await looker.ask("h1", ("sessions", 96), ("users", 11), ("editor", 2))
    await looker.ask(EVIL, ("editor", 1))
    await looker.ask(LONG, ("editor", 1), ("nothing", 1))
    body = {"hostId": {"type": "string", "value": EVIL + "2"}, "features": [{"name": "editor"}]}
    answer = await looker.door.knock(body, {"Idempotency-Key": "order-1"})
    assert answer.status_code == 200


CHANGES = {"name": EVIL, "upstreams": (Attachment("parent"),)}


def test_overview_and_licences_are_sound_in_every_look(served: Served) -> None:
    async def story(looker: Looker) -> None:
        await _prepare(looker)
        async with browsing() as browser:
            for look in LOOKS:
                async with window(browser, served.url, look) as opened:
                    await opened.log_in(looker.door.instance)
                    for path in PATHS:
                        opened.refused = path.endswith("=nothing")
                        await opened.go(f"/ui/instances/{looker.door.instance}/{path}")
                        await opened.check()

    at_looker(served, story, lines=_lines(), **CHANGES)


def test_a_person_finds_what_is_full_who_holds_it_and_why_without_scripts(
    served: Served,
) -> None:
    async def story(looker: Looker) -> None:
        await _prepare(looker)
        async with (
            browsing() as browser,
            window(browser, served.url, scripts=False) as opened,
        ):
            page = opened.page
            await opened.log_in(looker.door.instance)
            text = await opened.text()
            assert "3 lines" in text
            assert "old is the oldest usage" in text
            await page.get_by_role("listitem").get_by_role("link", name="editor").click()
            await page.get_by_role("heading", name="Who holds it").wait_for()
            text = await opened.text()
            assert "STRING:h1" in text
            assert f"STRING:{EVIL}" in text
            assert "Too little was left" in text
            await page.get_by_label("Its idempotency id").fill("order-1")
            await page.get_by_role("button", name="Explain").click()
            await page.get_by_text("Of 1 asked for there were 0").wait_for()
            pages = page.get_by_role("navigation", name="Pages")
            await pages.get_by_role("link", name="Licences").click()
            await page.get_by_label("Feature, line or product").fill("SESSION")
            await page.get_by_role("button", name="Search").click()
            await page.get_by_role("link", name="sessions").click()
            await page.get_by_text("96 units were ever acknowledged").wait_for()
            assert opened.wrong == []

    at_looker(served, story, lines=_lines(), **CHANGES)


def test_the_overview_is_shown_anew_by_itself_and_by_key_alone_a_line_is_reached(
    served: Served,
) -> None:
    async def story(looker: Looker) -> None:
        async with browsing() as browser, window(browser, served.url) as opened:
            page = opened.page
            await page.clock.install()
            await opened.log_in(looker.door.instance)
            assert "Nothing was denied" in await opened.text()
            await looker.ask("h1", ("editor", 3))
            await looker.ask("h2", ("editor", 1))
            await page.clock.run_for(11_000)
            await page.get_by_text("Too little was left").wait_for()
            await page.get_by_role("listitem").get_by_role("link", name="editor").focus()
            await page.keyboard.press("Enter")
            await page.get_by_role("heading", name="Who holds it").wait_for()
            assert opened.wrong == []

    at_looker(served, story)
