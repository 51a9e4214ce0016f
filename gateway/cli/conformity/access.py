"""Checks of a plain access request: what is granted, denied and said about it."""

from __future__ import annotations

from typing import Final

from gateway.cli.conformity.checks import Mark, NotOffered, NotTried, Section, Takes, hold, same
from gateway.cli.conformity.previews import NEVER
from gateway.cli.conformity.shapes import ACCESS, MOMENT, fit
from gateway.cli.conformity.site import Site, Want, host_id
from gateway.cli.conformity.wares import Ware
from gateway.core.versions import version_key

SECTION: Final = Section(
    "access", "Access requests", "grants, denials, versions, and the members of an answer"
)


@SECTION.check(
    "an answer has its members, each of its type", "cmapi 5.1, SEMANTICS 8", Mark.CODE, Takes.ANY
)
def shape(site: Site, ware: Ware) -> None:
    answer = site.ask(site.host(), Want(ware.name), incremental=True)
    fit(answer.body, ACCESS)
    same("application/json", answer.reply.media_type)


@SECTION.check("requestHostId is the host as sent", "cmapi 5.1", Mark.CODE, Takes.ANY)
def echo(site: Site, ware: Ware) -> None:
    host = site.host()
    answer = site.ask(host, Want(ware.name, 0), incremental=True)
    same(host_id(host), answer.body.get("requestHostId"))


@SECTION.check("one unit of each told feature is granted to a new host", "cmapi 5.1", Mark.CODE)
def told(site: Site) -> None:
    if not site.told:
        raise NotTried("needs --features with a feature")
    for fault in site.faults:
        raise fault
    if site.unfit:
        raise NotTried("; ".join(site.unfit.values()))
    for name in site.told:
        answer = site.ask(site.host(), Want(name), incremental=True)
        same([(name, 1)], [(each, answer.count(name)) for each in answer.names()])
        same([], answer.statuses)


@SECTION.check("what is asked is granted", "cmapi 5.1, SEMANTICS 8", Mark.CODE, Takes.ANY)
def granted(site: Site, ware: Ware) -> None:
    answer = site.ask(site.host(), Want(ware.name))
    same(1, answer.count(ware.name))
    same([], answer.statuses)


@SECTION.check("statusList is there, also when it is empty", "SEMANTICS 8", Mark.SILENT, Takes.ANY)
def status_list(site: Site, ware: Ware) -> None:
    same([], site.ask(site.host(), Want(ware.name, 0)).body.get("statusList"))


@SECTION.check(
    "what is granted is no longer left for others", "SEMANTICS 4", Mark.STATED, Takes.ANY
)
def taken(site: Site, ware: Ware) -> None:
    before = site.left_counted(ware.name)
    site.ask(site.host(), Want(ware.name))
    same(before - 1, site.left(ware.name))


@SECTION.check(
    "maxCount is there, not under count, unless the feature is unlimited",
    "cmapi Q14",
    Mark.SILENT,
    Takes.ANY,
)
def max_count(site: Site, ware: Ware) -> None:
    unlimited = isinstance(site.left(ware.name), str)
    entry = site.ask(site.host(), Want(ware.name), incremental=True).entry(ware.name)
    count, capacity = entry.get("count"), entry.get("maxCount")
    if unlimited:
        hold("maxCount" not in entry, "no maxCount", entry)
    else:
        fits = type(count) is int and type(capacity) is int and 1 <= count <= capacity
        hold(fits, "count from 1 to maxCount", entry)


@SECTION.check(
    "the count of a consumed feature is what this request added",
    "cmapi Q25",
    Mark.SILENT,
    Takes.CONSUMED,
)
def count_added(site: Site, ware: Ware) -> None:
    host = site.host()
    for units in (2, 1):
        same(units, site.ask(host, Want(ware.name, units), incremental=True).count(ware.name))


@SECTION.check(
    "the count of a reusable feature is what the host now holds",
    "cmapi Q25",
    Mark.SILENT,
    Takes.REUSABLE,
)
def count_held(site: Site, ware: Ware) -> None:
    host = site.host()
    for held in (1, 2):
        same(held, site.ask(host, Want(ware.name), incremental=True).count(ware.name))


@SECTION.check("any version will do for 0 and for none", "cmapi 4.2, Q5", Mark.INFERRED, Takes.ANY)
def any_version(site: Site, ware: Ware) -> None:
    host = site.host()
    same(1, site.ask(host, Want(ware.name, 1, "0"), incremental=True).count(ware.name))
    body = site.body(host, Want(ware.name), incremental=True)
    del body["features"][0]["version"], body["features"][0]["count"]
    answer = site.accepted(body)
    same(1 if ware.consumed else 2, answer.count(ware.name))


