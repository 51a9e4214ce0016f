"""A real browser at the pages: Debian's chromium through Playwright, and what any page must hold.

Decided here: in which looks pages are seen; and that in each of them a page has one heading and a
title, says nothing on the console, opens no dialog, asks nobody but its gateway, is no wider than
its window, and has nothing that axe finds serious or critical (WCAG 2 A and AA). Not decided here:
what a page says. Source: WCAG 2.2, RELIABILITY 3.

A story runs in a loop of its own; browsers are not handed from one loop to another.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

CHROMIUM: Final = shutil.which("chromium")
PATIENT_MS: Final = 60_000
PASSWORD: Final = "correct horse"


@dataclass(frozen=True)
class Look:
    """How a window is: its colours, its size."""

    name: str
    color_scheme: str
    width: int
    height: int = 900


LIGHT: Final = Look("light", "light", 1280)
DARK: Final = Look("dark", "dark", 1280)
PHONE: Final = Look("phone", "light", 390, 844)
LOOKS: Final = (LIGHT, DARK, PHONE)


@dataclass
class Window:
    """A page in a context of its own; `wrong` is whatever happened in it that must not."""

    page: Any
    url: str
    look: Look
    wrong: list[str] = field(default_factory=list)
    refused: bool = False  # answers of 400 and above are expected

    async def log_in(self, instance: str, user: str = "ann", password: str = PASSWORD) -> None:
        """Log in by the form, and come to the overview."""
        await self.page.goto(f"/ui/login?instance={instance}")
        await self.page.get_by_label("User").fill(user)
        await self.page.get_by_label("Password").fill(password)
        await self.page.get_by_role("button", name="Log in").click()
        await self.page.wait_for_url(f"**/ui/instances/{instance}/")

    async def go(self, path: str) -> None:
        """Open a page by its whole path."""
        await self.page.goto(path)

    async def text(self, within: str = "main") -> str:
        """Give what is read on the page, in one line, its numbers without thin spaces."""
        said: str = await self.page.locator(within).inner_text()
        return " ".join(said.replace("\u202f", "").split())

    async def check(self) -> None:
        """Hold the page against what every page must be."""
        from axe_playwright_python.async_playwright import Axe

        at = f"{self.page.url.removeprefix(self.url)} ({self.look.name})"
        assert await self.page.locator("h1").count() == 1, at
        assert await self.page.title(), at
        # By night the same page has other colours, and nothing else.
        rules = ["color-contrast"] if self.look is DARK else ["wcag2a", "wcag2aa", "wcag21aa"]
        found = await Axe().run(self.page, options={"runOnly": rules})
        worst = [
            (each["id"], [node["html"][:200] for node in each["nodes"]])
            for each in found.response["violations"]
            if each["impact"] in ("serious", "critical")
        ]
        assert worst == [], at
        wide, window = await self.page.evaluate(
            "[document.documentElement.scrollWidth, window.innerWidth]"
        )
        assert wide <= window, f"{at}: {wide} px wide"
        assert self.wrong == [], f"{at}: {self.wrong}"

    async def shoot(self, name: str = "") -> None:
        """Keep a picture of the whole page among the artefacts."""
        path = name or self.page.url.removeprefix(self.url)
        plain = re.sub(r"[^A-Za-z0-9]+", "-", path).strip("-")[:80]
        target = shots() / f"{plain}-{self.look.name}.png"
        await self.page.screenshot(path=target, full_page=True)


@asynccontextmanager
async def browsing() -> AsyncIterator[Any]:
    """Open a browser; without chromium a test skips, or fails where it has to run."""
    if CHROMIUM is None:
        if os.environ.get("CI") == "1":
            pytest.fail("there is no chromium")
        pytest.skip("there is no chromium")
    from playwright.async_api import async_playwright

    async with async_playwright() as opened:
        browser = await opened.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"], timeout=PATIENT_MS
        )
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def window(
    browser: Any, url: str, look: Look = LIGHT, *, scripts: bool = True
) -> AsyncIterator[Window]:
    """Open a window with cookies of its own at a gateway."""
    context = await browser.new_context(
        base_url=url,
        color_scheme=look.color_scheme,
        viewport={"width": look.width, "height": look.height},
        java_script_enabled=scripts,
        reduced_motion="reduce",
    )
    context.set_default_timeout(PATIENT_MS)
    try:
        opened = Window(await context.new_page(), url, look)
        _watch(opened)
        yield opened
    finally:
        await context.close()


def _watch(window: Window) -> None:
    page, wrong = window.page, window.wrong

    async def dismiss(dialog: Any) -> None:
        wrong.append(f"dialog: {dialog.message}")
        await dialog.dismiss()

    def asked(request: Any) -> None:
        if not request.url.startswith(f"{window.url}/") and not request.url.startswith("blob:"):
            wrong.append(f"elsewhere: {request.url}")

    def answered(response: Any) -> None:
        if response.status >= 400 and not window.refused:
            wrong.append(f"{response.status}: {response.url}")

    def said(message: Any) -> None:
        # A failure to load is told by its answer.
        if not message.text.startswith("Failed to load resource"):
            wrong.append(f"console: {message.text}")

    page.on("dialog", dismiss)
    page.on("console", said)
    page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    page.on("response", answered)
    page.on("request", asked)


def shots() -> Path:
    """Give the directory of pictures: GATEWAY_SCREENSHOTS, or one among temporary files."""
    named = os.environ.get("GATEWAY_SCREENSHOTS")
    directory = Path(named) if named else Path(tempfile.gettempdir()) / "cmapi-gateway-screenshots"
    directory.mkdir(parents=True, exist_ok=True)
    return directory
