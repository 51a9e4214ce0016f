"""Checks of signed answers, in our format: the public record has none."""

from __future__ import annotations

import secrets
import time
from typing import Any, Final

import msgspec

from gateway.cli.answers import AnswerRefused, check_answer
from gateway.cli.conformity.answers import Answer, demand
from gateway.cli.conformity.checks import (
    Differs,
    Mark,
    NotOffered,
    Section,
    Takes,
    hold,
    same,
)
from gateway.cli.conformity.refusals import refused
from gateway.cli.conformity.shapes import ACCESS, NAME, Array, Members, fit
from gateway.cli.conformity.site import JOSE, Site, Want
from gateway.cli.conformity.wares import Ware
from gateway.cli.conformity.wire import Reply
from gateway.cli.request import DEFAULT_INSTANCE

SECTION: Final = Section(
    "signing", "Signed answers", "JWS, its key set, what a client checks of it; errors unsigned"
)
SOURCE: Final = "cmapi 6, Q1"
PATH: Final = "/signed_access_request"
KEY_SET: Final = Members({"keys": Array(Members({"kty": NAME, "kid": NAME, "alg": NAME}))})


@SECTION.check("the server publishes its keys, to anybody", SOURCE, Mark.OURS)
def key_set(site: Site) -> None:
    body = _jwks(site)
    fit(body, KEY_SET)
    hold(body["keys"], "at least one key", body)


@SECTION.check("the key set holds no private member", "RFC 7517", Mark.OURS)
def key_set_public(site: Site) -> None:
    private = {"d", "p", "q", "dp", "dq", "qi", "k"}
    found = [sorted(private & key.keys()) for key in _jwks(site)["keys"]]
    hold(not any(found), "public members only", found)


@SECTION.check(
    "an answer is signed with a published key, for this request", SOURCE, Mark.OURS, Takes.ANY
)
def verified(site: Site, ware: Ware) -> None:
    key = secrets.token_hex(8)
    payload = _read(site, _ask(site, Want(ware.name), key=key), key)
    fit(payload, ACCESS)
    same(1, _count(payload, ware))


@SECTION.check("a signed request gets the same, its jti as requestId", SOURCE, Mark.OURS, Takes.ANY)
def signed_request(site: Site, ware: Ware) -> None:
    key = secrets.token_hex(8)
    body = site.body(site.host(), Want(ware.name), incremental=True)
    reply = site.access(body, path=PATH, jose=site.signed(body, jti=key))
    if reply.status in (400, 401, 415):
        raise NotOffered(f"signed payloads are answered with HTTP {reply.status}")
    same(1, _count(_read(site, reply, key), ware))


@SECTION.check(
    "without an id requestId is the Gateway-Request-Id", "SEMANTICS 8", Mark.OURS, Takes.ANY
)
def own_id(site: Site, ware: Ware) -> None:
    reply = _ask(site, Want(ware.name, 0))
    same(reply.headers.get("gateway-request-id"), _read(site, reply, None).get("requestId"))


@SECTION.check("a denial is signed likewise", SOURCE, Mark.OURS, Takes.ANY)
def denial(site: Site, _ware: Ware) -> None:
    payload = _read(site, _ask(site, Want(site.stranger)), None)
    same([site.stranger], [each.get("name") for each in payload.get("statusList", [])])


@SECTION.check("a repeat has the same payload but for iat", "SEMANTICS 9", Mark.OURS, Takes.ANY)
def repeated(site: Site, ware: Ware) -> None:
    key = secrets.token_hex(8)
    body = site.body(site.host(), Want(ware.name), incremental=True)
    found = [_read(site, site.access(body, path=PATH, key=key), key) for _ in range(2)]
    same(found[0] | {"iat": 0}, found[1] | {"iat": 0})


@SECTION.check("both access endpoints are one meaning", "SEMANTICS 9", Mark.OURS, Takes.ANY)
def one_meaning(site: Site, ware: Ware) -> None:
    key = secrets.token_hex(8)
    body = site.body(site.host(), Want(ware.name), incremental=True)
    signed = _read(site, site.access(body, path=PATH, key=key), key)
    plain = Answer(site.access(body, key=key)).body
    same(plain, {name: signed.get(name) for name in plain})


@SECTION.check("an error is plain JSON, unsigned", SOURCE, Mark.OURS)
def errors_plain(site: Site) -> None:
    reply = site.post(PATH, {"features": []})
    same("application/json", refused(400, reply).media_type)


def _ask(site: Site, want: Want, *, key: str | None = None) -> Reply:
    return site.access(site.body(site.host(), want, incremental=True), path=PATH, key=key)


def _read(site: Site, reply: Reply, key: str | None) -> dict[str, Any]:
    """Give what a signed answer says, after every check that a client makes.

    Raises NotOffered for an answer in another format, Differs for one that must not be believed.
    """
    if demand(reply).media_type != JOSE:
        raise NotOffered(f"answers are {reply.media_type or 'of no type'}, not {JOSE}")
    expected: dict[str, Any] = {} if key is None else {"requestId": key}
    if site.instance != DEFAULT_INSTANCE:
        expected["instanceId"] = site.instance
    try:
        payload = check_answer(reply.content, _jwks(site), expected=expected, now_s=time.time())
    except AnswerRefused as error:
        raise Differs("a signed answer that a client can believe", error.message) from None
    return msgspec.json.decode(payload, type=dict[str, Any])


def _jwks(site: Site) -> dict[str, Any]:
    url = f"{site.target.root}/.well-known/jwks.json"
    body = demand(site.wire.send("GET", url, {"Accept": "application/json"})).json()
    fit(body, Members({"keys": Array(Members({}))}))
    return dict(body)


def _count(payload: dict[str, Any], ware: Ware) -> int:
    return sum(each["count"] for each in payload["features"] if each.get("name") == ware.name)
