"""Checks of previews: what a host could get, and that looking changes nothing."""

from __future__ import annotations

from typing import Final

from gateway.cli.conformity.answers import UNCOUNTED, Answer
from gateway.cli.conformity.checks import Mark, NotTried, Section, Takes, hold, same
from gateway.cli.conformity.shapes import PREVIEW, fit
from gateway.cli.conformity.site import Site, Want, host_id
from gateway.cli.conformity.wares import Ware
from gateway.core.versions import version_key

SECTION: Final = Section(
    "previews", "Previews", "what a host could get now; looking changes nothing"
)
NEVER: Final = "999999999.0"  # a version that nobody has reached


@SECTION.check("a preview has the members of one, each of its type", "cmapi 5.3", Mark.CODE)
def shape(site: Site) -> None:
    fit(site.preview(site.host()).body, PREVIEW)


@SECTION.check("requestHostId is the host as sent, its type in any case", "cmapi 4.3", Mark.CODE)
def echo(site: Site) -> None:
    for kind in ("string", "STRING"):
        host = {"type": kind, "value": site.host()}
        same(host, site.preview("", hostId=host).body.get("requestHostId"))


@SECTION.check("statusList is there, also when it is empty", "SEMANTICS 8", Mark.SILENT)
def status_list(site: Site) -> None:
    same([], site.preview(site.host()).body.get("statusList"))


@SECTION.check("a preview names no serverLicenseRenewInterval", "cmapi 5.3", Mark.CODE)
def no_renewal(site: Site) -> None:
    body = site.preview(site.host()).body
    hold("serverLicenseRenewInterval" not in body, "no such member", sorted(body))


@SECTION.check("an absent list of features means all, as an empty one", "cmapi 4.5", Mark.INFERRED)
def everything(site: Site) -> None:
    host = site.host()
    empty = site.preview(host)
    if not empty.names():
        raise NotTried("a new host is offered nothing")
    absent = site.preview(host, features=None)
    same(sorted(empty.names()), sorted(absent.names()))


@SECTION.check("members nobody knows are ignored", "cmapi 4.1, SEMANTICS 2", Mark.CODE)
def unknown_members(site: Site) -> None:
    body = {"hostId": host_id(site.host()), "features": [], "conformance": {"any": [1, None]}}
    fit(site.post("/preview_request", body).json(), PREVIEW)


@SECTION.check("selectorsDictionary is taken", "cmapi 4.5", Mark.CODE)
def selectors(site: Site) -> None:
    fit(site.preview(site.host(), selectorsDictionary={"region": "ANY"}).body, PREVIEW)


@SECTION.check("an unknown feature is in statusList, by name and version", "cmapi 5.4", Mark.CODE)
def unknown_feature(site: Site) -> None:
    answer = site.preview(site.host(), Want(site.stranger, 1, "1.0"))
    same([], answer.names())
    same(
        [(site.stranger, "1.0")],
        [(each.get("name"), each.get("version")) for each in answer.statuses],
    )


@SECTION.check("its code is FEATURE_NOT_FOUND", "cmapi Q2, SEMANTICS 3", Mark.SILENT)
def unknown_feature_code(site: Site) -> None:
    same(["FEATURE_NOT_FOUND"], site.preview(site.host(), Want(site.stranger)).codes)


@SECTION.check(
    "a told feature is listed with what is left of it", "cmapi 5.3", Mark.CODE, Takes.ANY
)
def listed(site: Site, ware: Ware) -> None:
    answer = site.preview(site.host(), Want(ware.name))
    fit(answer.body, PREVIEW)
    same([], answer.statuses)
    named = {each for each in answer.names()}
    same({ware.name}, named)
    hold(ware.name in site.preview(site.host()).names(), f"{ware.name} in a preview of all", named)


@SECTION.check(
    'count is "uncounted" and maxCount absent when unlimited, numbers otherwise',
    "cmapi Q14, SEMANTICS 8",
    Mark.SILENT,
    Takes.ANY,
)
def unlimited(site: Site, ware: Ware) -> None:
    for entry in _offered(site, site.host(), Want(ware.name)).entries(ware.name):
        count, capacity = entry.get("count"), entry.get("maxCount")
        if "maxCount" in entry:
            fits = type(count) is int and type(capacity) is int and 0 <= count <= capacity
            hold(fits, "count from 0 to maxCount", entry)
        else:
            same(UNCOUNTED, count)


@SECTION.check("the count that is asked for is ignored", "SEMANTICS 8", Mark.INFERRED, Takes.ANY)
def counts_ignored(site: Site, ware: Ware) -> None:
    host = site.host()
    one, three = (_offered(site, host, Want(ware.name, n)) for n in (1, 3))
    same(one.count(ware.name), three.count(ware.name))
    same([], three.statuses)


@SECTION.check("a preview changes nothing", "cmapi 5.3", Mark.INFERRED, Takes.ANY)
def changes_nothing(site: Site, ware: Ware) -> None:
    before = site.left_counted(ware.name)
    host = site.host()
    for _ in range(3):
        site.preview(host, Want(ware.name, 3))
    same(before, site.left(ware.name))


@SECTION.check(
    "a host's own counts are part of what it could get", "SEMANTICS 8", Mark.SILENT, Takes.REUSABLE
)
def own_included(site: Site, ware: Ware) -> None:
    before, host = site.left_counted(ware.name), site.host()
    site.ask(host, Want(ware.name))
    same(before, site.preview(host, Want(ware.name)).count(ware.name))
    same(before - 1, site.left(ware.name))


@SECTION.check(
    "a version that no line reaches is VERSION_TOO_HIGH",
    "cmapi Q2, SEMANTICS 3",
    Mark.SILENT,
    Takes.ANY,
)
def version_too_high(site: Site, ware: Ware) -> None:
    answer = site.preview(site.host(), Want(ware.name, 1, NEVER))
    same(["VERSION_TOO_HIGH"], answer.codes)
    same(0, answer.count(ware.name))


@SECTION.check(
    "the version offered is the asked one or higher", "cmapi 4.2", Mark.INFERRED, Takes.ANY
)
def version_served(site: Site, ware: Ware) -> None:
    answer = site.preview(site.host(), Want(ware.name, 1, ware.version))
    version = str(answer.entry(ware.name).get("version"))
    hold(version_key(version) >= version_key(ware.version), f"{ware.version} or higher", version)


def _offered(site: Site, host: str, want: Want) -> Answer:
    """Preview a feature. Raises NotTried without an entry, of which nothing could be compared."""
    answer = site.preview(host, want)
    if not answer.entries(want.name):
        raise NotTried(f"a preview has no entry of {want.name}")
    return answer
