"""The books of an instance: what was acked is somewhere, once, per metered line and upstream.

Decided here: which sums must agree, what `verify` lists, and the words for a difference. Not
decided here: how the sums are read at one moment (store/ledgers.py) and how they are shown (cli/).
The rule: acked since the upstream was attached = forwarded + dead + parked + open + sealed, and all
that was ever acked = the sum of its days. Source: SEMANTICS 11, DESIGN 5, RELIABILITY 1 (I3).
"""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from gateway.core.calendar import make_calendar
from gateway.core.catalogue import CatalogueIndex, PeriodRule, period_rule
from gateway.core.errors import InvalidInput, Unavailable
from gateway.core.model import Line, Model
from gateway.store.catalogues import Catalogues
from gateway.store.damages import describe, is_damage
from gateway.store.ledgers import Ledger, read_deep, read_ledger

CATALOGUE_TRIES_MAX: Final = 5


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A line on its way to one upstream; a line without upstream, or of seats, has None there.

    `acked` counts since the upstream was attached, so that it is the sum of the five after it.
    `used` is the current reset period's. `held` is 0 for a line whose counts do not come back.
    `carried` is the part of `open`, below 0, that was undone and that the upstream does not take
    back; it waits to be netted. `reported` is what the upstream itself tells, unset where it does
    not.
    """

    id: str
    feature: str
    upstream: str | None
    acked: int
    forwarded: int = 0
    dead: int = 0
    parked: int = 0
    open: int = 0
    sealed: int = 0
    used: int
    held: int
    balanced: bool
    carried: int = 0
    reported: int | msgspec.UnsetType = msgspec.UNSET


class Books(msgspec.Struct, frozen=True):
    """The entries of one instance, and a sentence for each sum that does not agree.

    `unreadable` says why there are no entries: something of it is not what was written.
    """

    id: str
    lines: list[Entry]
    differences: list[str]
    unreadable: str | msgspec.UnsetType = msgspec.UNSET


async def audit(
    catalogues: Catalogues, instance: str, *, deep: bool, beside: bool = False
) -> Books:
    """Read and judge the books of an instance at one moment; may be asked at any time, under load.

    `deep` also adds up the rows that the sums stand for; `beside` judges in a thread, for who
    serves requests meanwhile. Raises InvalidInput for an instance that
    does not exist, Unavailable when its catalogue changes faster than it can be read.
    """
    index, ledger = await read_books(catalogues, instance, deep=deep)
    return await asyncio.to_thread(judge, index, ledger) if beside else judge(index, ledger)


async def read_books(
    catalogues: Catalogues, instance: str, *, deep: bool = False
) -> tuple[CatalogueIndex, Ledger]:
    """Read an instance's ledger, and the catalogue that was in force then. Raises as `audit`."""
    keys = catalogues.keys(instance)
    for _ in range(CATALOGUE_TRIES_MAX):
        index = await catalogues.read(instance)
        if index is None:
            raise InvalidInput(
                f"There is no instance {instance[:64]!r}, or a restore of it was cut off; name one"
                " that was applied"
            )
        catalogue = index.catalogue
        names = [upstream.name for upstream in catalogue.upstreams]
        if deep:
            ledger = await read_deep(catalogues.client, keys, names, catalogue.timezone)
        else:
            ledger = await read_ledger(catalogues.client, keys, names)
        # An upstream attached between the two reads would have no baseline in one of them.
        if ledger.version == catalogue.version:
            return index, ledger
    raise Unavailable("The catalogue changes too fast to follow", "not_applied")


async def audit_any(catalogues: Catalogues, instance: str, *, deep: bool) -> Books:
    """Do as `audit`, and tell of an instance that cannot be read instead of raising."""
    try:
        return await audit(catalogues, instance, deep=deep)
    except Exception as error:
        if not is_damage(error):
            raise
        why = f"{instance} cannot be read: {describe(error)}"
        return Books(instance, [], [why], unreadable=why)


