"""Checks of `incremental` and `partial`: totals and differences, returns, all or nothing.

What is short can only be tried where little is left: no request asks for more than UNITS_MAX.
"""

from __future__ import annotations

from typing import Final

from gateway.cli.conformity.answers import Answer
from gateway.cli.conformity.checks import Mark, Section, Takes, hold, same
from gateway.cli.conformity.site import UNITS_MAX, Site, Want
from gateway.cli.conformity.wares import Ware

SECTION: Final = Section(
    "combining",
    "Incremental and partial",
    "totals and differences, returns and undo, all or nothing, never over capacity",
)
SHORT: Final = "FEATURE_COUNT_INSUFFICIENT"


@SECTION.check(
    "false: the list is the new total",
    "cmapi 8.1; SEMANTICS 12, E17, E21",
    Mark.STATED,
    Takes.REUSABLE,
)
def total(site: Site, ware: Ware) -> None:
    host = site.host()
    for held in (1, 3, 1):
        same(held, site.ask(host, Want(ware.name, held)).count(ware.name))
    same(1, site.read_back(host).count(ware.name))


@SECTION.check(
    "false: what is not listed is released",
    "cmapi 8.1; SEMANTICS 12, E10",
    Mark.STATED,
    Takes.REUSABLE,
)
def released(site: Site, ware: Ware) -> None:
    before, host = site.left(ware.name), site.host()
    site.ask(host, Want(ware.name, 2))
    same([], site.ask(host).names())
    same([], site.read_back(host).names())
    same(before, site.left(ware.name))


@SECTION.check(
    "false: consuming one feature releases what is held of another",
    "SEMANTICS 12, E20",
    Mark.INFERRED,
    Takes.REUSABLE,
    Takes.CONSUMED,
)
def released_by_usage(site: Site, held: Ware, consumed: Ware) -> None:
    host = site.host()
    site.ask(host, Want(held.name))
    same(1, site.ask(host, Want(consumed.name)).count(consumed.name))
    same(0, site.read_back(host).count(held.name))


@SECTION.check(
    "true: consuming one feature leaves what is held of another",
    "SEMANTICS 4 and 12",
    Mark.INFERRED,
    Takes.REUSABLE,
    Takes.CONSUMED,
)
def kept_by_usage(site: Site, held: Ware, consumed: Ware) -> None:
    host = site.host()
    site.ask(host, Want(held.name))
    site.ask(host, Want(consumed.name), incremental=True)
    same(1, site.read_back(host).count(held.name))


@SECTION.check(
    "false: a consumed feature adds up all the same", "cmapi Q7", Mark.INFERRED, Takes.CONSUMED
)
def adds(site: Site, ware: Ware) -> None:
    before, host = site.left_counted(ware.name, least=2), site.host()
    for _ in range(2):
        same(1, site.ask(host, Want(ware.name)).count(ware.name))
    same(before - 2, site.left(ware.name))


@SECTION.check(
    "true: counts are added to what is held",
    "cmapi 8.1; SEMANTICS 12, E9",
    Mark.INFERRED,
    Takes.REUSABLE,
)
def added(site: Site, ware: Ware) -> None:
    host = site.host()
    site.ask(host, Want(ware.name))
    same(3, site.ask(host, Want(ware.name, 2), incremental=True).count(ware.name))


@SECTION.check("true: a negative count returns", "cmapi 8.1", Mark.INFERRED, Takes.REUSABLE)
def returned(site: Site, ware: Ware) -> None:
    before, host = site.left(ware.name), site.host()
    site.ask(host, Want(ware.name, 2))
    answer = site.ask(host, Want(ware.name, -1), incremental=True)
    same((1, []), (answer.count(ware.name), answer.statuses))
    site.ask(host, Want(ware.name, -1), incremental=True)
    same(before, site.left(ware.name))


@SECTION.check(
    "true: an empty list reads back and changes nothing",
    "cmapi 8.1; SEMANTICS 12, E11",
    Mark.CODE,
    Takes.REUSABLE,
)
def read_back(site: Site, ware: Ware) -> None:
    host = site.host()
    first = site.ask(host, Want(ware.name, 2))
    for _ in range(2):
        again = site.read_back(host)
        same((2, []), (again.count(ware.name), again.statuses))
        same(first.entry(ware.name).get("expires"), again.entry(ware.name).get("expires"))


@SECTION.check(
    "a count of 0 returns all, or with true reads back", "SEMANTICS 4", Mark.SILENT, Takes.REUSABLE
)
def zero(site: Site, ware: Ware) -> None:
    host = site.host()
    site.ask(host, Want(ware.name, 2))
    same(2, site.ask(host, Want(ware.name, 0), incremental=True).count(ware.name))
    site.ask(host, Want(ware.name, 0))
    same(0, site.read_back(host).count(ware.name))


@SECTION.check(
    "a count of 0 consumes nothing and has an entry", "SEMANTICS 8", Mark.SILENT, Takes.CONSUMED
)
def zero_consumed(site: Site, ware: Ware) -> None:
    before = site.left(ware.name)
    same(0, site.ask(site.host(), Want(ware.name, 0)).entry(ware.name).get("count"))
    same(before, site.left(ware.name))