@SECTION.check(
    "a lower version is served by a higher line, which is named",
    "SEMANTICS 12, E6",
    Mark.INFERRED,
    Takes.ANY,
)
def lower_version(site: Site, ware: Ware) -> None:
    if version_key(ware.version) < (1,):
        raise NotTried(f"{ware.name} has version {ware.version}, which nothing is lower than")
    answer = site.ask(site.host(), Want(ware.name, 1, "0.0.1"), incremental=True)
    same(1, answer.count(ware.name))
    version = str(answer.entry(ware.name).get("version"))
    hold(version_key(version) > version_key("0.0.1"), "the version of the line", version)


@SECTION.check(
    "a version that no line reaches is denied with 200 and changes nothing",
    "SEMANTICS 12, E13; cmapi Q3",
    Mark.INFERRED,
    Takes.ANY,
)
def version_denied(site: Site, ware: Ware) -> None:
    before = site.left(ware.name)
    answer = site.ask(site.host(), Want(ware.name, 1, NEVER))
    same([], answer.names())
    same([(ware.name, NEVER)], [(s.get("name"), s.get("version")) for s in answer.statuses])
    same(before, site.left(ware.name))


@SECTION.check("its code is VERSION_TOO_HIGH", "cmapi Q2", Mark.SILENT, Takes.ANY)
def version_code(site: Site, ware: Ware) -> None:
    same(["VERSION_TOO_HIGH"], site.ask(site.host(), Want(ware.name, 1, NEVER)).codes)


@SECTION.check(
    "an unknown feature is denied with 200: FEATURE_NOT_FOUND",
    "cmapi Q2, Q3",
    Mark.SILENT,
    Takes.ANY,
)
def unknown_feature(site: Site, _ware: Ware) -> None:
    answer = site.ask(site.host(), Want(site.stranger))
    same([], answer.names())
    same(["FEATURE_NOT_FOUND"], answer.codes)
    fit(answer.body, ACCESS)


@SECTION.check("a message names the feature", "SEMANTICS 12", Mark.SILENT, Takes.ANY)
def message(site: Site, _ware: Ware) -> None:
    (status,) = site.ask(site.host(), Want(site.stranger)).statuses or [{}]
    hold(site.stranger in str(status.get("message")), f"a message with {site.stranger}", status)


@SECTION.check("one name and version given twice is summed", "cmapi Q12", Mark.SILENT, Takes.ANY)
def summed(site: Site, ware: Ware) -> None:
    answer = site.ask(site.host(), Want(ware.name), Want(ware.name), incremental=True)
    same([ware.name], answer.names())
    same(2, answer.count(ware.name))


@SECTION.check(
    "several features are served by one request, each with an entry",
    "cmapi 4.6; SEMANTICS 12, E1",
    Mark.CODE,
    Takes.REUSABLE,
    Takes.CONSUMED,
)
def several(site: Site, held: Ware, consumed: Ware) -> None:
    answer = site.ask(site.host(), Want(held.name), Want(consumed.name, 2), partial=True)
    same({held.name: 1, consumed.name: 2}, {name: answer.count(name) for name in answer.names()})
    same([], answer.statuses)


@SECTION.check('flags may be the strings "true" and "false"', "cmapi Q6", Mark.CODE, Takes.ANY)
def word_flags(site: Site, ware: Ware) -> None:
    host = site.host()
    body = site.body(host, Want(ware.name)) | {"incremental": "true", "partial": "false"}
    same(1, site.accepted(body).count(ware.name))


@SECTION.check("vendorDictionary takes strings and integers", "cmapi 4.1", Mark.CODE, Takes.ANY)
def vendor(site: Site, ware: Ware) -> None:
    words = {"site": "Lyon", "batch": 118}
    same([], site.ask(site.host(), Want(ware.name, 0), vendorDictionary=words).statuses)


@SECTION.check(
    "an answer names its request and its transaction time", "SEMANTICS 8", Mark.OURS, Takes.ANY
)
def headers(site: Site, ware: Ware) -> None:
    named = site.ask(site.host(), Want(ware.name, 0)).reply.headers
    if "gateway-request-id" not in named or "gateway-transaction-time" not in named:
        raise NotOffered("no Gateway-Request-Id or Gateway-Transaction-Time")
    fit(named["gateway-transaction-time"], MOMENT)
