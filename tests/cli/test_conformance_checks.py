"""`conformance`: its checks show something, or say that they were not tried.

Each law here is that of a server which a weaker check would have passed: one that refuses
everything, grants nothing, lists nothing, or ignores a parameter.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from gateway.cli.conformity.checks import Result as Ended
from gateway.cli.conformity.checks import Section
from gateway.cli.conformity.examining import examine_all
from gateway.cli.conformity.sessions import Login
from gateway.cli.conformity.site import Site
from gateway.cli.conformity.suite import SECTIONS, Judge, Verdict
from gateway.cli.conformity.wares import Ware
from tests.cli.kiosk import Kiosk, site_of

LOGIN = Login("ann", "correct horse")
ERROR = {"key": "x.no", "message": "no", "arguments": []}
LINE: dict[str, Any] = {
    "id": 1,
    **dict.fromkeys(("featureId", "featureName", "featureVersion", "type", "featureKind"), "a"),
    **dict.fromkeys(("vendor", "issuer", "issued", "starts", "notice"), ""),
    "expiry": "permanent",
    "receivedTime": "2026-01-01T00:00:00.000Z",
    "featureCount": 5,
    **dict.fromkeys(("used", "sharedUsed", "reserved", "assignedReserved"), 0),
    **dict.fromkeys(("unassignedReserved", "overdraftCount", "overdraftUsedCount"), 0),
    **dict.fromkeys(("meteredUndoInterval", "borrowInterval", "renewInterval"), 0),
    **dict.fromkeys(("uncappedOverdraft", "metered", "meteredReusable"), False),
    **dict.fromkeys(("concurrent", "uncounted"), False),
}
OLD = LINE | {"id": 2, "expiry": "31-dec-2020"}
TOTALS = {
    "totalCount": 5,
    "totalUsed": 0,
    "totalOverdraftCount": 0,
    "totalAvailable": 5,
}
Answering = Callable[[httpx.Request], httpx.Response]


def section(slug: str) -> Section:
    return next(each for each in SECTIONS if each.slug == slug)


def verdict(site: Site, name: str) -> Verdict:
    """Run one check, alone."""
    slug = name.partition(".")[0]
    (check,) = (each for each in section(slug).checks if each.id == name)
    return Judge(site).judge(check)


def refusing(status: int) -> Answering:
    return lambda _: httpx.Response(status, json=ERROR)


def unsold_is_refused(request: httpx.Request) -> httpx.Response:
    """Answer 200 to what asks for nothing, else 400: nobody sells what was asked for."""
    asked = json.loads(request.content).get("features") if request.content[:1] == b"{" else True
    return httpx.Response(400 if asked else 200, json=ERROR)


# -- refusals


@pytest.mark.parametrize("answering", [refusing(400), unsold_is_refused])
def test_server_that_refuses_a_right_body_passes_no_refusal(answering: Answering) -> None:
    site = site_of(answering)
    judge = Judge(site)
    for check in section("refusals").checks:
        if check.id == "refusals.keys":  # five refusals, each of another status
            continue
        found = judge.judge(check)
        assert found.result == Ended.NOT_TRIED, check.id
        assert "refused too: HTTP 400" in str(found.why)


def test_right_body_is_sent_once_in_a_run() -> None:
    kiosk = Kiosk()
    judge = Judge(site_of(kiosk))
    rows = [each for each in section("refusals").checks if each.title.endswith(" is 400")]
    for check in rows:
        judge.judge(check)
    assert len(rows) > 30
    assert len(kiosk.seen) == len(rows) + 1


def test_row_passes_where_only_the_wrong_body_is_refused() -> None:
    site = site_of(Kiosk())  # which refuses a host and features that it cannot read
    assert verdict(site, "refusals.no-object").result == Ended.PASS
    assert verdict(site, "refusals.count-text").result == Ended.DIFFERS


def ids_up_to(longest: int) -> Answering:
    """Refuse ids over a length, and those with signs that are not visible ASCII."""

    def answer(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        named = request.headers.get("idempotency-key", body.get("correlationId"))
        good = named is None or (0 < len(named) <= longest and " " not in named)
        return httpx.Response(200 if good else 400, json=ERROR)

    return answer


def test_ids_are_refused_only_where_the_longest_good_one_is_taken() -> None:
    assert verdict(site_of(ids_up_to(255)), "refusals.ids").result == Ended.PASS
    short = verdict(site_of(ids_up_to(64)), "refusals.ids")
    assert short.result == Ended.NOT_TRIED
    assert "an id of 255 characters is refused too" in str(short.why)
    assert verdict(site_of(ids_up_to(1_000)), "refusals.ids").result == Ended.DIFFERS
    assert verdict(site_of(Kiosk()), "refusals.ids").result == Ended.NOT_OFFERED


# -- what is told


class Miserly(Kiosk):
    """Names what it was asked for, with a count of 0."""

    def granted(self, host: str, body: Any, wants: list[Any]) -> dict[str, int]:
        return {want["name"]: 0 for want in wants}


def test_told_feature_that_is_not_granted_differs() -> None:
    site = site_of(Miserly(), "units")
    examine_all(site)
    found = verdict(site, "access.told")
    assert found.result == Ended.DIFFERS
    assert (found.expected, found.found) == ('[["units",1]]', '[["units",0]]')


def test_told_features_are_not_tried_while_one_cannot_be_used() -> None:
    kiosk = Kiosk()
    kiosk.left["seats"] = 2
    site = site_of(kiosk, "units", "seats")
    examine_all(site)
    found = verdict(site, "access.told")
    assert found.result == Ended.NOT_TRIED
    assert str(found.why).startswith("seats cannot be used: ")


def test_told_features_that_are_granted_pass_and_are_given_back() -> None:
    kiosk = Kiosk()
    site = site_of(kiosk, "units", "seats")
    examine_all(site)
    assert verdict(site, "access.told").result == Ended.PASS
    assert kiosk.left["seats"] == 5


class Roomy(Kiosk):
    """Tells a capacity of its own."""

    def __init__(self, capacity: int | None) -> None:
        super().__init__()
        self.capacity = capacity

    def answer(self, body: Any, counts: dict[str, int], unknown: list[Any]) -> httpx.Response:
        told = json.loads(super().answer(body, counts, unknown).content)
        for each in told["features"]:
            each["maxCount"] = self.capacity
        return httpx.Response(200, json=told)


@pytest.mark.parametrize(
    ("capacity", "result"),
    [(1, Ended.PASS), (9, Ended.PASS), (0, Ended.DIFFERS), (None, Ended.DIFFERS)],
)
def test_capacity_is_compared_with_the_count(capacity: int | None, result: Ended) -> None:
    site = site_of(Roomy(capacity), "seats")
    site.wares["seats"] = Ware("seats", "1.0", consumed=False)
    assert verdict(site, "access.max-count").result == result


@pytest.mark.parametrize("name", ["everything", "unlimited", "counts-ignored", "changes-nothing"])
def test_preview_without_entries_shows_nothing(name: str) -> None:
    empty = {"features": [], "statusList": []}
    site = site_of(lambda _: httpx.Response(200, json=empty), "units")
    site.wares["units"] = Ware("units", "1.0", consumed=True)
    assert verdict(site, f"previews.{name}").result == Ended.NOT_TRIED


# -- reads


def reading(**answers: Any) -> Site:
    """Give a site with an administrator; `answers` are by the path's last part and the query."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/authorize"):
            return httpx.Response(200, json={"token": "t", "roles": ["ROLE_READ"]})
        last = request.url.path.rpartition("/")[2]
        active = "active" if request.url.params.get("activeOnly") == "true" else last
        found = answers.get(active, answers.get(last))
        return httpx.Response(404 if found is None else 200, json=ERROR if found is None else found)

    site = site_of(answer)
    site.log_in(LOGIN)
    return site


