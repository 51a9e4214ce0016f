"""Which lines are one licence, which licence is meant, and what is refused of a file.

Source: protocols/licensespring.md 1.1, 4 and 10.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from gateway.core.catalogue import CatalogueIndex
from gateway.core.errors import InvalidInput
from gateway.core.floating import (
    FEATURES_MAX,
    License,
    Licenses,
    Overages,
    Refusal,
    licenses_of,
    overages_of,
    overdraft_asked,
    timeout_minutes,
    user_host,
    with_overdraft,
)
from gateway.core.model import UNITS_MAX, Catalogue, FloatingLicense, Line, Model
from gateway.core.provisioning import read_provisioning
from gateway.protocols.cmapi_request import HOST_TYPES

_numbers = itertools.count(1)


def line(
    id_: str,
    license_id: int | None,
    product: str = "P",
    feature: str = "",
    *,
    model: Model = Model.METERED,
    count: int | None = 10,
    **more: Any,
) -> Line:
    more.setdefault("number", next(_numbers))
    sold = FloatingLicense(license_id=license_id, product=product, feature=feature)
    return Line(
        id=id_,
        feature=id_,
        version="1.0",
        model=model,
        count=count,
        capacity=UNITS_MAX if count is None else count,
        licensespring=sold,
        **more,
    )


# Licences ---------------------------------------------------------------------------------------


def test_lines_of_one_id_are_one_licence() -> None:
    lines = [
        line("u", 77),
        line("s", 77, model=Model.CONCURRENT),
        line("b", 77, feature="b"),
        line("a", 77, feature="a", model=Model.CONCURRENT),
    ]
    (only,) = Licenses(reversed(lines)).all
    assert (only.id, only.product, only.units, only.seats) == (77, "P", lines[0], lines[1])
    assert only.features == (lines[2], lines[3])
    assert only.feature("a") is lines[3]
    assert only.feature("") is None


def test_without_an_id_lines_of_one_product_are_one_licence_named_by_its_least_number() -> None:
    found = Licenses([line("u", None, "A", number=7), line("f", None, "A", "x", number=5)])
    assert [(each.id, each.number) for each in found.all] == [(5, 5)]


def test_an_id_means_one_licence_whatever_numbers_lines_have() -> None:
    found = Licenses(
        [
            line("given", 2, "A", number=9),
            line("a", None, "B", number=2),
            line("b", None, "B", "x", number=3),
        ]
    )
    assert {each.id: each.product for each in found.all} == {2: "A", 3: "B"}
    crowded = Licenses([line("given", 2, "A", number=9), line("a", None, "B", number=2)])
    assert {each.product: each.id for each in crowded.all} == {"A": 2, "B": 10_001}


def test_retired_lines_and_lines_without_id_and_product_are_no_licence() -> None:
    assert Licenses([line("a", 77, retired=True), line("b", None, "")]).all == ()


def test_a_product_means_the_licence_that_was_added_last() -> None:
    found = Licenses(
        [
            line("old", 99, number=1),
            line("new", 5, number=2),
            line("late feature", 99, feature="f", number=3),
        ]
    )
    newest = found.find("P", None)
    assert isinstance(newest, License)
    assert newest.id == 5


@pytest.mark.parametrize(
    ("product", "license_id", "expected"),
    [
        ("P", 77, 77),
        (None, 77, 77),
        ("P", None, 77),
        ("Q", None, Refusal.UNKNOWN_PRODUCT),
        ("Q", 77, Refusal.UNKNOWN_PRODUCT),
        ("", 77, Refusal.UNKNOWN_PRODUCT),
        ("P", 78, Refusal.LICENSE_NOT_FOUND),
        ("P", 80, Refusal.LICENSE_NOT_FOUND),
        (None, 78, Refusal.LICENSE_NOT_FOUND),
        (None, None, Refusal.LICENSE_NOT_FOUND),
    ],
)
def test_a_licence_is_found_by_what_a_client_says(
    product: str | None, license_id: int | None, expected: int | Refusal
) -> None:
    found = Licenses([line("a", 77), line("b", 80, "R")]).find(product, license_id)
    assert expected == (found.id if isinstance(found, License) else found)


def test_licences_are_found_once_for_a_catalogue() -> None:
    index = CatalogueIndex(Catalogue(id="I", lines=(line("a", 77),)))
    assert licenses_of(index) is licenses_of(index)


def test_a_user_is_a_host_of_a_type_that_no_other_client_has() -> None:
    assert user_host("alice").canonical == "LICENSESPRING:alice"
    assert user_host("alice").type not in HOST_TYPES
    assert user_host("").value == ""


def test_a_floating_timeout_is_told_in_minutes_and_never_as_none() -> None:
    catalogue = Catalogue(id="I")
    for held_ms, minutes in ((7_200_000, 120), (119_999, 1), (1_000, 1)):
        seats = line("s", 1, model=Model.CONCURRENT, borrow_ms=held_ms)
        assert timeout_minutes(seats, catalogue) == minutes


# Overages ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overdraft", "count", "expected"),
    [
        ("0", 10, Overages(False, 0)),
        ("3", 10, Overages(True, 3)),
        ("25%", 10, Overages(True, 2)),
        ("5%", 10, Overages(False, 0)),
        ("10%", None, Overages(False, 0)),
        ("unlimited", 10, Overages(True, 0)),
    ],
)
def test_an_overdraft_is_said_as_overages(
    overdraft: str, count: int | None, expected: Overages
) -> None:
    assert overages_of(line("a", 1, count=count, overdraft=overdraft)) == expected


@pytest.mark.parametrize(
    ("overdraft", "allow", "most", "expected"),
    [
        ("3", None, None, None),
        ("3", True, 3, None),
        ("3", True, None, None),
        ("25%", True, 2, None),
        ("0", False, 99, None),
        ("0", None, 99, None),
        ("unlimited", True, 0, None),
        ("3", False, 0, "0"),
        ("3", False, 3, "0"),
        ("3", None, 4, "4"),
        ("0", True, 4, "4"),
        ("0", True, 0, "unlimited"),
        ("unlimited", True, 4, "4"),
    ],
)
def test_a_key_that_says_what_is_stored_asks_for_nothing(
    overdraft: str, allow: bool | None, most: int | None, expected: str | None
) -> None:
    assert overdraft_asked(line("a", 1, overdraft=overdraft), allow, most) == expected


def test_another_overdraft_is_another_capacity_of_one_line_alone() -> None:
    lines = (line("a", 1), line("b", 2), line("c", 3, count=None))
    for overdraft, capacity in (("5", 15), ("unlimited", UNITS_MAX), ("0", 10)):
        changed = with_overdraft(Catalogue(id="I", lines=lines), "a", overdraft).lines
        assert (changed[0].overdraft, changed[0].capacity) == (overdraft, capacity)
        assert changed[1:] == lines[1:]


def test_an_overdraft_of_what_has_no_end_or_nearly_none_is_no_more_than_can_be_counted() -> None:
    lines = (line("a", 1, count=None), line("b", 2, count=UNITS_MAX - 1))
    for id_ in ("a", "b"):
        changed = CatalogueIndex(with_overdraft(Catalogue(id="I", lines=lines), id_, "5"))
        assert (changed.line[id_].overdraft, changed.line[id_].capacity) == ("5", UNITS_MAX)


# Files ------------------------------------------------------------------------------------------


def refused(*tables: str) -> list[str]:
    """Give what is said of a file whose lines have these members."""
    text = '[[instance]]\nid = "I"\n' + "".join(
        f'[[instance.line]]\nid = "L{at}"\nfeature = "f{at}"\nversion = "1.0"\ncount = 5\n{each}\n'
        for at, each in enumerate(tables, 1)
    )
    try:
        read_provisioning(text, lambda name: b"")
    except InvalidInput as error:
        return list(error.problems)
    return []


def sold(model: str, said: str) -> str:
    return f'model = "{model}"\nlicensespring = {{ {said} }}'


P77 = 'license_id = 77, product = "P"'


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        (
            [sold("metered", P77), sold("concurrent", 'license_id = 77, product = "Q"')],
            "instance I: licence 77 is of P (line L1) and Q (line L2); a licence is of one product",
        ),
        (
            [sold("metered", P77), sold("metered", P77)],
            "instance I: licence 77: lines L1 and L2 are both metered without feature; a licence"
            " has it once",
        ),
        (
            [sold("concurrent", 'product = "P"'), sold("concurrent", 'product = "P"')],
            "instance I: product P: lines L1 and L2 are both concurrent without feature; a licence"
            " has it once",
        ),
        (
            [sold("metered", P77 + ', feature = "x"'), sold("concurrent", P77 + ', feature = "x"')],
            "instance I: licence 77: lines L1 and L2 are both feature x; a licence has it once",
        ),
        (
            [sold("metered-reusable", P77)],
            "instance I: line L1: licensespring is for metered and concurrent lines, this one is"
            " metered-reusable; remove it",
        ),
        (
            [
                sold("metered", P77 + ', license_key = "K"')
                + '\nreset = "daily"\nreset_timezone = "Europe/Paris"'
            ],
            "instance I: line L1: reset_timezone must be UTC beside a license_key, since the cloud"
            " resets in UTC; it is Europe/Paris",
        ),
        (
            [sold("metered", P77 + f', feature = "{at}"') for at in range(FEATURES_MAX + 1)],
            "instance I: licence 77 has 65 features; at most 64",
        ),
        (
            [
                sold("metered", f'license_id = {at}, product = "P", license_key = "K"')
                for at in (1, 2)
            ],
            "instance I: lines L1 and L2 are both metered without feature of one license_key; a"
            " cloud sells it once",
        ),
    ],
)
def test_lines_that_are_no_licence_are_refused_in_a_sentence(tables: list[str], said: str) -> None:
    assert refused(*tables) == [said]


def test_lines_that_are_licences_are_taken() -> None:
    assert (
        refused(
            sold("metered", P77),
            sold("concurrent", P77),
            sold("metered", 'license_id = 77, feature = "x"'),
            sold("concurrent", P77 + ', feature = "y"'),
            sold("metered", 'license_id = 78, product = "P", license_key = "K"')
            + '\nreset_timezone = "Europe/Paris"',
            sold("metered", 'product = "P"'),
            sold("concurrent", 'license_id = 79, product = "P", license_key = "K"'),
            sold("metered", 'license_id = 80, product = "P", feature = "x", license_key = "K"'),
            sold("metered", 'license_key = "K"'),
            sold("metered", 'license_key = "K"'),
        )
        == []
    )
