"""Checks of idempotency ids, which are ours: the same id counts once and answers the same."""

from __future__ import annotations

import secrets
from typing import Final

from gateway.cli.conformity.answers import REPLAYED, TRANSACTION_TIME, demand
from gateway.cli.conformity.checks import Differs, Mark, NotOffered, Section, Takes, same
from gateway.cli.conformity.refusals import refused
from gateway.cli.conformity.site import PREFIX, Site, Want
from gateway.cli.conformity.wares import Ware
from gateway.cli.conformity.wire import Reply

SECTION: Final = Section(
    "retries", "Retries", "the same id counts once and gets the same bytes; another meaning is 422"
)
FORGETS: Final = "a repeat is answered without Idempotency-Replayed: true"
SOURCE: Final = "SEMANTICS 9 and 12, E4, E5; cmapi Q8"


def _repeated(site: Site, reply: Reply) -> Reply:
    """Give an answer to a repeat back, which must say that it is one.

    Raises NotOffered when the server remembers no ids at all, Differs when it does others.
    """
    demand(reply)
    if reply.headers.get(REPLAYED) == "true":
        site.remembers_ids = True
        return reply
    if site.remembers_ids:
        raise Differs("Idempotency-Replayed: true", "no such header")
    site.remembers_ids = False
    raise NotOffered(FORGETS)


@SECTION.check("the same Idempotency-Key gets the same bytes", SOURCE, Mark.OURS, Takes.ANY)
def same_bytes(site: Site, ware: Ware) -> None:
    key, body = _new_key(site), site.body(site.host(), Want(ware.name), incremental=True)
    first = demand(site.access(body, key=key))
    again = _repeated(site, site.access(body, key=key))
    same(first.content.decode(), again.content.decode())
    same(first.headers.get(TRANSACTION_TIME), again.headers.get(TRANSACTION_TIME))
    same(None, first.headers.get(REPLAYED))


@SECTION.check("and is counted once", SOURCE, Mark.OURS, Takes.ANY)
def counted_once(site: Site, ware: Ware) -> None:
    before = site.left(ware.name)
    key, host = _new_key(site), site.host()
    body = site.body(host, Want(ware.name), incremental=True)
    site.access(body, key=key)
    for _ in range(2):
        _repeated(site, site.access(body, key=key))
    same(before - 1 if isinstance(before, int) else before, site.left(ware.name))
    if not ware.consumed:
        same(1, site.read_back(host).count(ware.name))


@SECTION.check("correlationId in the body is an id as well", SOURCE, Mark.OURS, Takes.ANY)
def correlation_id(site: Site, ware: Ware) -> None:
    body = site.body(site.host(), Want(ware.name), incremental=True, correlationId=_new_key(site))
    first = demand(site.access(body))
    same(first.content.decode(), _repeated(site, site.access(body)).content.decode())


@SECTION.check("the header comes before correlationId", SOURCE, Mark.OURS, Takes.ANY)
def header_first(site: Site, ware: Ware) -> None:
    key, host = _new_key(site), site.host()
    for name in ("a", "b"):
        body = site.body(host, Want(ware.name), incremental=True, correlationId=f"{key}-{name}")
        reply = site.access(body, key=key)
    _repeated(site, reply)


@SECTION.check("the same meaning in another spelling is the same", SOURCE, Mark.OURS, Takes.ANY)
def other_spelling(site: Site, ware: Ware) -> None:
    key, host = _new_key(site), site.host()
    first = demand(site.access(site.body(host, Want(ware.name, 2), borrow="10m"), key=key))
    spelt = site.body(host, Want(ware.name), Want(ware.name), borrow="600")
    again = _repeated(site, site.access(spelt, key=key))
    same(first.content.decode(), again.content.decode())


@SECTION.check("a denial is remembered too", SOURCE, Mark.OURS, Takes.ANY)
def denial(site: Site, _ware: Ware) -> None:
    key, body = _new_key(site), site.body(site.host(), Want(site.stranger))
    first = demand(site.access(body, key=key))
    same(first.content.decode(), _repeated(site, site.access(body, key=key)).content.decode())


@SECTION.check(
    "the same id with another meaning is 422 and counts nothing", SOURCE, Mark.OURS, Takes.ANY
)
def other_meaning(site: Site, ware: Ware) -> None:
    key, host = _new_key(site), site.host()
    body = site.body(host, Want(ware.name), incremental=True)
    site.access(body, key=key)
    _repeated(site, site.access(body, key=key))
    before = site.left(ware.name)
    other = site.body(host, Want(ware.name, 2), incremental=True)
    refused(422, site.access(other, key=key))
    same(before, site.left(ware.name))


@SECTION.check("an error is not remembered: the id is still free", SOURCE, Mark.OURS, Takes.ANY)
def errors_forgotten(site: Site, ware: Ware) -> None:
    _ids_remembered(site)
    key, body = _new_key(site), site.body(site.host(), Want(ware.name), incremental=True)
    refused(400, site.post("/access_request", {"features": []}, Idempotency_Key=key))
    same(None, demand(site.access(body, key=key)).headers.get(REPLAYED))
    _repeated(site, site.access(body, key=key))


@SECTION.check("without an id each request counts", "SEMANTICS 9", Mark.INFERRED, Takes.ANY)
def without_id(site: Site, ware: Ware) -> None:
    before, host = site.left_counted(ware.name, least=2), site.host()
    for _ in range(2):
        site.ask(host, Want(ware.name), incremental=True)
    same(before - 2, site.left(ware.name))


def _ids_remembered(site: Site) -> None:
    """Raise NotOffered when ids are not remembered; a denial shows it, and takes nothing."""
    key, body = _new_key(site), site.body(site.host(), Want(site.stranger))
    site.access(body, key=key)
    _repeated(site, site.access(body, key=key))


def _new_key(site: Site) -> str:
    """Make up an id. Raises NotOffered, before anything is taken, when none is remembered."""
    if site.remembers_ids is False:
        raise NotOffered(FORGETS)
    return f"{PREFIX}{secrets.token_hex(8)}"
