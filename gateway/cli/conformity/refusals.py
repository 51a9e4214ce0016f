"""Checks of what is refused: bodies that are no access request, and requests that are no request.

Whatever is wrong names a feature that nobody sells, so that a server which takes it grants nothing.
A refusal shows something only of a server that takes the same request with nothing wrong in it:
that one is sent first, and unless it is a 200 the rest is not tried.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, Final

from gateway.cli.conformity.answers import demand
from gateway.cli.conformity.checks import Mark, NotOffered, NotTried, Section, same
from gateway.cli.conformity.shapes import ERROR, fit
from gateway.cli.conformity.site import JSON, Site, Want, host_id
from gateway.cli.conformity.wire import Reply

SECTION: Final = Section(
    "refusals", "Refusals", "each 400 of the request's table, 404, 405, 413, 415, the error's shape"
)
OUR_PREFIX: Final = "gateway."
BODY_BYTES: Final = 65_536
ID_CHARS_MAX: Final = 255
_KEYS: Final = {
    400: "badRequest",
    401: "unauthorized",
    403: "forbidden",
    404: "notFound",
    405: "methodNotAllowed",
    413: "tooLarge",
    415: "unsupportedMediaType",
    422: "idempotencyMismatch",
}


def refused(status: int, reply: Reply) -> Reply:
    """Give a refusal back. Raises Differs unless it has this status and the error body."""
    demand(reply, status)
    fit(reply.json(), ERROR)
    return reply


def shut_out(reply: Reply) -> None:
    """Raise Differs unless somebody without the right to is refused: 401, or 403 by some."""
    refused(403 if reply.status == 403 else 401, reply)


@SECTION.check("keys of errors are those of the table", "SEMANTICS 10, cmapi Q4", Mark.OURS)
def keys(site: Site) -> None:
    found = {
        400: site.post("/preview_request", {}),
        401: site.send("POST", "/preview_request", b"{}"),
        404: site.send("GET", "/conformance/nothing", token=site.token()),
        405: site.send("GET", "/preview_request", token=site.token()),
        415: site.send("POST", "/preview_request", b"", token=site.token(), media_type="text/css"),
    }
    for status, reply in found.items():
        key = str(refused(status, reply).json().get("key"))
        if not key.startswith(OUR_PREFIX):
            raise NotOffered(f"keys are others, such as {key}")
        same(OUR_PREFIX + _KEYS[status], key)


@SECTION.check("a path that is not there is 404", "SEMANTICS 10", Mark.SILENT)
def path(site: Site) -> None:
    _needs_control(site)
    refused(404, site.send("GET", "/conformance/nothing", token=site.token()))


@SECTION.check("another method is 405", "SEMANTICS 10", Mark.SILENT)
def method(site: Site) -> None:
    _needs_control(site)
    for name in ("GET", "PUT"):
        refused(405, site.send(name, "/access_request", token=site.token()))


@SECTION.check("a body over 64 KiB is 413", "SEMANTICS 2", Mark.SILENT)
def too_large(site: Site) -> None:
    _needs_control(site)
    body = {"hostId": host_id(site.host()), "features": [], "conformance": "x" * BODY_BYTES}
    refused(413, site.post("/preview_request", body, Connection="close"))


@SECTION.check("another Content-Type is 415", "SEMANTICS 10", Mark.SILENT)
def media_type(site: Site) -> None:
    _needs_control(site)
    refused(415, site.send("POST", "/preview_request", b"a", token=site.token(), media_type="a/b"))


@SECTION.check("any Content-Encoding is 415", "SEMANTICS 2", Mark.SILENT)
def encoding(site: Site) -> None:
    _needs_control(site)
    reply = site.send(
        "POST",
        "/preview_request",
        b"{}",
        token=site.token(),
        media_type=JSON,
        Content_Encoding="gzip",
    )
    refused(415, reply)


Change = Callable[[dict[str, Any]], Any]


def _set(member: str, value: object) -> Change:
    return lambda body: {**body, member: value}


def _host(kind: object, value: object) -> Change:
    return _set("hostId", {"type": kind, "value": value})


def _feature(**members: object) -> Change:
    return lambda body: {**body, "features": [{**body["features"][0], **members}]}


def _counts(*counts: int, incremental: bool = False, apart: bool = False) -> Change:
    """Ask for these counts, all of one version or each of its own (`apart`)."""

    def change(body: dict[str, Any]) -> dict[str, Any]:
        features = [
            {**body["features"][0], "count": n, **({"version": f"{at}.0"} if apart else {})}
            for at, n in enumerate(counts, 1)
        ]
        return {**body, "features": features, "incremental": incremental}

    return change


def _many(member: str) -> Change:
    return _set(member, {f"k{at}": "v" for at in range(65)})


# id, what is wrong, the body: each a row, or part of one, of the table of SEMANTICS 2
ROWS: Final[tuple[tuple[str, str, Change], ...]] = (
    ("not_json", "a body that is not JSON", lambda _: b'{"hostId":'),
    ("not_utf8", "a body that is not UTF-8", lambda _: b'{"hostId":"\xff"}'),
    ("no_object", "a body that is no object", lambda body: [body]),
    ("too_deep", "a body nested beyond reason", lambda _: b"[" * 20_000),
    ("no_host", "no hostId", lambda body: {**body, "hostId": None}),
    ("host_type", "a host type that is not on the list", _host("CONFORMANCE", "h")),
    ("host_empty", "an empty host", _host("string", "")),
    ("host_long", "a host over 256 bytes", _host("string", "h" * 257)),
    ("host_control", "a host with control characters", _host("string", "h\n1")),
    ("features_many", "over 64 features", lambda body: {
        **body, "features": [{"name": f"conformance-{at}"} for at in range(65)]}),
    ("features_no_array", "features that are no array", _set("features", {})),
    ("name_none", "a feature without a name", _feature(name=None)),
    ("name_empty", "an empty feature name", _feature(name="")),
    ("name_long", "a feature name over 128 characters", _feature(name="n" * 129)),
    ("name_sign", "a feature name with another sign", _feature(name="conformance*")),
    ("version_words", "a version that is not dotted digits", _feature(version="1.x")),
    ("version_long", "a version over 32 bytes", _feature(version="1." * 16 + "1")),
    ("count_text", 'a count of "1"', _feature(count="1")),
    ("count_fraction", "a count of 1.0", _feature(count=1.0)),
    ("count_flag", "a count of true", _feature(count=True)),
    ("count_large", "a count over 10^12", _feature(count=10**12 + 1)),
    ("count_sum", "counts over 10^12 in all", _counts(10**12, 1)),
    ("count_negative", "a negative count without incremental", _counts(-1)),
    ("signs", "positive and negative counts (E18)", lambda body: {
        **body, "incremental": True, "features": [
            {**body["features"][0], "count": 1}, {"name": "conformance-other", "count": -1}]}),
    ("versions", "several versions of a name with negative counts",
     _counts(-1, -1, incremental=True, apart=True)),
    ("incremental", 'incremental "yes"', _set("incremental", "yes")),
    ("partial", "partial 1", _set("partial", 1)),
    ("borrow_letter", "a borrow-interval of 1y", _set("borrow-interval", "1y")),
    ("borrow_sign", "a borrow-interval of -1d", _set("borrow-interval", "-1d")),
    ("borrow_long", "a borrow-interval over 3660d", _set("borrow-interval", "3661d")),
    ("selectors_many", "over 64 selectors", _many("selectorsDictionary")),
    ("selectors_number", "a selector that is no string", _set("selectorsDictionary", {"k": 1})),
    ("selectors_long", "a selector over 256 bytes", _set("selectorsDictionary", {"k": "v" * 257})),
    ("vendor_many", "over 64 vendor entries", _many("vendorDictionary")),
    ("vendor_flag", "a vendor entry of true", _set("vendorDictionary", {"k": True})),
)  # fmt: skip


def _refuses(change: Change, site: Site) -> None:
    """Send a body that is wrong in one way; it must be a 400 that says what is wrong."""
    _needs_control(site)
    refused(400, site.post("/access_request", change(_right(site))))


def _right(site: Site) -> dict[str, Any]:
    """Make a body with nothing wrong in it."""
    return site.body(site.host(), Want(site.stranger, 1, "1.0"))


@lru_cache(1)  # once per run: a site lives as long as one, and there is one at a time
def _control(site: Site) -> Reply:
    return site.post("/access_request", _right(site))


def _needs_control(site: Site) -> None:
    """Raise NotTried unless the request with nothing wrong in it is taken."""
    _take(_control(site), "a request with nothing wrong in it")


def _take(reply: Reply, what: str) -> None:
    if reply.status != 200:
        raise NotTried(f"{what} is refused too: HTTP {reply.status}")


for _id, _title, _change in ROWS:
    SECTION.add(
        _id, f"{_title} is 400", "SEMANTICS 2, cmapi Q3", Mark.SILENT, partial(_refuses, _change)
    )


@SECTION.check("an idempotency id is 1 to 255 visible ASCII, or 400", "SEMANTICS 9", Mark.OURS)
def ids(site: Site) -> None:
    _needs_control(site)
    body = _right(site)
    longest = site.host().ljust(ID_CHARS_MAX, "c")
    for good in (
        site.post("/access_request", body, Idempotency_Key=longest[::-1]),
        site.post("/access_request", {**body, "correlationId": longest}),
    ):
        _take(good, f"an id of {ID_CHARS_MAX} characters")
    replies = [
        site.post("/access_request", body, Idempotency_Key="k" * (ID_CHARS_MAX + 1)),
        *(
            site.post("/access_request", {**body, "correlationId": text})
            for text in ("", "c d", "c" * (ID_CHARS_MAX + 1))
        ),
    ]
    if all(reply.status == 200 for reply in replies):
        raise NotOffered("ids are not looked at")
    for reply in replies:
        refused(400, reply)
