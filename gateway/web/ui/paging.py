"""Long lists a page at a time.

Decided here: how many rows a page has, and that a number beyond the last one means the last. Not
decided here: what is listed. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from gateway.core.errors import BadRequest

PAGE_MAX: Final = 50
NUMBER_MAX: Final = 1_000_000

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some rows of a list of `total`. `number` counts from 1; `first` is the first row's place."""

    rows: Sequence[T]
    number: int
    total: int
    first: int

    @property
    def last(self) -> int:
        """The last row's place; 0 when there is none."""
        return self.first + len(self.rows) - 1 if self.rows else 0

    @property
    def before(self) -> int | None:
        """The number of the page before this one."""
        return self.number - 1 if self.number > 1 else None

    @property
    def after(self) -> int | None:
        """The number of the page after this one."""
        return self.number + 1 if self.last < self.total else None


def page_of(rows: Sequence[T], asked: str, page_max: int = PAGE_MAX) -> Page[T]:
    """Give the page that a query asks for, "" for the first. Raises BadRequest."""
    pages = max(1, -(-len(rows) // page_max))
    number = min(number_of(asked), pages)
    start = (number - 1) * page_max
    some = rows[start : start + page_max]
    return Page(some, number, len(rows), start + 1 if some else 0)


def number_of(asked: str) -> int:
    """Read the number of a page, "" for the first. Raises BadRequest."""
    if asked and not (asked.isascii() and asked.isdecimal() and 1 <= len(asked) <= 7):
        raise BadRequest("The number of a page is a number from 1", "page")
    return min(max(1, int(asked or 1)), NUMBER_MAX)
