"""`conformance` against servers that mean harm or are broken: it tells no secret and takes little.

The law of each: whatever is answered, a run ends with words, and what it may have taken is said.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.cli.conformity import administration, batch
from gateway.cli.conformity import wire as wire_module
from gateway.cli.conformity.checks import SHOWN_MAX, Differs, NotOffered, NotTried
from gateway.cli.conformity.checks import Result as Ended
from gateway.cli.conformity.sessions import Login, Session
from gateway.cli.conformity.site import UNITS_MAX, Want
from gateway.cli.conformity.suite import ServerAway
from gateway.cli.conformity.wares import Ware
from gateway.cli.conformity.wire import Busy, Reply
from tests.cli.kiosk import Kiosk, command, every_verdict, listening, site_of

PASSWORD = 'correct "horse"'
UNITS = Ware("units", "1.0", consumed=True, undoable=True)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire_module, "PAUSE_S_MAX", 0)
    for name in [name for name in os.environ if name.startswith("GATEWAY_")]:
        monkeypatch.delenv(name)


def said(body: Any, status: int = 200, **headers: str) -> Callable[[httpx.Request], httpx.Response]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _: httpx.Response(status, json=body, headers=named)


class Denying(Kiosk):
    """Offers, and then denies with words of its own."""

    code = "no"

    def granted(self, host: str, body: Any, wants: list[Any]) -> dict[str, int]:
        return {}

    def answer(self, body: Any, counts: dict[str, int], unknown: list[Any]) -> httpx.Response:
        denied = [] if counts else body.get("features") or []
        answered = super().answer(body, counts, unknown).json()
        answered["statusList"] = [{**each, "code": self.code} for each in denied]
        return httpx.Response(200, json=answered)


class Listing(Kiosk):
    """Lists what a host consumed as if it were held."""

    def __init__(self) -> None:
        super().__init__()
        self.used: dict[str, int] = {}

    def granted(self, host: str, body: Any, wants: list[Any]) -> dict[str, int]:
        granted = super().granted(host, body, wants)
        self.used[host] = self.used.get(host, 0) + granted.get("units", 0)
        return granted | ({"units": self.used[host]} if self.used[host] else {})


# -- secrets and terminals


def test_what_was_not_tried_tells_no_secret_and_moves_no_terminal() -> None:
    kiosk = Denying()
    site = site_of(kiosk, "units")
    site.session = Session(Login("ann", PASSWORD))
    kiosk.code = f"\x1b]0;pwned\x07 {PASSWORD} {site.token()}"
    verdicts = every_verdict(site)
    shown = "".join(f"{v.why}{v.expected}{v.found}" for v in verdicts.values())
    assert "(secret)" in str(verdicts["access.granted"].why)
    for hidden in ("\x1b", "\x07", "horse", site.token()):
        assert hidden not in shown


def test_a_server_that_is_away_is_said_in_short() -> None:
    def away(_: httpx.Request) -> httpx.Response:
        raise httpx.RemoteProtocolError("\x1b" + "x" * 10_000)

    with pytest.raises(ServerAway) as raised:
        every_verdict(site_of(away))
    assert len(raised.value.message) <= SHOWN_MAX
    assert raised.value.message.isprintable()


# -- features that cannot be used


def test_what_is_offered_and_then_denied_differs() -> None:
    verdicts = every_verdict(site_of(Denying(), "units"))
    assert verdicts["access.told"].result == Ended.DIFFERS
    assert (verdicts["access.told"].found) == '["no"]'


def test_each_told_feature_that_cannot_be_used_is_said_and_is_exit_1(tmp_path: Path) -> None:
    kiosk = Kiosk()
    with listening(kiosk) as url:
        told = command(tmp_path, url, "--features", "seats,missing")
    assert told.exit_code == 1
    (sentence,) = told.stderr.splitlines()
    assert sentence.startswith("missing cannot be used: ")
    assert kiosk.left == {"seats": 5, "units": 1_000}


def test_what_is_consumed_and_listed_as_held_is_not_used() -> None:
    kiosk = Listing()
    site = site_of(kiosk, "units")
    verdicts = every_verdict(site)
    assert 0 < 1_000 - kiosk.left["units"] <= UNITS_MAX
    assert "not seen to be returned" in site.unfit["units"]
    assert verdicts["access.granted"].result == Ended.NOT_TRIED
    assert site.left_over()


def test_a_host_that_cannot_be_returned_is_tried_once_until_the_end() -> None:
    kiosk = Listing()
    site = site_of(kiosk, "units")
    site.loans.begin("h")
    kiosk.used["h"] = 1
    site.give_back()
    sent = len(kiosk.seen)
    site.give_back()
    assert len(kiosk.seen) == sent
    site.give_back(again=True)
    assert len(kiosk.seen) == 2 * sent


def test_a_misshapen_answer_keeps_no_other_host_from_being_returned() -> None:
    def misshapen(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        huge = {"name": "seats", "version": "1", "count": 2**63 - 1}
        features = [huge, huge] if body["hostId"]["value"] == "a" else []
        return httpx.Response(200, json={"features": features, "statusList": []})

    site = site_of(misshapen, "seats")
    for host in ("a", "b"):
        site.loans.begin(host)
    site.give_back()
    assert list(site.loans.open) == ["a"]


# -- what may have been consumed


@pytest.mark.parametrize(
    "answer",
    [
        said("nothing"),
        said({"features": [7]}),
        said({"features": [{"name": "units", "count": "2"}]}),
        said({}, 500),
        said({}, 500, Idempotency_Replayed="true"),
        said({}, 202),
    ],
)
def test_an_answer_that_says_nothing_counts_what_was_asked(answer: Any) -> None:
    site = site_of(answer, "units")
    site.wares["units"] = UNITS
    site.access(site.body("h", Want("units", 2)))
    assert site.loans.consumed["units"] == 2
    assert "units" in "".join(site.left_over())
    with pytest.raises(NotTried):
        site.access(site.body("h", Want("units", UNITS_MAX - 1)))


@pytest.mark.parametrize(
    "answer", [said({}, 500), said({}), said({}, 200, Content_Type=batch.NDJSON)]
)
def test_a_batch_that_says_nothing_counts_what_was_asked(answer: Any) -> None:
    site = site_of(answer, "units")
    site.wares["units"] = UNITS
    check = next(each for each in batch.SECTION.checks if each.id == "batch.bad-line")
    with pytest.raises((Differs, NotOffered)):
        check.run(site, UNITS)
    assert site.loans.unsure == {"units"}
    assert site.loans.consumed["units"] >= 1


def test_a_count_below_what_was_asked_makes_no_room() -> None:
    site = site_of(said({"features": [{"name": "units", "version": "1", "count": -999}]}), "units")
    site.wares["units"] = UNITS
    site.access(site.body("h", Want("units", 2)))
    assert site.loans.consumed["units"] == 0


def test_429_to_the_end_is_no_answer_and_nothing_was_taken() -> None:
    site = site_of(said({}, 429, Retry_After="9" * 5_000), "units")
    site.wares["units"] = UNITS
    with pytest.raises(Busy):
        site.ask("h", Want("units"))
    assert site.loans.unsure == set()
    with pytest.raises(ServerAway, match="429"):
        every_verdict(site)


def test_a_server_that_begins_to_answer_429_ends_the_run() -> None:
    """Also the returning at its end, whatever is still on loan."""
    kiosk = Kiosk()
    refusals: list[str] = []

    def tiring(request: httpx.Request) -> httpx.Response:
        if len(kiosk.seen) < 60:
            return kiosk(request)
        refusals.append(request.url.path)
        return httpx.Response(429, json={})

    verdicts = every_verdict(site_of(tiring, "seats", "units"))
    whys = [verdict.why for verdict in verdicts.values()]
    assert "the server gives no answers any more" in whys
    assert len(refusals) < 100


def test_a_client_id_is_no_path() -> None:
    host = {"hostid": {"hostidValue": ""}, "id": "../../policies"}
    sent: list[str] = []

    def listing(request: httpx.Request) -> httpx.Response:
        sent.append(f"{request.method} {request.url.path}")
        if request.method == "GET":
            return httpx.Response(200, json=[host])
        asker = json.loads(request.content)["hostId"]["value"]
        host["hostid"] = {"hostidValue": asker}
        return httpx.Response(200, json={"features": []})

    site = site_of(listing, "seats")
    reply = Reply(200, {}, b'{"token": "t"}')
    site.session = Session(Login("ann", PASSWORD), reply)
    drop = next(each for each in administration.SECTION.checks if each.id == "administration.drop")
    with pytest.raises(Differs, match="id: a"):
        drop.run(site, Ware("seats", "1.0", consumed=False))
    assert not any(each.startswith("DELETE") for each in sent)


# -- bad input


def test_a_wrong_password_is_exit_2_before_anything_is_taken(tmp_path: Path) -> None:
    kiosk = Kiosk()

    def strict(request: httpx.Request) -> httpx.Response:
        return httpx.Response(401) if "authorize" in request.url.path else kiosk(request)

    with listening(strict) as url:
        arguments = (url, "--features", "units", "--user", "ann", "--password-stdin")
        told = command(tmp_path, *arguments, given=PASSWORD)
    assert told.exit_code == 2
    assert "is the password right?" in told.stderr
    assert PASSWORD not in told.stderr
    assert list(kiosk.asked()) == []


def test_a_sheet_that_cannot_be_written_is_exit_2_and_nothing_is_sent(tmp_path: Path) -> None:
    kiosk = Kiosk()
    with listening(kiosk) as url:
        told = command(tmp_path, url, "--json", str(tmp_path))
    assert told.exit_code == 2
    assert "directory" in told.stderr
    assert kiosk.seen == []
