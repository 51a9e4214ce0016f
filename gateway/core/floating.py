"""What LicenseSpring clients see of a catalogue: licences, and the words for what is refused them.

Decided here: which lines are one licence, which licence a product or an id means, how a user is
named as a host, and what a line's overdraft is in their words. Not decided here: what an operation
asks of the ledger (floating_asks.py), how anything looks on a wire (protocols/). Pure.
Source: protocols/licensespring.md 1.1, 3.3, 4 and 10, SEMANTICS 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from itertools import chain, count
from typing import Final

import msgspec
from msgspec.structs import replace

from gateway.core.catalogue import CatalogueIndex
from gateway.core.intervals import effective_interval_ms
from gateway.core.model import LINES_MAX, UNITS_MAX, Catalogue, Host, Line, Model, Reset

USER_TYPE: Final = "LICENSESPRING"  # no type of CMAPI's: the users of the two never meet
FEATURES_MAX: Final = 64  # of one licence
# Who consumes without saying who it is. No client can be it: a user has at least one character.
NOBODY: Final = Host(USER_TYPE, "")
CONSUMPTION: Final = "consumption"

NO_LICENCE: Final[tuple[int | None, str]] = (None, "")  # of lines that say nothing of one
_UNLIMITED: Final = "unlimited"
_KEPT: Final = "floating"


class Refusal(StrEnum):
    """Why a client is refused: the codes of the cloud, which floating servers share."""

    LICENSE_NOT_ENOUGH = "license_not_enough_consumptions"
    FEATURE_NOT_ENOUGH = "feature_not_enough_consumptions"
    NEGATIVE = "negative_consumptions_not_allowed"
    LICENSE_NOT_CONSUMPTION = "license_not_consumption"
    UNSUPPORTED_FEATURE = "unsupported_product_feature"
    UNKNOWN_PRODUCT = "unknown_product"
    LICENSE_NOT_FOUND = "license_not_found"
    LICENSE_NOT_ACTIVE = "license_not_active"
    NO_SLOT = "floating_not_available"
    BORROW_NOT_ALLOWED = "license_borrow_not_allowed"
    BORROW_UNTIL = "borrow_until_not_valid"
    VALIDATION = "validation_error"
    INVALID_JSON = "invalid_json"
    MISSING = "missing_parameters"


class License(msgspec.Struct, frozen=True, kw_only=True):
    """Lines that are one licence: its consumption, its seats, its features by their number.

    `number` is the least of its lines': the licence with the greatest one was added last.
    """

    id: int
    product: str
    number: int
    units: Line | None = None
    seats: Line | None = None
    features: tuple[Line, ...] = ()

    @property
    def lines(self) -> tuple[Line, ...]:
        own = (self.units, self.seats)
        return (*(line for line in own if line is not None), *self.features)

    @property
    def expires_ms(self) -> int | None:
        """When the licence itself is over; None: never."""
        own = (self.units, self.seats)
        ends = [line.expires_ms for line in own if line is not None and line.expires_ms is not None]
        return min(ends, default=None)

    def feature(self, code: str) -> Line | None:
        """Give the line of a feature code."""
        return next((line for line in self.features if code_of(line) == code), None)


class Licenses:
    """The licences of a catalogue, by what clients name them with."""

    def __init__(self, lines: Iterable[Line]) -> None:
        live = (line for line in lines if not line.retired)
        grouped = _grouped(sorted(live, key=lambda line: line.number))
        taken = {given for given, _ in grouped if given is not None}
        found = []
        for (given, _), group in grouped.items():
            id_ = _free_id(group, taken) if given is None else given
            taken.add(id_)
            found.append(make_license(id_, group))
        self.all: tuple[License, ...] = tuple(sorted(found, key=lambda each: each.number))
        self.by_id = {each.id: each for each in self.all}
        self._by_line = {line.id: each for each in self.all for line in each.lines}

    def of_product(self, product: str) -> tuple[License, ...]:
        """Give the licences of a product, the one that was added last at the end."""
        return tuple(each for each in self.all if product and each.product == product)

    def having(self, line: str) -> License | None:
        """Give the licence that a line belongs to."""
        return self._by_line.get(line)

    def find(self, product: str | None, license_id: int | None) -> License | Refusal:
        """Find what a client means: an id, the newest of a product, or an id of that product."""
        if product is not None:
            of_product = self.of_product(product)
            if not of_product:
                return Refusal.UNKNOWN_PRODUCT
            if license_id is None:
                return of_product[-1]
        found = None if license_id is None else self.by_id.get(license_id)
        if found is None or product not in (None, found.product):
            return Refusal.LICENSE_NOT_FOUND
        return found


def licenses_of(index: CatalogueIndex) -> Licenses:
    """Give the licences of a catalogue, found once and kept with it."""
    found: Licenses | None = index.kept.get(_KEPT)
    if found is None:
        found = index.kept[_KEPT] = Licenses(index.catalogue.lines)
    return found


def make_license(id_: int, lines: Iterable[Line]) -> License:
    """Give the licence that some lines are; they have been judged to be one. Pure."""
    lines = sorted(lines, key=lambda line: line.number)
    own = [line for line in lines if not code_of(line)]
    return License(
        id=id_,
        product=next((text for line in lines if (text := product_of(line))), ""),
        number=lines[0].number,
        units=next((line for line in own if line.model is Model.METERED), None),
        seats=next((line for line in own if line.model is Model.CONCURRENT), None),
        features=tuple(
            line for line in lines if code_of(line) and line.model is not Model.METERED_REUSABLE
        ),
    )


def code_of(line: Line) -> str:
    """Give the feature code of a line; "": it is a part of the licence itself."""
    return "" if line.licensespring is None else line.licensespring.feature


def product_of(line: Line) -> str:
    """Give the product code of a line; "": it does not say."""
    return "" if line.licensespring is None else line.licensespring.product


def group_of(line: Line) -> tuple[int | None, str]:
    """Say which lines are one licence with this one: those of the same group, NO_LICENCE aside."""
    floating = line.licensespring
    if floating is None or floating.license_id is None:
        return None, product_of(line)
    return floating.license_id, ""


def user_host(user: str) -> Host:
    """Give the host that a user is; "" is nobody in particular."""
    return Host(USER_TYPE, user) if user else NOBODY


def timeout_minutes(line: Line, catalogue: Catalogue) -> int:
    """Say for how long a seat of a line is held, in whole minutes, at least one."""
    held_ms = effective_interval_ms(line, catalogue, 0) or 0
    return max(1, held_ms // 60_000)


# Overages: what `overdraft` is in their words ----------------------------------------------------


class Overages(msgspec.Struct, frozen=True):
    """What may be consumed beyond the maximum. Allowed with a `most` of 0: without limit."""

    allow: bool
    most: int


def overages_of(line: Line) -> Overages:
    """Read a line's overdraft; a percentage that comes to nothing allows nothing."""
    if line.overdraft == _UNLIMITED:
        return Overages(True, 0)
    if line.overdraft.endswith("%"):
        most = (line.count or 0) * int(line.overdraft[:-1]) // 100
    else:
        most = int(line.overdraft)
    return Overages(most > 0, most)


