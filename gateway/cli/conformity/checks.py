"""What a check is: one sentence about a CMAPI server, where it is written, and how it can end.

Decided here: the words of the score sheet, what a check may need, and that a difference is told
with both sides. Not decided here: what is checked (a file per section), how a server is asked
(site.py), how the sheet looks (sheet.py). Source: protocols/cmapi.md (its marks), INTERFACE 1.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, StrEnum
from typing import Any, Final

import msgspec

from gateway.core.model import Role

SHOWN_MAX: Final = 300  # characters of each side of a difference


class Result(StrEnum):
    """How a check ends."""

    PASS = "pass"  # noqa: S105 - a word
    DIFFERS = "differs"
    NOT_OFFERED = "not offered"
    NOT_TRIED = "not tried"


class Mark(StrEnum):
    """How sure the public record is of what a check expects; the letters are protocols/cmapi.md's.

    Nobody but us ever promised what is OURS: a server without it does not differ.
    """

    STATED = "C"
    CODE = "C-code"
    INFERRED = "I"
    SILENT = "?"
    OURS = "ours"


class Takes(Enum):
    """What a check takes units of; a check is run for each told feature that fits."""

    ANY = "a feature"
    CONSUMED = "a feature whose counts are consumed"
    REUSABLE = "a feature whose counts can be returned"
    SEATS = "a concurrent feature"
    METERED_REUSABLE = "a metered reusable feature"


class Differs(Exception):
    """The server does something else; both sides are kept in words."""

    def __init__(self, expected: object, found: object) -> None:
        self.expected, self.found = shown(expected), shown(found)
        super().__init__(f"expected {self.expected}, found {self.found}")


class Absent(Differs):
    """A path or method that the server does not have: no difference where a server may lack it."""


class NotOffered(Exception):
    """The server lacks what is ours, or what a server may lack; the text says how that was seen."""


class NotTried(Exception):
    """It cannot be tried here; the text says why."""


Run = Callable[..., None]  # of a Site, then of a Ware for each of `takes`


class Check(msgspec.Struct, frozen=True):
    """One check. `run` returns when the server does as expected and raises otherwise."""

    id: str
    title: str
    source: str
    mark: Mark
    run: Run
    takes: tuple[Takes, ...] = ()
    role: Role | None = None
    optional: bool = False  # 404, 405 or 501 says that it is not offered


class Section:
    """Checks of one heading, in the order in which they are run and shown."""

    def __init__(self, slug: str, name: str, about: str) -> None:
        self.slug, self.name, self.about = slug, name, about
        self.checks: list[Check] = []

    def check(
        self,
        title: str,
        source: str,
        mark: Mark,
        *takes: Takes,
        role: Role | None = None,
        optional: bool = False,
    ) -> Callable[[Run], Run]:
        """Make a check of a function, whose name becomes its id."""

        def decorate(run: Run) -> Run:
            self.add(run.__name__, title, source, mark, run, *takes, role=role, optional=optional)
            return run

        return decorate

    def add(
        self,
        name: str,
        title: str,
        source: str,
        mark: Mark,
        run: Run,
        *takes: Takes,
        role: Role | None = None,
        optional: bool = False,
    ) -> None:
        """Add a check, `name` being the last part of its id. What is OURS is always optional."""
        self.checks.append(
            Check(
                id=f"{self.slug}.{name.replace('_', '-')}",
                title=title,
                source=source,
                mark=mark,
                run=run,
                takes=takes,
                role=role,
                optional=optional or mark is Mark.OURS,
            )
        )


def same(expected: object, found: object) -> None:
    """Raise Differs unless both sides are equal; `true` is not 1 here, and 1 is not 1.0."""
    if expected != found or type(expected) is not type(found):
        raise Differs(expected, found)


def hold(condition: object, expected: object, found: object) -> None:
    """Raise Differs with these sides unless the condition holds."""
    if not condition:
        raise Differs(expected, found)


def shown(side: object) -> str:
    """Write one side of a difference, harmless on a terminal."""
    text = side if isinstance(side, str) else _json(side)
    return "".join(each if each.isprintable() else "?" for each in text)


def shortened(text: str) -> str:
    """Cut a text to what is shown: after secrets were blotted out, or half of one might stay."""
    return text if len(text) <= SHOWN_MAX else f"{text[: SHOWN_MAX - 1]}…"


def _json(side: Any) -> str:
    return msgspec.json.encode(side).decode()
