"""What `conformance` takes of a server, and that it gives it back, against made-up servers."""

from __future__ import annotations

import json
from collections import Counter

import httpx
import pytest

from gateway.cli.conformity import wire as wire_module
from gateway.cli.conformity.checks import NotTried, Takes
from gateway.cli.conformity.checks import Result as Ended
from gateway.cli.conformity.site import UNITS_MAX, Overreach, Want
from gateway.cli.conformity.suite import SECTIONS
from gateway.cli.conformity.wares import Ware
from gateway.cli.conformity.wire import NoAnswer
from tests.cli.kiosk import TOLD, Kiosk, every_verdict, site_of, wire_to


def test_without_features_nothing_is_asked_for() -> None:
    kiosk = Kiosk()
    verdicts = every_verdict(site_of(kiosk))
    taking = {check.id for section in SECTIONS for check in section.checks if check.takes}
    assert {verdicts[name].result for name in taking} == {Ended.NOT_TRIED}
    assert all(str(verdicts[name].why).startswith("needs --") for name in taking)
    assert not {name for name, _ in kiosk.asked()} & kiosk.left.keys()
    assert kiosk.left == {"seats": 5, "units": 1_000}


def test_nothing_but_told_features_is_touched_and_little_of_them() -> None:
    kiosk = Kiosk()
    site = site_of(kiosk, "units")
    every_verdict(site)
    assert kiosk.left["seats"] == 5
    assert 1_000 - UNITS_MAX <= kiosk.left["units"] < 1_000
    known = {"units"}
    others = {name for name, _ in kiosk.asked() if isinstance(name, str)} - known
    assert all("conformance" in name or name in ("", "n" * 129) for name in others)
    assert all(n <= UNITS_MAX for name, n in kiosk.asked() if name in known)


def test_all_that_can_be_returned_is() -> None:
    kiosk = Kiosk()
    site = site_of(kiosk, *TOLD)
    verdicts = every_verdict(site)
    assert verdicts["combining.added"].result == Ended.PASS
    assert kiosk.left["seats"] == 5
    assert +kiosk.held == Counter()
    assert site.left_over() == []


@pytest.mark.parametrize("interrupt_at", [1, 2, 60, 120])
def test_ctrl_c_gives_back_too(interrupt_at: int) -> None:
    kiosk = Kiosk()
    kiosk.interrupt_at = interrupt_at
    site = site_of(kiosk, *TOLD)
    with pytest.raises(KeyboardInterrupt):
        every_verdict(site)
    assert kiosk.left["seats"] == 5
    assert +kiosk.held == Counter()
    assert not any(sentence.startswith("string:") for sentence in site.left_over())


