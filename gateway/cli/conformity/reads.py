"""Checks of the reads: the instance, its features, who holds them, totals, clients, explain."""

from __future__ import annotations

import math
import secrets
from datetime import UTC, datetime
from typing import Any, Final

from gateway.cli.conformity.answers import demand
from gateway.cli.conformity.checks import Mark, NotOffered, NotTried, Section, Takes, hold, same
from gateway.cli.conformity.clients import find_client, next_page
from gateway.cli.conformity.reading import read, read_reply, read_short
from gateway.cli.conformity.refusals import refused, shut_out
from gateway.cli.conformity.shapes import (
    COUNT,
    COUNT_OR_WORD,
    EXPIRY,
    FLAG,
    MOMENT,
    NAME,
    TEXT,
    WHOLE,
    Array,
    Members,
    Table,
    fit,
)
from gateway.cli.conformity.site import Site, Want
from gateway.cli.conformity.wares import Ware
from gateway.core.importing_values import moment
from gateway.core.model import Role

SECTION: Final = Section(
    "reads", "Reads", "instance, features, who holds them, totals, clients, explain"
)
SURE_DAYS: Final = 2  # by which a date must be past or to come, whatever the zone it is of
READS: Final = ("", "/features", "/features/summaries", "/clients", "/reservationgroups")
_TEXTS: Final = (
    *("featureId", "featureName", "featureVersion", "type", "featureKind", "vendor", "issuer"),
    *("issued", "starts", "notice", "expiry"),
)
_COUNTS: Final = (
    *("used", "sharedUsed", "reserved", "assignedReserved", "unassignedReserved"),
    *("overdraftCount", "overdraftUsedCount", "meteredUndoInterval"),
    *("borrowInterval", "renewInterval"),
)
_FLAGS: Final = ("uncappedOverdraft", "metered", "meteredReusable", "concurrent", "uncounted")
FEATURE: Final = Members(
    {
        "id": WHOLE,
        **dict.fromkeys(_TEXTS, TEXT),
        "receivedTime": MOMENT,
        "featureCount": COUNT_OR_WORD,
        **dict.fromkeys(_COUNTS, COUNT),
        **dict.fromkeys(_FLAGS, FLAG),
    }
)
_HOSTID: Final = Members({"hostidType": NAME, "hostidValue": TEXT})
CLIENT: Final = Members(
    {
        "id": WHOLE,
        **dict.fromkeys(("serverHostid", "requestHostid", "hostid"), _HOSTID),
        **dict.fromkeys(("hostType", "machineType", "correlationId"), TEXT),
        "collectedHostIds": Array(_HOSTID),
        "trusted": FLAG,
        **dict.fromkeys(("requestOperation", "servedStatus"), TEXT),
        "updateTime": MOMENT,
        "expiry": EXPIRY,
    }
)
HOLDER: Final = Members(
    {"id": WHOLE, "useCount": COUNT, "usageKind": TEXT, "reservedCount": COUNT, "client": CLIENT}
)
SUMMARY: Final = Members(
    {
        "totalCount": COUNT_OR_WORD,
        "totalUsed": COUNT,
        "totalOverdraftCount": COUNT_OR_WORD,
        "totalAvailable": COUNT_OR_WORD,
    }
)
INSTANCE: Final = Members({"instanceId": NAME, "name": TEXT, "version": TEXT})


@SECTION.check("reads are 401 without a token", "cmapi 3.3, 7.1", Mark.STATED)
def no_token(site: Site) -> None:
    for path in READS:
        refused(401, site.send("GET", path))


@SECTION.check("a client's token reads nothing", "SEMANTICS 10", Mark.INFERRED)
def capability_token(site: Site) -> None:
    shut_out(site.send("GET", "/features", token=site.token()))


@SECTION.check(
    "the base tells of the instance", "cmapi 3.3", Mark.SILENT, role=Role.READ, optional=True
)
def instance(site: Site) -> None:
    fit(read(site, ""), INSTANCE)


@SECTION.check(
    "/features is an array of lines, each member of its type",
    "cmapi 3.4",
    Mark.CODE,
    role=Role.READ,
)
def features(site: Site) -> None:
    fit(_some(read(site, "/features"), "line"), Array(FEATURE))


