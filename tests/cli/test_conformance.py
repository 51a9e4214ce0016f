"""`conformance`: how checks end, what a shape is, and the command, against made-up servers."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

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
    same,
    shortened,
    shown,
)
from gateway.cli.conformity.checks import Result as Ended
from gateway.cli.conformity.sessions import Login
from gateway.cli.conformity.shapes import ACCESS, MOMENT, Array, Members, fit
from gateway.cli.conformity.sheet import BEGIN, END, as_json, compatibility_table
from gateway.cli.conformity.site import Site
from gateway.cli.conformity.suite import SECTIONS, SILENT_MAX, Judge, Verdict
from gateway.cli.conformity.wire import NoAnswer, Reply
from tests.cli.kiosk import Kiosk, command, listening, site_of
from tests.system.processes import ROOT

PASSWORD = "correct horse"


def judged(run: Any, *, mark: Mark = Mark.CODE, site: Site | None = None) -> Verdict:
    section = Section("made-up", "Made up", "for tests")
    section.add("it", "it is so", "SEMANTICS 0", mark, run)
    return Judge(site or site_of(Kiosk())).judge(section.checks[0])


def raising(error: Exception) -> Any:
    def run(_site: Site) -> None:
        raise error

    return run


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
    run, ran = Judge(site_of(Kiosk())), []

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


# -- the command


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
