"""Checks of the batch, which is ours: many access requests in one call, each by itself."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from itertools import zip_longest
from typing import Any, Final

import msgspec

from gateway.cli.conformity.answers import demand, present
from gateway.cli.conformity.checks import Differs, Mark, NotOffered, Section, Takes, same
from gateway.cli.conformity.refusals import refused
from gateway.cli.conformity.shapes import ACCESS, ERROR, FLAG, TEXT_OR_NULL, WHOLE, Members, fit
from gateway.cli.conformity.site import JOSE, Site, Want
from gateway.cli.conformity.wares import Ware
from gateway.cli.conformity.wire import Reply

SECTION: Final = Section(
    "batch", "Batch", "many requests in one call, an answer a line, each line idempotent"
)
SOURCE: Final = "INTERFACE 4"
PATH: Final = "/access_requests"
NDJSON: Final = "application/x-ndjson"
LINE: Final = Members(
    {"correlationId": TEXT_OR_NULL, "status": WHOLE, "replayed": FLAG, "response": Members({})}
)


@SECTION.check("lines are answered in order, as they would be alone", SOURCE, Mark.OURS, Takes.ANY)
def in_order(site: Site, ware: Ware) -> None:
    bodies = [_line(site, Want(name)) for name in (ware.name, site.stranger, ware.name)]
    found = _sent(site, bodies)
    same([body["correlationId"] for body in bodies], [each["correlationId"] for each in found])
    same([(200, False)] * 3, [(each["status"], each["replayed"]) for each in found])
    for each in found:
        fit(each["response"], ACCESS)
    denied = [bool(each["response"]["statusList"]) for each in found]
    same([False, True, False], denied)


@SECTION.check("each line is idempotent by its correlationId", SOURCE, Mark.OURS, Takes.ANY)
def idempotent(site: Site, ware: Ware) -> None:
    bodies = [_line(site, Want(name)) for name in (ware.name, site.stranger)]
    first, again = _sent(site, bodies), _sent(site, bodies)
    same([True, True], [each["replayed"] for each in again])
    same([each["response"] for each in first], [each["response"] for each in again])


@SECTION.check("a line counts once, in a batch and alone", SOURCE, Mark.OURS, Takes.ANY)
def counted_once(site: Site, ware: Ware) -> None:
    before = site.left(ware.name)
    body = _line(site, Want(ware.name))
    _sent(site, [body])
    same("true", demand(site.access(body)).headers.get("idempotency-replayed"))
    same(before - 1 if isinstance(before, int) else before, site.left(ware.name))


@SECTION.check("a bad line answers for itself", SOURCE, Mark.OURS, Takes.ANY)
def bad_line(site: Site, ware: Ware) -> None:
    good = _line(site, Want(ware.name))
    nameless = {**good, "correlationId": None, "features": []}
    wrong = _line(site, Want(site.stranger)) | {"incremental": "yes"}
    repeated = {**good, "features": []}
    found = _sent(site, [nameless, wrong, good, repeated])
    same([400, 400, 200, 400], [each["status"] for each in found])
    for each in (found[0], found[1], found[3]):
        fit(each["response"], ERROR)


@SECTION.check("a batch may be a signed payload", SOURCE, Mark.OURS, Takes.ANY)
def signed(site: Site, ware: Ware) -> None:
    bodies = [_line(site, Want(ware.name))]
    content = site.signed({"requests": bodies}, jti=secrets.token_hex(8))
    same([200], [each["status"] for each in _sent(site, bodies, jose=content)])


@SECTION.check("lines that are all bad change nothing and are 400 each", SOURCE, Mark.OURS)
def all_bad(site: Site) -> None:
    found = _read(_post(site, b'{"correlationId": "a"}\n[]\n'))
    same([400, 400], [each["status"] for each in found])
    same(["a", None], [each["correlationId"] for each in found])


@SECTION.check("over 1,000 lines are 413, and none is applied", SOURCE, Mark.OURS)
def too_many(site: Site) -> None:
    refused(413, present(_post(site, b"[]\n" * 1_001)))


@SECTION.check("a batch without a token is the one 401", "SEMANTICS 10", Mark.OURS)
def no_token(site: Site) -> None:
    reply = present(site.send("POST", PATH, b"{}\n", media_type=NDJSON))
    refused(401, reply)


def _line(site: Site, want: Want) -> dict[str, Any]:
    name = f"conformance-{secrets.token_hex(8)}"
    return site.body(site.host(), want, incremental=True, correlationId=name)


def _sent(
    site: Site, bodies: list[Mapping[str, Any]] | list[dict[str, Any]], jose: bytes | None = None
) -> list[dict[str, Any]]:
    """Send a batch and take down what it took; `jose` is sent in its place, without a token."""
    content = b"".join(msgspec.json.encode(body) + b"\n" for body in bodies)
    with site.lending(bodies) as taken:
        if jose is None:
            reply = _post(site, content)
        else:
            reply = site.send("POST", PATH, jose, media_type=JOSE)
        try:
            found = _read(reply)
        except (Differs, NotOffered):
            for body in bodies:
                taken(body, reply.status, None)
            raise
        for body, each in zip_longest(bodies, found[: len(bodies)]):
            if each is None:
                taken(body, reply.status, None)
            elif not each["replayed"]:
                taken(body, each["status"], each["response"])
    same(len(bodies), len(found))
    return found


def _post(site: Site, content: bytes) -> Reply:
    return site.send("POST", PATH, content, token=site.token(), media_type=NDJSON)


def _read(reply: Reply) -> list[dict[str, Any]]:
    if demand(reply).media_type != NDJSON:
        raise NotOffered(f"answers are {reply.media_type or 'of no type'}, not {NDJSON}")
    try:
        found = msgspec.json.Decoder(dict[str, Any]).decode_lines(reply.content)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise Differs("a JSON object a line", reply.words) from None
    for each in found:
        fit(each, LINE)
    return found