def judge(index: CatalogueIndex, ledger: Ledger) -> Books:
    """Hold the sums of a ledger against one another, and against its rows, if read. Pure."""
    catalogue = index.catalogue
    periods = current_periods(index, ledger.now_ms)
    entries: list[Entry] = []
    differences: list[str] = []
    for line in catalogue.lines:
        used = ledger.used.get(f"{line.id}|{periods[period_rule(line)]}", 0)
        if not line.model.metered:
            entries.append(_entry(line, None, acked=0, used=used, balanced=True))
            continue
        where = f"{catalogue.id} line {line.id}"
        acked = ledger.acked.get(line.id, 0)
        of_line = _line_differences(where, line.id, ledger)
        differences += of_line
        if not catalogue.upstreams:
            entries.append(_entry(line, None, acked=acked, used=used, balanced=not of_line))
        for name in (upstream.name for upstream in catalogue.upstreams):
            sums = ledger.upstream(line.id, name)
            of_pair = _pair_differences(f"{where} to {name}", line.id, name, ledger)
            differences += of_pair
            entries.append(
                _entry(
                    line,
                    name,
                    acked=acked - sums.base,
                    forwarded=sums.forwarded,
                    dead=sums.dead,
                    parked=sums.parked,
                    open=sums.open,
                    sealed=sums.sealed,
                    used=used,
                    balanced=not of_line and not of_pair,
                    carried=ledger.carried.get((line.id, name), 0),
                )
            )
    return Books(catalogue.id, entries, differences)


def current_periods(index: CatalogueIndex, now_ms: int) -> dict[PeriodRule, str]:
    """Give the label of the period that is current at `now_ms`, for each rule of an index's lines.

    The units of that period are in `used` under `<line>|<label>`. Pure.
    """
    periods = make_calendar(index, now_ms, now_ms).context.periods
    return {
        rule: next(label for start_ms, label in reversed(entries) if start_ms <= now_ms)
        for rule, entries in zip(index.rules, periods, strict=True)
    }


def conservation(books: list[Books]) -> str:
    """Say `OK`, or name the first difference and how many more there are."""
    differences = [difference for each in books for difference in each.differences]
    if not differences:
        return "OK"
    more = f" (and {len(differences) - 1} more)" if len(differences) > 1 else ""
    return differences[0] + more


def _entry(
    line: Line, upstream: str | None, *, acked: int, used: int, balanced: bool, **sums: int
) -> Entry:
    held = 0 if line.model is Model.METERED else used
    return Entry(
        id=line.id,
        feature=line.feature,
        upstream=upstream,
        acked=acked,
        used=used,
        held=held,
        balanced=balanced,
        **sums,
    )


def _line_differences(where: str, line: str, ledger: Ledger) -> list[str]:
    acked, days = ledger.acked.get(line, 0), ledger.days.get(line, 0)
    found = []
    if acked != days:
        found.append(f"{where}: {acked} acked, but {days} in its days")
    if ledger.rows is not None and ledger.rows.days.get(line, 0) != days:
        found.append(f"{where}: {days} in its days, but {ledger.rows.days.get(line, 0)} row by row")
    return found


def _pair_differences(where: str, line: str, upstream: str, ledger: Ledger) -> list[str]:
    sums = ledger.upstream(line, upstream)
    acked = ledger.acked.get(line, 0) - sums.base
    found = []
    if acked != sums.accounted:
        found.append(
            f"{where}: {acked} acked, but {sums.accounted} accounted for (forwarded"
            f" {sums.forwarded}, dead {sums.dead}, parked {sums.parked}, open {sums.open},"
            f" sealed {sums.sealed})"
        )
    if ledger.rows is not None:
        for word, said, rows in (
            ("open", sums.open, ledger.rows.open),
            ("sealed", sums.sealed, ledger.rows.sealed),
            ("parked", sums.parked, ledger.rows.parked),
        ):
            if rows.get((line, upstream), 0) != said:
                found.append(
                    f"{where}: {said} {word}, but {rows.get((line, upstream), 0)} row by row"
                )
    return found