@SECTION.check(
    "activeOnly leaves out what has expired, and nothing that is valid",
    "cmapi 3.3",
    Mark.STATED,
    role=Role.READ,
)
def active_only(site: Site) -> None:
    lines = _some(_features(site), "line")
    every = {each["id"] for each in lines}
    same(sorted(every), sorted(each["id"] for each in _features(site, "?activeOnly=false")))
    valid = {each["id"] for each in lines if _is_valid(each) is True}
    expired = {each["id"] for each in lines if _is_valid(each) is False}
    if not valid | expired:
        raise NotTried("of no line it is sure whether it is valid")
    active = {each["id"] for each in _features(site, "?activeOnly=true")}
    hold(active <= every, "some of all", sorted(active - every))
    hold(valid <= active, "every valid line", f"not {sorted(valid - active)}")
    hold(not expired & active, "no expired line", sorted(expired & active))


@SECTION.check("/features/{id} is the one of the list", "cmapi 3.3", Mark.CODE, role=Role.READ)
def one_feature(site: Site) -> None:
    each = _some(_features(site), "line")[0]
    found = read(site, f"/features/{each['id']}")
    fit(found, FEATURE)
    told = ("id", "featureId", "featureName", "featureVersion", "featureCount", "expiry")
    same([each.get(name) for name in told], [found.get(name) for name in told])


@SECTION.check("a feature that is not there is 404", "SEMANTICS 10", Mark.SILENT, role=Role.READ)
def no_feature(site: Site) -> None:
    token = site.session.token_for(Role.READ)
    there = _some(_features(site), "line")[0]["id"]
    demand(site.send("GET", f"/features/{there}", token=token))  # or all of them may be 404
    refused(404, site.send("GET", "/features/999999999", token=token))


@SECTION.check("used tells what was taken", "cmapi 3.4", Mark.CODE, Takes.ANY, role=Role.READ)
def used(site: Site, ware: Ware) -> None:
    before = _used(site, ware)
    site.ask(site.host(), Want(ware.name), incremental=True)
    same(before + 1, _used(site, ware))


@SECTION.check(
    "the line of a told feature says which model it has",
    "cmapi 3.4",
    Mark.CODE,
    Takes.ANY,
    role=Role.READ,
)
def model(site: Site, ware: Ware) -> None:
    for line in _lines(site, ware):
        same(not ware.seats, line.get("metered"))
        same(ware.seats, line.get("concurrent"))
        same(not ware.seats and not ware.consumed, line.get("meteredReusable"))


@SECTION.check(
    "/features/{id}/clients tells who holds it, and how many",
    "cmapi 3.4",
    Mark.CODE,
    Takes.REUSABLE,
    role=Role.READ,
)
def holders(site: Site, ware: Ware) -> None:
    host = site.host()
    site.ask(host, Want(ware.name, 2))
    lines = _lines(site, ware)
    if len(lines) > 1:
        raise NotTried(f"{ware.name} has several lines")
    found = find_client(site, f"/features/{lines[0]['id']}/clients", host)
    fit(found, HOLDER)
    same(2, found["useCount"])


@SECTION.check(
    "/features/summaries is name, version, totals", "cmapi 3.4", Mark.CODE, role=Role.READ
)
def summaries(site: Site) -> None:
    body = read(site, "/features/summaries")
    fit(body, Table(Table(SUMMARY)))
    for name in {str(each.get("featureName")) for each in _some(_active(site), "valid line")}:
        hold(body.get(name), f"{name} with a version in the summaries", sorted(body))


@SECTION.check("totals move with what is taken", "cmapi 3.4", Mark.CODE, Takes.ANY, role=Role.READ)
def totals(site: Site, ware: Ware) -> None:
    def total() -> int:
        body = read(site, "/features/summaries")
        fit(body, Table(Table(SUMMARY)))
        hold(ware.name in body, f"{ware.name} in the summaries", sorted(body))
        return sum(each["totalUsed"] for each in body[ware.name].values())

    before = total()
    site.ask(site.host(), Want(ware.name), incremental=True)
    same(before + 1, total())


