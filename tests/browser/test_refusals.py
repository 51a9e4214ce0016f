"""What is refused at configuration pages, in a real browser: said, kept to be mended, sound."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.core.keys import private_pem
from gateway.core.model import Role
from tests.browser.windows import DARK, LIGHT, Window, browsing, window
from tests.vectors.credentials import private
from tests.vectors.served import Served
from tests.web.doors import door_serving
from tests.web.ui.visitors import XSS_IN_QUOTES, Visit, at_visitor

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with door_serving(tmp_path_factory.mktemp("refusals")) as opened:
        yield opened


def test_what_is_refused_is_said_and_changes_nothing_by_day_and_by_night(served: Served) -> None:
    async def story(ann: Visit) -> None:
        before = await ann.catalogue()
        async with browsing() as browser:
            async with window(browser, served.url, LIGHT) as seen:
                seen.refused = True
                await seen.log_in(ann.door.instance)
                await _private_key(seen, ann)
                await _wrong_file(seen, ann)
                await _last_administrator(seen, ann)
            async with window(browser, served.url, DARK) as seen:
                seen.refused = True
                await seen.log_in(ann.door.instance)
                await _wrong_file(seen, ann)
        assert await ann.catalogue() == before

    at_visitor(served, story, Role.READ, Role.ADMIN)


async def _refused(seen: Window, button: str, sentence: str, name: str) -> None:
    await seen.page.get_by_role("button", name=button).click()
    await seen.page.get_by_role("alert").first.wait_for()
    assert sentence in await seen.text()
    await seen.check()
    await seen.shoot(f"refused-{name}")


async def _private_key(seen: Window, ann: Visit) -> None:
    pem = private_pem(private("own", "EdDSA")).decode()
    await seen.go(f"{ann.base}/configuration/keys")
    await seen.page.get_by_label("or pasted, PEM").fill(pem)
    await seen.page.get_by_label("Kid, empty").fill(XSS_IN_QUOTES)
    await _refused(seen, "Trust this key", "private", "key")
    assert await seen.page.get_by_label("Kid, empty").input_value() == XSS_IN_QUOTES
    shown = await seen.page.content()
    assert not any(row in shown for row in pem.splitlines() if row)


async def _wrong_file(seen: Window, ann: Visit) -> None:
    typed = f'[[instance]]\nid = "{ann.door.instance}"\nname = {XSS_IN_QUOTES!r}\nwrong = 1\n'
    await seen.go(f"{ann.base}/configuration/provisioning")
    await seen.page.get_by_label("or what it says").fill(typed)
    await _refused(seen, "Show what it would change", "'wrong' is not a member", "provisioning")
    assert await seen.page.get_by_label("or what it says").input_value() == typed


async def _last_administrator(seen: Window, ann: Visit) -> None:
    await seen.go(f"{ann.base}/configuration/users/remove?name=ann")
    assert "This is you" in await seen.text()
    await _refused(seen, "Remove ann", "ROLE_ADMIN", "last-administrator")
