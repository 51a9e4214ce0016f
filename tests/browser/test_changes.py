"""Each change of registrations and configuration works in a real browser without scripts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.core.keys import public_pem
from gateway.core.model import Attachment, Role
from tests.browser.windows import LOOKS, Window, browsing, window
from tests.vectors.credentials import private
from tests.vectors.served import Served
from tests.web.doors import door_serving
from tests.web.ui.visitors import XSS, XSS_IN_QUOTES, Visit, at_visitor

pytestmark = pytest.mark.browser

LONG = "b" * 120
ROLES = (Role.READ, Role.ADMIN, Role.DROPCLIENT)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with door_serving(tmp_path_factory.mktemp("changes")) as opened:
        yield opened


def provisioning(instance: str) -> str:
    return f"""
[[instance]]
id = "{instance}"
name = {XSS_IN_QUOTES!r}
  [[instance.line]]
  id = "N1"
  feature = "{LONG}"
  version = "1.0"
  model = "concurrent"
  count = 3
"""


async def _prepare(ann: Visit) -> None:
    """Let hosts of awkward names hold, consume and be denied something."""
    await ann.put(name=XSS_IN_QUOTES, upstreams=(Attachment("up"),))
    await ann.join("bob", Role.READ, log_in=False)
    for host in (XSS, LONG, XSS_IN_QUOTES):
        await ann.ask(host, ("editor", 1), ("sessions", 7))
    await ann.ask("h9", ("editor", 9), ("nothing", 1))


def test_what_a_file_would_change_is_shown_soundly_in_every_look(served: Served) -> None:
    async def story(ann: Visit) -> None:
        await _prepare(ann)
        async with browsing() as browser:
            for look in LOOKS:
                async with window(browser, served.url, look) as seen:
                    await seen.log_in(ann.door.instance)
                    await seen.go(f"{ann.base}/configuration/provisioning")
                    await seen.check()
                    text = provisioning(ann.door.instance)
                    await seen.page.get_by_label("or what it says").fill(text)
                    await seen.page.get_by_role("button", name="Show what").click()
                    await seen.page.get_by_role("button", name="Apply these changes").wait_for()
                    assert "Give up" in await seen.text()
                    await seen.check()

    at_visitor(served, story, *ROLES)


def test_each_change_works_without_scripts(served: Served, tmp_path: Path) -> None:
    pem = tmp_path / "public.pem"
    pem.write_bytes(public_pem(private("other", "EdDSA").public_key()))

    async def story(ann: Visit) -> None:
        await _prepare(ann)
        async with (
            browsing() as browser,
            window(browser, served.url, scripts=False) as seen,
        ):
            await seen.log_in(ann.door.instance)
            await _release(seen, ann)
            await _keys(seen, ann, pem)
            await _users(seen, ann)
            await _policies(seen, ann)
            await _provision(seen, ann)
            await _report(seen, ann)
            await seen.page.get_by_role("button", name="Log out").click()
            assert "You are logged out." in await seen.text()
            assert seen.wrong == []

    at_visitor(served, story, *ROLES)


async def _press(seen: Window, name: str) -> str:
    """Press a button and give what is read after that."""
    await seen.page.get_by_role("button", name=name, exact=True).click()
    return await seen.text()


async def _release(seen: Window, ann: Visit) -> None:
    await seen.go(f"{ann.base}/registrations")
    await seen.page.get_by_role("link", name=f"Release STRING:{XSS}", exact=True).click()
    told = await _press(seen, f"Release STRING:{XSS}")
    assert f"Released STRING:{XSS}: 1 of editor came back." in told


async def _keys(seen: Window, ann: Visit, pem: Path) -> None:
    await seen.go(f"{ann.base}/configuration/keys")
    await seen.page.get_by_label("Public key, PEM or DER").set_input_files(pem)
    await seen.page.get_by_label("Kid, empty for its fingerprint").fill("k9")
    assert "signed with k9 are trusted" in await _press(seen, "Trust this key")
    await seen.page.get_by_role("link", name="Revoke k9", exact=True).click()
    assert "k9 is revoked." in await _press(seen, "Revoke k9")


async def _users(seen: Window, ann: Visit) -> None:
    await seen.go(f"{ann.base}/configuration/users")
    await seen.page.get_by_label("Name").fill("carol")
    await seen.page.get_by_label("Password, 8").fill("a horse of hers")
    await seen.page.get_by_label("The same again").fill("a horse of hers")
    assert "carol may log in." in await _press(seen, "Add the user")
    await seen.page.get_by_role("link", name="Change carol").click()
    await seen.page.get_by_label("ROLE_PRODUCER").check()
    assert "carol is changed" in await _press(seen, "Change carol")
    await seen.page.get_by_role("link", name="Remove carol").click()
    assert "carol is removed." in await _press(seen, "Remove carol")


async def _policies(seen: Window, ann: Visit) -> None:
    await seen.go(f"{ann.base}/configuration")
    await seen.page.get_by_label("Borrow interval").fill("3d")
    assert "The policies are changed." in await _press(seen, "Change the policies")
    assert (await ann.catalogue()).borrow_ms == 3 * 86_400_000


async def _provision(seen: Window, ann: Visit) -> None:
    await seen.page.get_by_role("link", name="Provision from a file").click()
    await seen.page.get_by_label("or what it says").fill(provisioning(ann.door.instance))
    assert "line N1: feature" in await _press(seen, "Show what it would change")
    await seen.page.get_by_label("Give up").check()
    await seen.page.get_by_label("Why, for the record").fill("agreed")
    assert "Done: the instance is at version" in await _press(seen, "Apply these changes")
    lines = (await ann.catalogue()).lines
    assert {"N1"} == {line.id for line in lines if not line.retired}


async def _report(seen: Window, ann: Visit) -> None:
    await seen.go(f"{ann.base}/reports")
    await seen.page.get_by_label("Period").select_option("year-to-date")
    await seen.page.get_by_label("By", exact=True).select_option("month,feature")
    assert "21 units in all" in await _press(seen, "Show")
    async with seen.page.expect_download() as waiting:
        await seen.page.get_by_role("link", name="CSV").first.click()
    file = await waiting.value
    assert file.suggested_filename.endswith(".csv")