def overdraft_asked(line: Line, allow: bool | None, most: int | None) -> str | None:
    """Say what overdraft a client asks for; None: what the line has, however it is spelled.

    What is not given stays as it is. Not allowed, `most` means nothing.
    """
    now = overages_of(line)
    asked = Overages(now.allow if allow is None else allow, now.most if most is None else most)
    spelled = _spelled(asked)
    return None if spelled == _spelled(now) else spelled


def with_overdraft(catalogue: Catalogue, line_id: str, overdraft: str) -> Catalogue:
    """Give a catalogue in which one line has another overdraft: units, or `unlimited`."""

    def changed(line: Line) -> Line:
        if line.count is None or overdraft == _UNLIMITED:
            capacity = UNITS_MAX
        else:
            capacity = min(UNITS_MAX, line.count + int(overdraft))
        return replace(line, overdraft=overdraft, capacity=capacity)

    lines = tuple(changed(line) if line.id == line_id else line for line in catalogue.lines)
    return replace(catalogue, lines=lines)


def _spelled(overages: Overages) -> str:
    if not overages.allow:
        return "0"
    return str(overages.most) if overages.most else _UNLIMITED


# What makes no licence ---------------------------------------------------------------------------


def problems_of(lines: Iterable[Line]) -> list[str]:
    """List what is wrong with declared lines as licences, a sentence each. Pure."""
    lines = list(lines)
    found = [problem for line in lines for problem in _alone(line)]
    for (given, product), group in _grouped(lines).items():
        name = f"product {product}" if given is None else f"licence {given}"
        found += _together(name, group)
    return found + list(_sold_twice(lines))


