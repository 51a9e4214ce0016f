"""Checks of borrow intervals: when a grant lapses, what moves that, and when to renew.

A line's own interval may be shorter than what is asked for, so that checks speak of the lowest.
"""

from __future__ import annotations

import math
import time
from typing import Final

from gateway.cli.conformity.answers import Answer
from gateway.cli.conformity.checks import Differs, Mark, NotTried, Section, Takes, hold, same
from gateway.cli.conformity.shapes import MOMENT, fit
from gateway.cli.conformity.site import Site, Want
from gateway.cli.conformity.wares import Ware

SECTION: Final = Section(
    "borrowing", "Borrowing", "when a grant lapses, what moves that, when to renew"
)
LATE_S_MAX: Final = 5.0  # after its moment, for a lapse to be seen
LOOK_EVERY_S: Final = 0.2
OFF_S: Final = 2.0  # between two answers that are compared by their intervals


@SECTION.check(
    "a grant lapses when its interval ends, at the latest",
    "cmapi 8.3; SEMANTICS 12, E6",
    Mark.STATED,
    Takes.SEATS,
)
def interval(site: Site, ware: Ware) -> None:
    for borrow, seconds in (("10m", 600), ("20m", 1200)):
        answer = site.ask(site.host(), Want(ware.name), borrow=borrow)
        expires_s = answer.expires_s(ware.name)
        latest_s = answer.lapses_by(seconds)
        hold(answer.at_s < expires_s <= latest_s, f"within {borrow}", answer.entry(ware.name))


@SECTION.check("moments are ISO-8601 in UTC with ms and Z", "cmapi Q15", Mark.SILENT, Takes.SEATS)
def moments(site: Site, ware: Ware) -> None:
    entry = site.ask(site.host(), Want(ware.name)).entry(ware.name)
    fit(entry.get("expires"), MOMENT)


@SECTION.check("a lapse is at a whole second", "cmapi 8.3, granularity", Mark.STATED, Takes.SEATS)
def granularity(site: Site, ware: Ware) -> None:
    answer = site.ask(site.host(), Want(ware.name))
    expires_s = answer.expires_s(ware.name)
    hold(expires_s.is_integer(), "a whole second", answer.entry(ware.name))


@SECTION.check(
    "seconds, minutes, hours, and no letter for seconds", "cmapi 4.4", Mark.STATED, Takes.SEATS
)
def units(site: Site, ware: Ware) -> None:
    found = {}
    for borrow in ("600s", "10m", "600"):
        answer = site.ask(site.host(), Want(ware.name), borrow=borrow)
        found[borrow] = round(answer.expires_s(ware.name) - answer.at_s)
    alike = max(found.values()) - min(found.values()) <= OFF_S
    hold(alike, "the same interval for 600s, 10m and 600", found)


@SECTION.check(
    "0 is no preference, as an absent interval", "cmapi Q24, SEMANTICS 5", Mark.SILENT, Takes.SEATS
)
def no_preference(site: Site, ware: Ware) -> None:
    found = {}
    for borrow in ("0", "0d", None):
        answer = site.ask(site.host(), Want(ware.name), borrow=borrow)
        same(1, answer.count(ware.name))
        found[str(borrow)] = round(answer.expires_s(ware.name) - answer.at_s)
    alike = min(found.values()) > 0 and max(found.values()) - min(found.values()) <= OFF_S
    hold(alike, "one interval, over 0", found)


@SECTION.check(
    "a grant moves the lapse of all that is held",
    "SEMANTICS 5 and 12, E9",
    Mark.SILENT,
    Takes.SEATS,
)
def moved(site: Site, ware: Ware) -> None:
    host = site.host()
    first = site.ask(host, Want(ware.name), borrow="1m")
    second = site.ask(host, Want(ware.name), incremental=True, borrow="10m")
    same(2, second.count(ware.name))
    before_s, after_s = first.expires_s(ware.name), second.expires_s(ware.name)
    # Where the line's own interval is the lowest, both may end in the same second.
    capped = after_s - second.at_s < 600 - OFF_S
    moved_on = after_s >= before_s if capped else after_s > first.lapses_by(60)
    hold(moved_on, "a lapse after the first one's", second.entry(ware.name))


