"""The whole suite: its sections in order, and one run of it against a site.

Decided here: which features a check is run with, how its verdict follows from how it ended, that
all is given back after each check, and when a server that gives no answers is left alone. Not
decided here: what is checked (the sections), how the verdicts look (sheet.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from gateway.cli.conformity import (
    access,
    administration,
    batch,
    borrowing,
    combining,
    credentials,
    previews,
    reads,
    refusals,
    retries,
    signing,
)
from gateway.cli.conformity.checks import (
    Absent,
    Check,
    Differs,
    Mark,
    NotOffered,
    NotTried,
    Result,
    Section,
)
from gateway.cli.conformity.examining import examine_all
from gateway.cli.conformity.sessions import Login
from gateway.cli.conformity.site import SILENT_MAX, Site
from gateway.cli.conformity.wares import Ware
from gateway.cli.conformity.wire import MISSHAPEN, NoAnswer
from gateway.core.errors import GatewayError, InvalidInput

SECTIONS: Final[tuple[Section, ...]] = (
    previews.SECTION,
    access.SECTION,
    combining.SECTION,
    borrowing.SECTION,
    retries.SECTION,
    signing.SECTION,
    batch.SECTION,
    credentials.SECTION,
    refusals.SECTION,
    administration.SECTION,
    reads.SECTION,
)
GIVING_BACK_MAX: Final = 3  # tries, at the end

# Of a check that is run with several features: one difference counts, else one pass.
_WEIGHT: Final = (Result.DIFFERS, Result.PASS, Result.NOT_OFFERED, Result.NOT_TRIED)


class ServerAway(GatewayError):
    """The server cannot be reached, or stopped answering before anything was checked."""


class Verdict(msgspec.Struct, frozen=True):
    """How a check ended. Both sides are there when it differs, `why` when it did not pass."""

    id: str
    title: str
    source: str
    mark: Mark
    result: Result
    expected: str | None = None
    found: str | None = None
    why: str | None = None


def checks_in_all() -> int:
    """Say how many checks there are."""
    return sum(len(section.checks) for section in SECTIONS)


def perform(
    site: Site, login: Login | None, said: Callable[[str], None]
) -> list[tuple[Section, list[Verdict]]]:
    """Run every check; `said` is told the title of each before it is run.

    Whatever ends it, what hosts of the run hold is given back first. Raises InvalidInput when the
    key or the log-in is of no use, ServerAway.
    """
    try:
        try:
            _let_in(site)
            if login is not None:
                _log_in(site, login)
        except NoAnswer as error:
            raise ServerAway(site.safe(f"{site.target.root}: {error}")) from None
        examine_all(site)
        judge = Judge(site)
        found = []
        for section in SECTIONS:
            verdicts: list[Verdict] = []
            for check in section.checks:
                said(check.title)
                verdicts.append(judge.judge(check))
            found.append((section, verdicts))
        return found
    finally:
        for _ in range(GIVING_BACK_MAX):
            site.give_back(again=True)


def _let_in(site: Site) -> None:
    reply = site.post("/preview_request", {"hostId": {"type": "string", "value": site.host()}})
    if reply.status == 401:
        raise InvalidInput(
            f"{site.target.base} answers this key with 401: is --instance right, and has it the"
            " public half?"
        )


def _log_in(site: Site, login: Login) -> None:
    site.log_in(login)
    if site.session.reply.status == 401:
        raise InvalidInput(
            f"{site.target.base}/authorize answers {login.user} with 401: is the password right?"
        )


class Judge:
    """Judges one check after another."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._silent = 0  # checks in a row

    def judge(self, check: Check) -> Verdict:
        """Run a check with each choice of features that fits it, and give the verdict."""
        if self._silent >= SILENT_MAX:
            return _verdict(check, Result.NOT_TRIED, why="the server gives no answers any more")
        try:
            if check.role is not None:
                self._site.session.token_for(check.role)
            found = [self._tried(check, wares) for wares in self._choices(check)]
        except NotTried as error:
            return _verdict(check, Result.NOT_TRIED, why=self._site.safe(str(error)))
        return min(found, key=lambda verdict: _WEIGHT.index(verdict.result))

    def _choices(self, check: Check) -> Iterator[tuple[Ware, ...]]:
        """Give each fitting feature for the first place, with the others that fit in turn.

        Raises NotTried when there are none.
        """
        wares = list(self._site.wares.values())
        places = [[ware for ware in wares if ware.fits(takes)] for takes in check.takes]
        for takes, fitting in zip(check.takes, places, strict=True):
            if not fitting:
                why = "; ".join(self._site.unfit.values())
                raise NotTried(why or f"needs --features with {takes.value}")
        if not places:
            yield ()
            return
        for at, first in enumerate(places[0]):
            yield (first, *(fitting[at % len(fitting)] for fitting in places[1:]))

    def _tried(self, check: Check, wares: tuple[Ware, ...]) -> Verdict:
        with_them = ", ".join(ware.name for ware in wares) or None
        silent, self._silent = self._silent, 0
        try:
            check.run(self._site, *wares)
        except NotTried as error:
            return _verdict(check, Result.NOT_TRIED, why=self._site.safe(str(error)))
        except NotOffered as error:
            return _verdict(check, Result.NOT_OFFERED, why=self._site.safe(str(error)))
        except Differs as error:
            if check.optional and isinstance(error, Absent):
                return _verdict(check, Result.NOT_OFFERED, why=self._site.safe(error.found))
            return self._difference(check, error.expected, error.found, with_them)
        except NoAnswer as error:
            self._silent = silent + 1
            return self._difference(check, "an answer", str(error), with_them)
        except MISSHAPEN as error:
            found = f"another one ({type(error).__name__}: {error})"
            return self._difference(check, "an answer of the documented shape", found, with_them)
        finally:
            self._site.give_back()
        return _verdict(check, Result.PASS)

    def _difference(self, check: Check, expected: str, found: str, why: str | None) -> Verdict:
        return msgspec.structs.replace(
            _verdict(check, Result.DIFFERS, why=why and f"with {why}"),
            expected=self._site.safe(expected),
            found=self._site.safe(found),
        )


def _verdict(check: Check, result: Result, *, why: str | None = None) -> Verdict:
    return Verdict(check.id, check.title, check.source, check.mark, result, why=why)