@SECTION.check("/clients lists who asked", "cmapi 3.4", Mark.CODE, Takes.REUSABLE, role=Role.READ)
def clients(site: Site, ware: Ware) -> None:
    host = site.host()
    site.ask(host, Want(ware.name))
    fit(find_client(site, "/clients", host), CLIENT)


@SECTION.check("/clients is an array", "cmapi 3.4", Mark.CODE, role=Role.READ)
def clients_shape(site: Site) -> None:
    fit(_some(read(site, "/clients"), "client"), Array(CLIENT))


@SECTION.check(
    "a page of /clients names the next one in a Link",
    "INTERFACE 4, RFC 8288",
    Mark.OURS,
    Takes.ANY,
    role=Role.READ,
)
def clients_paged(site: Site, ware: Ware) -> None:
    for _ in range(2):
        site.ask(site.host(), Want(ware.name, 0))
    first = read_reply(site, "/clients?limit=1")
    following = next_page(first)
    if following is None:
        raise NotOffered("no Link to a next page")
    same(1, len(first.json()))
    second = read(site, f"/clients{following}")
    same(1, len(second))
    hold(second[0]["id"] != first.json()[0]["id"], "another client", second[0]["id"])


@SECTION.check("/reservationgroups is an array", "cmapi 3.3", Mark.CODE, role=Role.READ)
def reservation_groups(site: Site) -> None:
    fit(read(site, "/reservationgroups"), Array(Members({})))


@SECTION.check("reads have the short local form", "cmapi 2, Q23", Mark.OURS, role=Role.READ)
def short_form(site: Site) -> None:
    token = site.session.token_for(Role.READ)
    reply = read_short(site, "/features", token=token)
    if reply.status == 401:
        raise NotTried("the short form is of another instance")
    short = demand(reply).json()
    fit(short, Array(FEATURE))
    lines = _some(_features(site), "line")
    same([each["id"] for each in lines], [each["id"] for each in short])


@SECTION.check(
    "explain tells why a remembered request was answered so",
    "INTERFACE 4",
    Mark.OURS,
    Takes.ANY,
    role=Role.READ,
)
def explain(site: Site, ware: Ware) -> None:
    key = f"conformance-{secrets.token_hex(8)}"
    site.ask(site.host(), Want(ware.name), incremental=True, key=key)
    body = read(site, f"/requests/{key}")
    fit(body, Members({"id": NAME, "features": Array(Members({"name": NAME}))}))
    same(key, body["id"])
    same([ware.name], [each["name"] for each in body["features"]])


def _features(site: Site, query: str = "") -> list[dict[str, Any]]:
    body = read(site, f"/features{query}")
    fit(body, Array(Members({"id": WHOLE})))
    return list(body)


def _active(site: Site) -> list[dict[str, Any]]:
    return [each for each in _features(site) if _is_valid(each)]


def _some(found: Any, what: str) -> Any:
    """Give back what was read. Raises NotTried when it is empty, of which everything is true."""
    if found in ([], {}):
        raise NotTried(f"no {what} is listed")
    return found


def _is_valid(line: dict[str, Any]) -> bool | None:
    """Say whether a line is valid now; None: its dates cannot be read, or are too near to say."""
    try:
        starts = _days_until(line["starts"]) if line.get("starts") else -math.inf
        expires = _days_until(line.get("expiry"))
    except ValueError:
        return None
    if expires < -SURE_DAYS:
        return False
    return True if starts < -SURE_DAYS and expires > SURE_DAYS else None


def _days_until(said: object) -> float:
    """Say how many days off a date is; infinite: it never comes. Raises ValueError."""
    found = moment(said)
    if found is None:
        return math.inf
    day = found.date() if isinstance(found, datetime) else found
    return (day - datetime.now(UTC).date()).days


def _lines(site: Site, ware: Ware) -> list[dict[str, Any]]:
    lines = [each for each in _features(site) if each.get("featureName") == ware.name]
    hold(lines, f"a line of {ware.name} in /features", len(lines))
    return lines


def _used(site: Site, ware: Ware) -> int:
    lines = _lines(site, ware)
    fit(lines, Array(Members({"used": COUNT})))
    return sum(line["used"] for line in lines)