@SECTION.check("a return and a read-back do not move it", "SEMANTICS 5", Mark.SILENT, Takes.SEATS)
def not_moved(site: Site, ware: Ware) -> None:
    host = site.host()
    first = site.ask(host, Want(ware.name, 2), borrow="10m").expires_s(ware.name)
    after = site.ask(host, Want(ware.name, -1), incremental=True, borrow="20m")
    same(first, after.expires_s(ware.name))
    same(first, site.read_back(host).expires_s(ware.name))


@SECTION.check(
    "a lapse frees the counts at its moment",
    "cmapi 8.3; SEMANTICS 12, E12",
    Mark.STATED,
    Takes.SEATS,
)
def lapsed(site: Site, ware: Ware) -> None:
    before, host = site.left(ware.name), site.host()
    answer = site.ask(host, Want(ware.name), borrow="1s")
    same(1, answer.count(ware.name))
    until_s = time.monotonic() + 2.0 + LATE_S_MAX
    while site.read_back(host).count(ware.name):
        if time.monotonic() > until_s:
            raise Differs("nothing held any more", f"still held {LATE_S_MAX} s after its lapse")
        time.sleep(LOOK_EVERY_S)
    same(before, site.left(ware.name))


@SECTION.check(
    "renewInterval is one whole percentage of the interval, in seconds",
    "cmapi 8.6, Q13",
    Mark.SILENT,
    Takes.SEATS,
)
def renewal(site: Site, ware: Ware) -> None:
    found: list[tuple[int, int]] = []
    for borrow, seconds in (("10m", 600), ("20m", 1200)):
        answer = site.ask(site.host(), Want(ware.name), borrow=borrow)
        renews = answer.entry(ware.name).get("renewInterval")
        fitted = renews if type(renews) is int else 0
        found.append((_effective_s(answer, ware, seconds), fitted))
    percent = [each for each in range(1, 101) if all(n == held * each // 100 for held, n in found)]
    hold(percent, "the same percentage (15, or the line's own) of 10m and of 20m", found)


@SECTION.check(
    "serverLicenseRenewInterval is over 0 and the same for each request",
    "cmapi Q13",
    Mark.SILENT,
    Takes.ANY,
)
def server_renewal(site: Site, ware: Ware) -> None:
    found = [
        site.ask(site.host(), Want(ware.name, 0), borrow=borrow).body.get(
            "serverLicenseRenewInterval"
        )
        for borrow in ("10m", "20m")
    ]
    same(found[0], found[1])
    hold(type(found[0]) is int and found[0] > 0, "a whole number over 0", found[0])


@SECTION.check("what is metered has renewInterval 0", "SEMANTICS 5", Mark.SILENT, Takes.ANY)
def metered_renewal(site: Site, ware: Ware) -> None:
    if ware.seats:
        raise NotTried(f"{ware.name} is not metered")
    entry = site.ask(site.host(), Want(ware.name, 0), borrow="10m").entry(ware.name)
    same(0, entry.get("renewInterval"))


@SECTION.check(
    "a metered reusable grant lapses only when asked to",
    "SEMANTICS 5",
    Mark.SILENT,
    Takes.METERED_REUSABLE,
)
def metered_lapse(site: Site, ware: Ware) -> None:
    for borrow in ("0d", None):
        entry = site.ask(site.host(), Want(ware.name), borrow=borrow).entry(ware.name)
        expiry = entry.get("entitlementExpiry")
        same(None if expiry == "permanent" else expiry, entry.get("expires"))
    answer = site.ask(site.host(), Want(ware.name), borrow="10m")
    hold(answer.expires_s(ware.name) <= answer.lapses_by(600), "within 10m", answer.body)


@SECTION.check(
    "consumption does not lapse: expires is the line's expiry, or absent",
    "cmapi Q15",
    Mark.SILENT,
    Takes.CONSUMED,
)
def consumed(site: Site, ware: Ware) -> None:
    entry = site.ask(site.host(), Want(ware.name), borrow="0d").entry(ware.name)
    expiry = entry.get("entitlementExpiry")
    same(None if expiry == "permanent" else expiry, entry.get("expires"))


def _effective_s(answer: Answer, ware: Ware, asked_s: int) -> int:
    """Say how long a grant is held, from when it lapses: at most what was asked for."""
    return min(asked_s, math.floor(answer.expires_s(ware.name) - answer.at_s))
