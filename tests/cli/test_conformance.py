"""`conformance` and its pieces against made-up servers: differences, refusals, giving back."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.cli.conformity import wire as wire_module
from gateway.cli.conformity.checks import (
    SHOWN_MAX,
    Absent,
    Check,
    Differs,
    Mark,
    NotOffered,
    NotTried,
    Section,
    Takes,
    same,
    shortened,
    shown,
)
from gateway.cli.conformity.checks import Result as Ended
from gateway.cli.conformity.sessions import Login
from gateway.cli.conformity.shapes import ACCESS, MOMENT, Array, Members, fit
from gateway.cli.conformity.sheet import BEGIN, END, as_json, compatibility_table
from gateway.cli.conformity.site import UNITS_MAX, Overreach, Site, Want
from gateway.cli.conformity.suite import SECTIONS, SILENT_MAX, Verdict, _Run, perform
from gateway.cli.conformity.wares import Ware
from gateway.cli.conformity.wire import NoAnswer, Reply, Wire
from gateway.cli.request import find_target
from gateway.core.keys import generate, private_pem
from tests.system.processes import ROOT

KEY = generate("RS256")
TOLD = ("seats", "units")
PASSWORD = "correct horse"


class Kiosk:
    """A small licence server: `seats` are held, `units` add up, everything else is unknown.

    It lets everybody in and remembers no id. `interrupt_at` is the number of the access request
    that ends in Ctrl-C after it was done.
    """

    def __init__(self) -> None:
        self.left = {"seats": 5, "units": 1_000}
        self.held: Counter[str] = Counter()
        self.seen: list[tuple[str, str, Any]] = []
        self.interrupt_at = 0
        self.granting = True

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = self.read(request.content)
        self.seen.append((request.method, request.url.path, body))
        endpoint = request.url.path.rpartition("/")[2]
        if not endpoint.endswith("_request"):
            return httpx.Response(404, json={"key": "x.no", "message": "no", "arguments": []})
        try:
            return self.served(endpoint, body)
        except (AttributeError, LookupError, TypeError):
            return httpx.Response(400, json={"key": "x.bad", "message": "bad", "arguments": []})

    def served(self, endpoint: str, body: Any) -> httpx.Response:
        host = (body.get("hostId") or {}).get("value", "")
        wants = [each for each in body.get("features") or () if each["name"] in self.left]
        unknown = [each for each in body.get("features") or () if each["name"] not in self.left]
        if endpoint == "preview_request":
            counts = {name: self.left[name] + self.own(host, name) for name in self.left}
            named = [each["name"] for each in wants] if body.get("features") else list(self.left)
            return self.answer(body, {name: counts[name] for name in named}, unknown)
        granted = self.granted(host, body, wants) if not unknown else {}
        self.interrupt_at -= 1
        if self.interrupt_at == 0:
            raise KeyboardInterrupt
        return self.answer(body, granted, unknown)

    def read(self, content: bytes) -> Any:
        try:
            return json.loads(content or b"null")
        except (ValueError, RecursionError):
            return None

    def own(self, host: str, name: str) -> int:
        return self.held[host] if name == "seats" else 0

    def granted(self, host: str, body: Any, wants: list[Any]) -> dict[str, int]:
        if not body.get("incremental"):
            self.left["seats"] += self.held.pop(host, 0)
        granted: dict[str, int] = {}
        for want in wants:
            name, count = want["name"], want.get("count", 1)
            if type(count) is not int or not self.granting or not 0 <= count <= self.left[name]:
                continue
            self.left[name] -= count
            if name == "seats":
                self.held[host] += count
            else:
                granted[name] = granted.get(name, 0) + count
        if self.held[host]:
            granted["seats"] = self.held[host]
        return granted

    def answer(self, body: Any, counts: dict[str, int], unknown: list[Any]) -> httpx.Response:
        features = [
            {"name": name, "version": "1.0", "count": count, "maxCount": count, "renewInterval": 0}
            for name, count in counts.items()
        ]
        status = [
            {"name": each["name"], "version": "0", "code": "7", "message": "no"} for each in unknown
        ]
        echo = {"requestHostId": body.get("hostId"), "features": features, "statusList": status}
        return httpx.Response(200, json=echo)

    def asked(self) -> Iterator[tuple[Any, Any]]:
        """Give each feature that an access request named, with the count."""
        for _, path, body in self.seen:
            features = body.get("features") if isinstance(body, dict) else None
            if path.endswith("access_request") and isinstance(features, list):
                for each in features:
                    yield each["name"], each.get("count", 1)


def site_of(kiosk: Callable[[httpx.Request], httpx.Response], *told: str) -> Site:
    client = httpx.Client(transport=httpx.MockTransport(kiosk))
    target = find_target("http://kiosk", "I")
    return Site(Wire(client), target, "I", KEY, told=told)


def judged(run: Any, *, mark: Mark = Mark.CODE, site: Site | None = None) -> Verdict:
    section = Section("made-up", "Made up", "for tests")
    section.add("it", "it is so", "SEMANTICS 0", mark, run)
    return _Run(site or site_of(Kiosk())).judge(section.checks[0])


def raising(error: Exception) -> Any:
    def run(_site: Site) -> None:
        raise error

    return run


def every_verdict(site: Site) -> dict[str, Verdict]:
    found = perform(site, None, lambda _: None)
    return {verdict.id: verdict for _, verdicts in found for verdict in verdicts}


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire_module, "PAUSE_S_MAX", 0)
    for name in [name for name in os.environ if name.startswith("GATEWAY_")]:
        monkeypatch.delenv(name)


# -- verdicts


def test_a_difference_shows_both_sides() -> None:
    verdict = judged(lambda _: same({"count": 2}, {"count": 3}))
    assert verdict.result == Ended.DIFFERS
    assert (verdict.expected, verdict.found) == ('{"count":2}', '{"count":3}')


def test_true_is_not_one() -> None:
    with pytest.raises(Differs):
        same(1, True)


def test_what_is_ours_and_absent_is_not_offered_what_is_cmapis_differs() -> None:
    absent = raising(Absent("HTTP 200", "HTTP 404"))
    assert judged(absent, mark=Mark.OURS).result == Ended.NOT_OFFERED
    assert judged(absent, mark=Mark.CODE).result == Ended.DIFFERS


def test_what_is_ours_and_wrong_differs_all_the_same() -> None:
    assert judged(raising(Differs(1, 2)), mark=Mark.OURS).result == Ended.DIFFERS


def test_what_cannot_be_tried_says_why() -> None:
    verdict = judged(raising(NotTried("there are too few")))
    assert (verdict.result, verdict.why) == (Ended.NOT_TRIED, "there are too few")
    assert judged(raising(NotOffered("none"))).result == Ended.NOT_OFFERED


def test_an_answer_that_trips_a_check_differs() -> None:
    verdict = judged(raising(KeyError("useCount")))
    assert verdict.result == Ended.DIFFERS
    assert "useCount" in str(verdict.found)


def test_a_server_that_gives_no_answers_is_left_alone() -> None:
    run, ran = _Run(site_of(Kiosk())), []

    def silent(_site: Site) -> None:
        ran.append(1)
        raise NoAnswer("no answer: refused")

    check = Check("a.b", "it", "SEMANTICS 0", Mark.CODE, silent)
    found = [run.judge(check).result for _ in range(SILENT_MAX + 2)]
    assert found == [Ended.DIFFERS] * SILENT_MAX + [Ended.NOT_TRIED] * 2
    assert len(ran) == SILENT_MAX


def test_no_secret_is_shown() -> None:
    site = site_of(Kiosk())
    site.log_in(Login("ann", PASSWORD))
    token = site.token()
    verdict = judged(raising(Differs("x", f"{token} {PASSWORD}")), site=site)
    assert verdict.found == "(secret) (secret)"
    cut = judged(raising(Differs("x", f"HTTP 200, {token[:90]}")), site=site)
    assert cut.found == "HTTP 200, (token)"
    assert PASSWORD not in repr(site.session.login)


def test_what_a_server_says_is_harmless_on_a_terminal() -> None:
    assert shown("a\x1b[31mb\n") == "a?[31mb?"
    assert len(shortened("x" * 10_000)) == SHOWN_MAX


# -- shapes


def test_a_shape_names_each_fault_by_its_place() -> None:
    with pytest.raises(Differs) as raised:
        fit({"a": [{"when": "2026-01-01"}, {}]}, Members({"a": Array(Members({"when": MOMENT}))}))
    assert "a[0].when: a moment" in raised.value.expected
    assert raised.value.found == "a[0].when: 2026-01-01; a[1].when: absent"


def test_members_nobody_promised_are_no_fault() -> None:
    host = {"type": "string", "value": "h", "more": 1}
    fit({"requestHostId": host, "features": [], "serverLicenseRenewInterval": 1}, ACCESS)


@pytest.mark.parametrize("count", [1.0, True, "1", None])
def test_a_count_is_a_whole_number(count: Any) -> None:
    entry = {"name": "a", "version": "1", "count": count}
    with pytest.raises(Differs, match=r"features\[0\].count"):
        fit({"features": [entry]}, Members({"features": ACCESS.must["features"]}))


# -- the table of checks


def test_ids_are_distinct_and_every_check_names_its_source() -> None:
    checks = [check for section in SECTIONS for check in section.checks]
    assert len({check.id for check in checks}) == len(checks)
    assert all(check.source and check.title for check in checks)
    assert all(check.optional for check in checks if check.mark is Mark.OURS)


def test_the_readmes_table_is_the_suites() -> None:
    """With every check passed, which the system test holds this gateway to."""
    passed = {check.id: Ended.PASS for section in SECTIONS for check in section.checks}
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert BEGIN in readme
    assert readme.partition(BEGIN)[2].partition(END)[0].strip() == compatibility_table(passed)


def test_the_table_tells_of_what_did_not_pass() -> None:
    assert "| 0 of " in compatibility_table({})
    assert compatibility_table({}) == compatibility_table({})


# -- what is taken


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


def test_429_is_asked_again_and_nothing_else_is() -> None:
    answers = [429, 429, 200, 500]
    client = httpx.Client(
        transport=httpx.MockTransport(lambda _: httpx.Response(answers.pop(0), text="{}"))
    )
    wire = Wire(client)
    assert wire.send("GET", "http://kiosk/", {}).status == 200
    assert wire.send("GET", "http://kiosk/", {}).status == 500


# -- the command


@contextmanager
def listening(answer: Callable[[httpx.Request], httpx.Response]) -> Iterator[str]:
    """Serve a made-up server on loopback; gives its address."""

    class Handler(BaseHTTPRequestHandler):
        wbufsize = 65_536

        def handle_it(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            response = answer(httpx.Request(self.command, f"http://k{self.path}", content=content))
            self.send_response(response.status_code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(response.content)))
            self.end_headers()
            self.wfile.write(response.content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_it

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def command(directory: Path, *arguments: str, given: str = "") -> Result:
    key = directory / "private.pem"
    key.write_bytes(private_pem(KEY))
    typed = ["conformance", *arguments, "--instance", "I", "--key", str(key)]
    return CliRunner().invoke(main, typed, input=given)


def test_a_server_that_differs_is_exit_1_and_the_sheet_is_json(tmp_path: Path) -> None:
    with listening(Kiosk()) as url:
        told = command(tmp_path, url, "--json", "-")
    assert told.exit_code == 1
    sheet = json.loads(told.stdout)
    assert (sheet["url"], sheet["instance"], sheet["left"]) == (url, "I", [])
    assert [section["name"] for section in sheet["sections"]] == [each.name for each in SECTIONS]
    members = {"id", "title", "source", "mark", "result", "expected", "found", "why"}
    checks = [check for section in sheet["sections"] for check in section["checks"]]
    assert all(set(check) == members for check in checks)
    assert sum(sheet["totals"].values()) == len(checks)
    assert "eyJ" not in told.stdout


def test_the_sheet_goes_to_a_file_and_the_table_to_the_terminal(tmp_path: Path) -> None:
    with listening(Kiosk()) as url:
        told = command(tmp_path, url, "--json", str(tmp_path / "sheet.json"))
    assert told.exit_code == 1
    sheet = json.loads((tmp_path / "sheet.json").read_bytes())
    last = told.stdout.splitlines()[-1]
    assert last.startswith(f"conformance: {sheet['totals']['pass']} pass, ")
    assert "Refusals: " in told.stdout
    assert "[C]" in told.stdout


def test_bad_input_is_exit_2_and_nothing_is_sent(tmp_path: Path) -> None:
    kiosk = Kiosk()
    with listening(kiosk) as url:
        for arguments in (
            ("ftp://x",),
            (url, "--features", "a*b"),
            (url, "--features", ",".join(f"f{n}" for n in range(9))),
            (url, "--user", "ann"),
            (url, "--password-stdin"),
            (url, "--json", str(tmp_path / "no" / "sheet.json")),
        ):
            told = command(tmp_path, *arguments)
            assert (told.exit_code, told.stdout) == (2, ""), arguments
            assert len(told.stderr.splitlines()) == 1
    assert kiosk.seen == []


def test_a_key_that_nobody_knows_is_exit_2(tmp_path: Path) -> None:
    with listening(lambda _: httpx.Response(401, text="{}")) as url:
        told = command(tmp_path, url)
    assert told.exit_code == 2
    assert "401" in told.stderr


def test_a_server_that_is_not_there_is_exit_1(tmp_path: Path) -> None:
    told = command(tmp_path, "http://127.0.0.1:1")
    assert (told.exit_code, told.stdout) == (1, "")
    assert "http://127.0.0.1:1" in told.stderr


def test_help_has_an_example_and_says_what_is_not_given_back() -> None:
    told = CliRunner().invoke(main, ["conformance", "--help"])
    assert told.exit_code == 0
    assert "cmapi-gateway conformance http" in told.stdout
    assert "stays consumed" in told.stdout


def test_json_is_the_same_for_the_same_verdicts() -> None:
    verdicts = [judged(lambda _: same(1, 2))]
    written = [
        as_json([(SECTIONS[0], verdicts)], url="u", instance="I", when="w", left=[])
        for _ in range(2)
    ]
    assert written[0] == written[1]
    assert Reply(200, {}, written[0]).json()["totals"]["differs"] == 1