@SECTION.check(
    "returning more than is held, partial false: nothing changes, RETURN_TOO_LARGE",
    "SEMANTICS 6",
    Mark.SILENT,
    Takes.REUSABLE,
)
def return_too_large(site: Site, ware: Ware) -> None:
    host = site.host()
    site.ask(host, Want(ware.name))
    answer = site.ask(host, Want(ware.name, -2), incremental=True)
    same(["RETURN_TOO_LARGE"], answer.codes)
    same(1, site.read_back(host).count(ware.name))


@SECTION.check(
    "returning more than is held, partial true: what is held is returned, RETURN_TOO_LARGE",
    "SEMANTICS 6",
    Mark.SILENT,
    Takes.REUSABLE,
)
def return_partly(site: Site, ware: Ware) -> None:
    host = site.host()
    site.ask(host, Want(ware.name))
    answer = site.ask(host, Want(ware.name, -2), incremental=True, partial=True)
    same(["RETURN_TOO_LARGE"], answer.codes)
    same(0, site.read_back(host).count(ware.name))


@SECTION.check(
    "fresh consumption is undone, or refused with CONSUMED_NOT_RETURNABLE; the count tells",
    "SEMANTICS 6 and 12, E14, E16; cmapi Q9",
    Mark.SILENT,
    Takes.CONSUMED,
)
def undone(site: Site, ware: Ware) -> None:
    host = site.host()
    site.ask(host, Want(ware.name))
    before = site.left(ware.name)
    answer = site.ask(host, Want(ware.name, -1), incremental=True)
    same([] if ware.undoable else ["CONSUMED_NOT_RETURNABLE"], answer.codes)
    same(-1 if ware.undoable else 0, answer.count(ware.name))
    if isinstance(before, int):
        same(before + (1 if ware.undoable else 0), site.left(ware.name))


@SECTION.check(
    "a host undoes only what it consumed itself", "SEMANTICS 6", Mark.SILENT, Takes.CONSUMED
)
def undone_by_another(site: Site, ware: Ware) -> None:
    site.ask(site.host(), Want(ware.name))
    before = site.left(ware.name)
    answer = site.ask(site.host(), Want(ware.name, -1), incremental=True)
    same(["UNDO_WINDOW_CLOSED" if ware.undoable else "CONSUMED_NOT_RETURNABLE"], answer.codes)
    same(before, site.left(ware.name))


@SECTION.check(
    "partial false: one feature denied, nothing granted",
    "cmapi 8.2; SEMANTICS 12, E3",
    Mark.INFERRED,
    Takes.ANY,
)
def all_or_nothing(site: Site, ware: Ware) -> None:
    before, host = site.left(ware.name), site.host()
    answer = site.ask(host, Want(ware.name), Want(site.stranger))
    same(0, answer.count(ware.name))
    same([site.stranger], _denied(answer))
    same(before, site.left(ware.name))


@SECTION.check(
    "partial false, denied: what the host held stays held, and its lapse too",
    "SEMANTICS 4",
    Mark.SILENT,
    Takes.REUSABLE,
)
def kept_when_denied(site: Site, ware: Ware) -> None:
    host = site.host()
    first = site.ask(host, Want(ware.name)).entry(ware.name).get("expires")
    site.ask(host, Want(ware.name, 2), Want(site.stranger))
    again = site.read_back(host)
    same((1, first), (again.count(ware.name), again.entry(ware.name).get("expires")))


@SECTION.check(
    "partial true: what can be granted is, the rest is in statusList",
    "cmapi 8.2",
    Mark.STATED,
    Takes.ANY,
)
def partly(site: Site, ware: Ware) -> None:
    answer = site.ask(site.host(), Want(ware.name), Want(site.stranger), partial=True)
    same(1, answer.count(ware.name))
    same([site.stranger], _denied(answer))


@SECTION.check(
    f"partial false beyond what is left: {SHORT}, nothing changes",
    "SEMANTICS 12, E3, E7; cmapi Q2",
    Mark.SILENT,
    Takes.REUSABLE,
)
def too_many(site: Site, ware: Ware) -> None:
    left = _little(site, ware)
    answer = site.ask(site.host(), Want(ware.name, left + 1))
    same(([], [SHORT]), (answer.names(), answer.codes))
    same(left, site.left(ware.name))


@SECTION.check(
    f"partial true beyond what is left: the rest is granted, {SHORT}",
    "SEMANTICS 12, E2, E8; cmapi Q10",
    Mark.STATED,
    Takes.REUSABLE,
)
def the_rest(site: Site, ware: Ware) -> None:
    left = _little(site, ware)
    answer = site.ask(site.host(), Want(ware.name, left + 1), partial=True)
    same((left, [SHORT]), (answer.count(ware.name), answer.codes))
    same(0, site.left(ware.name))


@SECTION.check(
    "a host may take its own counts again when none are left, and nobody else can",
    "SEMANTICS 4 and 12, E7, E21",
    Mark.INFERRED,
    Takes.REUSABLE,
)
def own_again(site: Site, ware: Ware) -> None:
    left, host = _little(site, ware), site.host()
    for _ in range(2):
        same(left, site.ask(host, Want(ware.name, left)).count(ware.name))
    other = site.ask(site.host(), Want(ware.name))
    same([], other.names())
    hold(other.statuses, "a status", other.statuses)


def _little(site: Site, ware: Ware) -> int:
    """Say how much is left, where that is so little that one more can be asked for."""
    return site.left_counted(ware.name, most=UNITS_MAX - 1)


def _denied(answer: Answer) -> list[str]:
    return [str(each.get("name")) for each in answer.statuses]