def test_what_cannot_be_given_back_is_said() -> None:
    def away(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    site = site_of(away, "seats")
    with pytest.raises(NoAnswer):
        site.ask("conformance-h", Want("seats"))
    site.give_back()
    (sentence,) = site.left_over()
    assert "string:conformance-h" in sentence


def test_what_is_consumed_has_a_bound_that_hinders_no_return() -> None:
    kiosk = Kiosk()
    site = site_of(kiosk, *TOLD)
    site.wares["units"] = Ware("units", "1.0", consumed=True)
    site.ask("conformance-h", Want("seats", 2), Want("units", UNITS_MAX))
    with pytest.raises(NotTried):
        site.ask("conformance-h", Want("units"), incremental=True)
    assert kiosk.left == {"seats": 3, "units": 1_000 - UNITS_MAX}
    site.give_back()
    assert kiosk.left["seats"] == 5
    assert site.left_over() == []


def test_no_more_is_undone_than_was_asked_for() -> None:
    """Whatever a server says was consumed: the rest would be somebody else's."""
    said = {"features": [{"name": "units", "version": "1", "count": 7}], "statusList": []}
    site = site_of(lambda _: httpx.Response(200, json=said), "units")
    site.wares["units"] = Ware("units", "1", consumed=True, undoable=True)
    site.ask("conformance-h", Want("units", 2))
    assert site.loans.to_undo("conformance-h", site.wares) == {"units": 2}


def test_a_check_cannot_ask_for_what_was_not_told_or_for_much() -> None:
    kiosk = Kiosk()
    site = site_of(kiosk, "units")
    for want in (Want("seats"), Want("units", UNITS_MAX + 1)):
        with pytest.raises(Overreach):
            site.ask(site.host(), want)
    assert kiosk.seen == []


def test_a_feature_that_is_offered_and_not_granted_differs_once() -> None:
    kiosk = Kiosk()
    kiosk.granting = False
    verdicts = every_verdict(site_of(kiosk, "units"))
    assert verdicts["access.told"].result == Ended.DIFFERS
    assert verdicts["access.told"].expected == "an entry of units in features"
    assert verdicts["access.granted"].result == Ended.NOT_TRIED
    assert str(verdicts["access.granted"].why).startswith("units cannot be used: ")
    assert kiosk.left["units"] == 1_000


def test_seats_are_returned_one_way_or_the_other() -> None:
    """Also where an empty list is taken for a read-back whatever `incremental` says."""
    held, bodies = {"h": 2}, []

    def reading_back(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        bodies.append(body)
        for each in body["features"]:
            held["h"] += each["count"]
        features = [{"name": "seats", "version": "1", "count": held["h"]}] if held["h"] else []
        return httpx.Response(200, json={"features": features, "statusList": []})

    site = site_of(reading_back, "seats")
    site.loans.begin("h")
    site.give_back()
    assert held == {"h": 0}
    assert site.left_over() == []
    assert bodies[1]["features"] == [{"name": "seats", "version": "0", "count": -2}]


def test_kinds_are_found_out_by_behaviour() -> None:
    site = site_of(Kiosk(), *TOLD)
    every_verdict(site)
    seats, units = site.wares["seats"], site.wares["units"]
    assert seats.fits(Takes.REUSABLE)
    assert not seats.fits(Takes.SEATS)  # it says no moment to renew
    assert units.fits(Takes.CONSUMED)


def test_what_a_server_does_otherwise_is_told_with_both_sides() -> None:
    """The kiosk returns nothing, knows no partial grant and reads no version."""
    verdicts = every_verdict(site_of(Kiosk(), *TOLD))
    found = {
        name: (verdicts[name].expected, verdicts[name].found)
        for name in (
            *("combining.returned", "combining.partly", "combining.undone"),
            *("access.version-code", "refusals.method", "administration.health"),
        )
    }
    no_path = 'HTTP 404, {"key":"x.no","message":"no","arguments":[]}'
    assert found == {
        "combining.returned": ("[1,[]]", "[2,[]]"),
        "combining.partly": ("1", "0"),
        "combining.undone": ("-1", "0"),
        "access.version-code": ('["VERSION_TOO_HIGH"]', "[]"),
        "refusals.method": ("HTTP 405", verdicts["refusals.method"].found),
        "administration.health": ("HTTP 200", no_path),
    }
    assert verdicts["combining.returned"].why == "with seats"
    assert verdicts["retries.same-bytes"].result == Ended.NOT_OFFERED
    assert verdicts["batch.all-bad"].result == Ended.NOT_OFFERED


def test_too_little_of_a_feature_is_not_tried() -> None:
    kiosk = Kiosk()
    kiosk.left |= {"seats": 2}
    verdict = every_verdict(site_of(kiosk, "seats"))["combining.total"]
    assert verdict.result == Ended.NOT_TRIED
    assert "offered 2 of it, 3 are needed" in str(verdict.why)
    assert kiosk.left["seats"] == 2


def test_429_is_asked_again_and_nothing_else_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire_module, "PAUSE_S_MAX", 0)
    answers = [429, 429, 200, 500]
    wire = wire_to(lambda _: httpx.Response(answers.pop(0), text="{}"))
    assert wire.send("GET", "http://kiosk/", {}).status == 200
    assert wire.send("GET", "http://kiosk/", {}).status == 500