@pytest.mark.parametrize(
    "name",
    ["features", "active-only", "one-feature", "no-feature", "summaries", "clients-shape"],
)
def test_read_that_lists_nothing_is_not_tried(name: str) -> None:
    site = reading(features=[], summaries={}, clients=[])
    assert verdict(site, f"reads.{name}").result == Ended.NOT_TRIED


def test_read_that_lists_something_is_looked_at() -> None:
    site = reading(features=[LINE], summaries={"a": {"1.0": TOTALS}}, clients=[{}], **{"1": LINE})
    for name in ("features", "active-only", "one-feature", "no-feature", "summaries"):
        assert verdict(site, f"reads.{name}").result == Ended.PASS, name
    assert verdict(site, "reads.clients-shape").result == Ended.DIFFERS


@pytest.mark.parametrize(
    ("active", "result"),
    [
        ([LINE], Ended.PASS),
        ([LINE, OLD], Ended.DIFFERS),  # the parameter is ignored
        ([], Ended.DIFFERS),
        ([LINE, LINE | {"id": 3}], Ended.DIFFERS),
    ],
)
def test_active_lines_are_those_that_have_not_expired(active: Any, result: Ended) -> None:
    site = reading(features=[LINE, OLD], active=active)
    assert verdict(site, "reads.active-only").result == result


@pytest.mark.parametrize("expiry", ["soon", "", None, 7])
def test_line_whose_expiry_cannot_be_read_decides_nothing(expiry: object) -> None:
    site = reading(features=[LINE | {"expiry": expiry}], active=[])
    assert verdict(site, "reads.active-only").result == Ended.NOT_TRIED


def test_feature_that_is_missing_in_the_summaries_differs() -> None:
    for summaries in ({}, {"b": {"1.0": TOTALS}}, {"a": {}}):
        site = reading(features=[LINE], summaries=summaries)
        assert verdict(site, "reads.summaries").result == Ended.DIFFERS


def test_server_without_features_by_number_shows_nothing_by_a_404() -> None:
    assert verdict(reading(features=[LINE]), "reads.no-feature").result == Ended.DIFFERS
