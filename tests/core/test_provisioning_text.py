"""A catalogue as a provisioning file: what is read again changes nothing, and it tells no key."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.core.errors import InvalidInput
from gateway.core.model import Attachment, Catalogue, FloatingLicense, Line, Model
from gateway.core.provisioning import next_catalogue, read_provisioning
from gateway.core.provisioning_text import (
    EXAMPLE,
    STAND_IN,
    with_license_keys,
    write_provisioning,
)

TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=20)
SPANS = st.sampled_from(("1s", "90m", "1h", "2d", "3w"))
DATES = st.dates().filter(lambda day: 1900 <= day.year < 9999).map(str)
MOMENTS = st.sampled_from(("1999-12-31T23:59:59.999Z", "2026-10-25T02:30:00", "9999-12-30"))


def no_file(name: str) -> bytes:
    raise OSError(name)


def read(text: str) -> Catalogue:
    """Read a file as it is applied to an instance that is not there yet."""
    [declared] = read_provisioning(text, no_file)
    return replace(next_catalogue(Catalogue(id=declared.id), declared), version=1)


def again(catalogue: Catalogue) -> Catalogue:
    """Apply to a catalogue what is written of it."""
    [declared] = read_provisioning(write_provisioning(catalogue), no_file)
    return next_catalogue(catalogue, with_license_keys(declared, catalogue))


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


MEMBERS: dict[str, st.SearchStrategy[str]] = {
    "overdraft": st.sampled_from(("0", "7", '"10%"', '"unlimited"')),
    "starts": DATES | MOMENTS,
    "vendor_string": TEXTS.map(quoted),
    "notice": TEXTS.map(quoted),
    "selectors": TEXTS.map(lambda text: f"{{ {quoted(text)} = {quoted(text)} }}"),
    "product": TEXTS.map(lambda text: f"{{ name = {quoted(text)}, activation_id = '' }}"),
    "borrow_interval": SPANS.map(quoted),
    "renew_percent": st.integers(0, 100).map(str),
    "client_overages": st.sampled_from(("true", "false")),
}
METERED = {
    "undo_interval": SPANS.map(quoted),
    "reset": st.sampled_from(("none", "daily", "monthly")).map(quoted),
    "reset_timezone": st.just('"Asia/Tokyo"'),
}


@st.composite
def files(draw: st.DrawFn) -> str:
    """Make the text of a file."""
    rows = ['[[instance]]\nid = "DEMO"', f"name = {quoted(draw(TEXTS))}"]
    zones = ("UTC", "Europe/Paris", "America/St_Johns", "Pacific/Apia")
    rows.append(f"timezone = {quoted(draw(st.sampled_from(zones)))}")
    rows += draw(st.sampled_from(([], ["default = true"], ["require_exp = false"])))
    rows += draw(st.sampled_from(([], ['[[instance.upstream]]\nname = "up"\nby_host = true'])))
    for number in range(draw(st.integers(0, 3))):
        model = draw(st.sampled_from(list(Model)))
        rows += ["[[instance.line]]", f'id = "L{number}"', f'feature = "f{number}"']
        rows += ['version = "1.0"', f'model = "{model}"']
        rows.append(f"count = {draw(st.sampled_from(('0', '100', quoted('uncounted'))))}")
        rows.append(f"expires = {draw(st.sampled_from((quoted('permanent'), '9999-12-30')))}")
        offered = MEMBERS if model.reusable else MEMBERS | METERED
        for name in draw(st.sets(st.sampled_from(sorted(offered)))):
            rows.append(f"{name} = {draw(offered[name])}")
    return "\n".join(rows)


@settings(max_examples=150, deadline=None)
@given(files())
def test_what_is_written_of_an_instance_changes_nothing(text: str) -> None:
    catalogue = read(text)
    assert again(catalogue) == catalogue


@settings(max_examples=80, deadline=None)
@given(DATES | MOMENTS, st.sampled_from(("UTC", "Europe/Paris", "Pacific/Apia")))
def test_an_expiry_is_written_as_its_last_day_where_it_has_one(said: str, timezone: str) -> None:
    text = f'[[instance]]\nid = "D"\ntimezone = "{timezone}"\n[[instance.line]]\nid = "L"\n'
    text += f'feature = "f"\nversion = "1"\nmodel = "metered"\ncount = 1\nexpires = {said}\n'
    catalogue = read(text)
    assert again(catalogue) == catalogue


def line(name: str, key: str, **more: Any) -> Line:
    floating = FloatingLicense(product="P", feature=name, license_key=key)
    said = {"version": "1", "model": Model.METERED, "count": 5, "capacity": 5, "number": 1}
    return Line(id=name, feature=name, licensespring=floating, **said | more)


def test_license_keys_are_told_apart_and_not_told() -> None:
    lines = (line("a", "KEY-1"), line("b", "KEY-1", number=2), line("c", "KEY-2", number=3))
    catalogue = Catalogue(id="DEMO", version=1, lines=lines, upstreams=(Attachment("cloud"),))
    text = write_provisioning(catalogue)
    assert "KEY" not in text
    assert text.count(STAND_IN) == 3
    assert again(catalogue) == catalogue


def test_a_stand_in_of_no_key_is_refused() -> None:
    text = write_provisioning(Catalogue(id="DEMO", version=1, lines=(line("a", "KEY-1"),)))
    [declared] = read_provisioning(text, no_file)
    with pytest.raises(InvalidInput, match=r"line a: .* stands for no license_key here"):
        with_license_keys(declared, Catalogue(id="DEMO", version=1))


def test_a_key_and_its_stand_in_are_the_same_key() -> None:
    licence = FloatingLicense(license_id=1, product="P", license_key="KEY-1")
    first = replace(line("a", ""), licensespring=licence)
    current = Catalogue(id="DEMO", version=1, lines=(first,))
    text = write_provisioning(current)
    copy = text.partition("  [[instance.line]]")[2].replace('id = "a"', 'id = "b"', 1)
    copy = copy.replace("license_id = 1", "license_id = 2")
    known = write_provisioning(current).split('license_key = "')[1].split('"')[0]
    both = text + "  [[instance.line]]" + copy.replace(known, "KEY-1")
    [declared] = read_provisioning(both, no_file)
    with pytest.raises(InvalidInput, match="a cloud sells it once"):
        with_license_keys(declared, current)


def test_the_example_is_a_line_once_its_signs_are_taken_away() -> None:
    catalogue = Catalogue(id="DEMO", version=1)
    assert read(write_provisioning(catalogue) + EXAMPLE).lines == ()
    rows = [row.removeprefix("#") for row in EXAMPLE.splitlines() if row.startswith("#  ")]
    [added] = read(write_provisioning(catalogue) + "\n".join(rows)).lines
    assert (added.id, added.count, added.overdraft, added.reset) == ("L9", 100, "10%", "monthly")


def test_a_retired_line_is_not_declared_again() -> None:
    gone = replace(line("a", ""), retired=True)
    catalogue = Catalogue(id="DEMO", version=1, lines=(gone,))
    assert "instance.line" not in write_provisioning(catalogue)
    assert again(catalogue) == catalogue