def _alone(line: Line) -> Iterable[str]:
    floating = line.licensespring
    if floating is None:
        return
    if line.model is Model.METERED_REUSABLE:
        yield (
            f"line {line.id}: licensespring is for metered and concurrent lines, this one is"
            f" {line.model}; remove it"
        )
    in_utc = line.reset is Reset.NONE or line.reset_timezone == "UTC"
    if floating.license_key and not in_utc:
        yield (
            f"line {line.id}: reset_timezone must be UTC beside a license_key, since the cloud"
            f" resets in UTC; it is {line.reset_timezone}"
        )


def _together(name: str, group: list[Line]) -> Iterable[str]:
    products = {product_of(line): line.id for line in group if product_of(line)}
    if len(products) > 1:
        told = " and ".join(f"{product} (line {line})" for product, line in products.items())
        yield f"{name} is of {told}; a licence is of one product"
    seen: dict[tuple[str, Model | None], str] = {}
    for line in group:
        # A feature is consumed or held, not both: its code alone names it.
        code = code_of(line)
        key = (code, None if code else line.model)
        other = seen.setdefault(key, line.id)
        if other != line.id:
            what = f"feature {code}" if code else f"{line.model} without feature"
            yield f"{name}: lines {other} and {line.id} are both {what}; a licence has it once"
    features = sum(1 for line in group if code_of(line))
    if features > FEATURES_MAX:
        yield f"{name} has {features} features; at most {FEATURES_MAX}"


def _sold_twice(lines: Iterable[Line]) -> Iterable[str]:
    """Find lines that would each grant, as if it were theirs alone, what a cloud sells once."""
    seen: dict[tuple[str, str, Model | None], Line] = {}
    for line in lines:
        floating = line.licensespring
        if floating is None or not (floating.license_key and floating.product):
            continue
        code = code_of(line)
        sold = f"{floating.product} {floating.license_key}"
        other = seen.setdefault((sold, code, None if code else line.model), line)
        if group_of(other) != group_of(line):
            what = f"feature {code}" if code else f"{line.model} without feature"
            yield (
                f"lines {other.id} and {line.id} are both {what} of one license_key;"
                " a cloud sells it once"
            )


def _grouped(lines: Iterable[Line]) -> dict[tuple[int | None, str], list[Line]]:
    """Put together the lines that are one licence; those with neither id nor product are none."""
    grouped: dict[tuple[int | None, str], list[Line]] = {}
    for line in lines:
        group = group_of(line)
        if group != NO_LICENCE:
            grouped.setdefault(group, []).append(line)
    return grouped


def _free_id(group: list[Line], taken: set[int]) -> int:
    """Give an id to a licence that was given none: the least number of its lines.

    One that is another's is passed over, so that an id means one licence.
    """
    numbers = chain((line.number for line in group), count(LINES_MAX + 1))
    return next(number for number in numbers if number not in taken)
