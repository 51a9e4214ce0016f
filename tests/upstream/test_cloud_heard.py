"""What follows from what the cloud said of a line: what is known then, and whose overages hold."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from gateway.core.elsewhere import Known, Total
from gateway.core.model import FloatingLicense, Line, Model
from gateway.core.ports import Counters
from gateway.core.pulling import Limits
from gateway.core.usage import Row
from gateway.upstream.licensespring import Identity
from gateway.upstream.licensespring_heard import Heard, changed_here, known_after

WHO = Identity("PROD", "KEY", "", "gateway-1")
LINE = Line(
    id="L1",
    feature="f",
    version="1",
    model=Model.METERED,
    count=9,
    capacity=9,
    overdraft="5",
    client_overages=True,
    licensespring=FloatingLicense(77, "PROD", "", "KEY"),
)
KNOWN = Known(
    at_ms=1, total=7, period="0", elsewhere=3, licence=WHO.tag, overdraft="0", code="refused"
)
NOTHING = Counters({}, {}, frozenset())
WAITING = Counters({}, {"L1": [Row("L1", 1, "", 4)]}, frozenset())


def said(total: int = 7, overdraft: str = "0") -> Heard:
    return Heard(LINE, WHO, Total(total, 5_000), Limits(count=9, overdraft=overdraft))


def test_what_others_consumed_stands_until_it_is_computed_anew() -> None:
    assert known_after(said(), KNOWN, WAITING, None, 9).elsewhere == 3
    found = known_after(said(), KNOWN, WAITING, 2, 9)
    assert (found.elsewhere, found.unsynced, found.at_ms, found.others_ms) == (2, 4, 9, 0)
    assert known_after(said(8), KNOWN, NOTHING, 0, 9).others_ms == 9


def test_what_is_on_its_way_is_nobody_elses() -> None:
    counters = Counters({}, WAITING.unsettled, frozenset({"L1"}))
    found = known_after(said(11), KNOWN, counters, None, 9)
    assert (found.total, found.others_ms) == (7, 0)


@pytest.mark.parametrize(("counters", "code"), [(WAITING, "refused"), (NOTHING, "ok")])
def test_a_refusal_is_told_while_something_waits(counters: Counters, code: str) -> None:
    assert known_after(said(), KNOWN, counters, None, 9).code == code


@pytest.mark.parametrize(
    ("known", "told", "changed"),
    [
        (KNOWN, said(), True),  # the line's 5 is newer than the cloud's 0
        (KNOWN, said(overdraft="2"), False),  # both changed: the cloud wins
        (replace(KNOWN, overdraft="5"), said(overdraft="5"), False),
        (replace(KNOWN, overdraft=""), said(overdraft=""), False),
        (replace(KNOWN, licence="another"), said(), False),
        (None, said(), False),
    ],
)
def test_a_clients_overages_hold_until_the_cloud_has_heard_of_them(
    known: Known | None, told: Heard, changed: bool
) -> None:
    assert changed_here(LINE, told, known) is changed
    assert not changed_here(replace(LINE, client_overages=False), told, known)
