"""How numbers, moments and spans are written, and that no template lets markup in."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError
from markupsafe import Markup

from gateway.core.model import UNITS_MAX
from gateway.web.ui.browsers import file_name
from gateway.web.ui.rendering import Renderer, moment, span, units
from gateway.web.ui.visits import address, base_of
from tests.web.ui.visitors import XSS, XSS_IN_QUOTES, is_escaped

ROOM = Path(str(files("gateway.web.ui"))) / "templates"
TEMPLATES = sorted(ROOM.glob("*.html"))
FILES = {"style.css": "/s", "refresh.js": "/r", "icon.svg": "/i"}
DAY_MS = 86_400_000


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0"),
        (999, "999"),
        (1_000, "1\u202f000"),
        (-12_345, "\u221212\u202f345"),
        (UNITS_MAX, "unlimited"),
        (None, "unlimited"),
    ],
)
def test_counts_are_written_in_groups(count: int | None, shown: str) -> None:
    assert units(count) == shown


@pytest.mark.parametrize(
    ("ms", "shown"),
    [
        (None, "\u2013"),
        (-1, "0 s"),
        (0, "0 s"),
        (999, "0 s"),
        (59_999, "59 s"),
        (60_000, "1 min"),
        (3_601_000, "1 h"),
        (3_660_000, "1 h 1 min"),
        (2 * DAY_MS + 3 * 3_600_000 + 59_000, "2 d 3 h"),
        (DAY_MS + 1_000, "1 d"),
    ],
)
def test_spans_are_written_by_their_two_greatest_units(ms: int | None, shown: str) -> None:
    assert span(ms) == shown


def test_moments_are_local_to_a_reader_and_exact_to_a_machine() -> None:
    at_ms = 1_767_225_600_123
    assert moment(None) == "\u2013"
    assert moment(at_ms) == (
        '<time datetime="2026-01-01T00:00:00.123Z">2026-01-01 00:00 UTC</time>'
    )
    assert ">2026-01-01 01:00:00 CET<" in moment(at_ms, "Europe/Berlin", seconds=True)


@given(st.integers(-(10**18), 10**18), st.sampled_from(["UTC", "Etc/GMT+12", "Pacific/Kiritimati"]))
def test_no_moment_makes_a_page_fail(at_ms: int, timezone: str) -> None:
    assert moment(at_ms, timezone)


def test_all_that_fills_a_template_is_escaped_but_markup() -> None:
    renderer = Renderer(FILES)
    data = {
        "who": None,
        "navigation": (),
        "told": XSS,
        "status": 400,
        "sentence": XSS_IN_QUOTES,
        "base": "",
        "here": "",
    }
    page = renderer.render("failed.html", data).decode()
    assert is_escaped(page)
    assert "&lt;script&gt;alert(1)" in page
    assert "<b>" in renderer.render("failed.html", data | {"told": Markup("<b>")}).decode()


def test_a_template_that_lacks_something_fails_and_shows_no_gap() -> None:
    with pytest.raises(UndefinedError):
        Renderer(FILES).render("failed.html", {"who": None, "status": 400})


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_no_template_goes_around_escaping_or_the_policy(path: Path) -> None:
    text = path.read_text("utf-8")
    assert not re.search(r"\|\s*safe\b|autoescape|\{%-?\s*raw", text)
    assert not re.search(r"\son[a-z]+\s*=|javascript:|\sstyle\s*=|<style", text)
    assert not re.search(r"(src|href|action)\s*=\s*[\"']?(https?:)?//", text)
    assert text.count("<script") == (1 if path.name == "frame.html" else 0)
    # A value without quotes would end at a space.
    assert not re.search(r"=\{\{", text)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_every_form_that_changes_something_brings_its_word(path: Path) -> None:
    text = path.read_text("utf-8")
    for form in re.findall(r"<form\b.*?</form>", text, re.DOTALL):
        if 'method="post"' in form and 'action="/ui/login"' not in form:
            assert 'name="xsrf" value="{{ xsrf }}"' in form, form[:200]


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_tables_say_what_they_are_and_what_their_headings_head(path: Path) -> None:
    text = path.read_text("utf-8")
    for table in re.findall(r"<table\b.*?</table>", text, re.DOTALL):
        assert "<caption" in table, table[:200]
    assert not re.search(r"<th(?![^>]*scope=)[ >]", text)


def test_addresses_hold_nothing_that_ends_them() -> None:
    assert base_of("a/b?c") == "/ui/instances/a%2Fb%3Fc"
    found = address("/x", q='"><&\r\n', none=None, empty="", zero=0)
    assert found == "/x?q=%22%3E%3C%26%0D%0A&zero=0"


@given(st.text())
def test_the_name_of_a_file_ends_no_header_and_leads_nowhere(text: str) -> None:
    name = file_name(text)
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,128}", name)
    assert not name.startswith(".")


def test_a_sound_name_of_a_file_stays() -> None:
    assert file_name("usage-DEMO-2026-11.csv") == "usage-DEMO-2026-11.csv"
    assert file_name('a"\r\nX: y/../b.csv') == "a-X-y-..-b.csv"
    assert file_name("\u00e4") == "download"
