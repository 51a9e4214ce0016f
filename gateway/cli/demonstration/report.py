"""The end of a demonstration: three records held against one another, a table, and a verdict.

Decided here: what must agree between the clients' journals, the gateway's books and the upstream's
books, and in which words a difference is told. Pure. Not decided here: how the records came about
(journal.py, service/balance.py). Source: RELIABILITY 1 (I1 to I5), INTERFACE 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rich import box
from rich.table import Table

from gateway.cli.demonstration.fleet import Tally
from gateway.cli.demonstration.journal import Units
from gateway.core.model import Line
from gateway.service.balance import Books, Entry

COLUMNS: Final = ("asked", "granted", "denied", "returned", "used", "forwarded", "upstream")
OK: Final = "conservation: OK"


@dataclass(frozen=True, slots=True)
class Account:
    """One line in the three records. `upstream` is None for seats, which are not forwarded."""

    line: Line
    journal: Units
    gateway: Entry
    upstream: Entry | None


def accounts(
    lines: Iterable[Line], units: Mapping[str, Units], gateway: Books, upstream: Books
) -> list[Account]:
    """Lay the records of each line side by side; both gateways know a line by the same id.

    Raises KeyError when one of them does not know it.
    """
    here = {entry.id: entry for entry in gateway.lines}
    there = {entry.id: entry for entry in upstream.lines}
    return [
        Account(
            line,
            units.get(line.feature, Units()),
            here[line.id],
            there[line.id] if line.model.metered else None,
        )
        for line in lines
    ]


def differences(
    rows: Sequence[Account], tally: Tally, oddities: Sequence[str], books: Iterable[Books]
) -> list[str]:
    """Name everything that does not agree; an empty list is conservation."""
    found = [words for account in rows for words in _of_line(account)]
    found += [words for each in books for words in each.differences]
    found += oddities
    if tally.differing:
        found.append(
            f"{tally.differing} of {tally.repeats} repeats of an answered id brought another answer"
        )
    if tally.unanswered:
        found.append(f"{tally.unanswered} requests were never answered as they must be")
    return found + [f"{times} times: {words}" for words, times in tally.troubles.items()]


def _of_line(account: Account) -> list[str]:
    line, entry, left = account.line, account.gateway, account.journal.left
    found = []

    def agree(what: str, expected: int, other: str, actual: int) -> None:
        if expected != actual:
            found.append(
                f"line {line.id}: {what} {expected}, {other} {actual}:"
                f" a difference of {actual - expected:+}"
            )

    # Every request was retried until it was answered, so nothing may lie between the two.
    if line.model.metered:
        agree("granted in answers", left, "acked by the gateway", entry.acked)
    if line.model.reusable:
        agree("held by the clients", left, "held at the gateway", entry.held)
    else:
        # The demonstration's lines start at 0 and are never reset.
        agree("acked by the gateway", entry.acked, "used at the gateway", entry.used)
    if not line.unlimited and entry.used > line.capacity:
        found.append(f"line {line.id}: used {entry.used} is over its capacity {line.capacity}")
    if account.upstream is None:
        return found
    agree("acked by the gateway", entry.acked, "forwarded", entry.forwarded)
    agree("forwarded", entry.forwarded, "acked by the upstream", account.upstream.acked)
    left_over = {word: getattr(entry, word) for word in ("open", "sealed", "parked", "dead")}
    found += [
        f"line {line.id}: {units} units are still {word} after the drain"
        for word, units in left_over.items()
        if units
    ]
    return found


def table(rows: Sequence[Account]) -> Table:
    """Show the lines; units, of a line of seats the seats."""
    shown = Table(box=box.SIMPLE_HEAD)
    shown.add_column("line")
    shown.add_column("capacity", justify="right")
    for name in COLUMNS:
        shown.add_column(name, justify="right")
    for account in rows:
        units, upstream = account.journal, account.upstream
        shown.add_row(
            account.line.id,
            "uncounted" if account.line.unlimited else f"{account.line.capacity:,}",
            *(f"{each:,}" for each in (units.asked, units.granted, units.denied, units.returned)),
            f"{account.gateway.used:,}",
            *(
                ("-", "-")
                if upstream is None
                else (f"{account.gateway.forwarded:,}", f"{upstream.acked:,}")
            ),
        )
    return shown


def totals(tally: Tally, kills: int, load_s: float) -> str:
    """Tell in one sentence what the fleet lived through."""
    return (
        f"{tally.answered:,} requests acknowledged ({tally.answered / load_s:,.0f}/s),"
        f" {tally.denied:,} of them denied something; {tally.retries:,} retries,"
        f" {tally.resets:,} resets injected, {tally.repeats:,} answered ids sent again,"
        f" {tally.replays:,} replays, {kills} {'kill' if kills == 1 else 'kills'}"
    )


def verdict(found: Sequence[str]) -> list[str]:
    """Give the last lines to print: OK, or every difference."""
    if not found:
        return [OK]
    return [*(f"difference: {words}" for words in found), f"conservation: {len(found)} differences"]
