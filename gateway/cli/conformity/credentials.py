"""Checks of who may ask: one 401 for whatever does not verify, 403 for a token without the role.

Each is a preview of nothing, so that a server which lets somebody in changes nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from gateway.cli.conformity.answers import Answer, demand
from gateway.cli.conformity.checks import Mark, NotOffered, NotTried, Section, same
from gateway.cli.conformity.refusals import refused
from gateway.cli.conformity.site import JOSE, TOKEN_TTL_S, Site, host_id
from gateway.cli.conformity.wire import Reply
from gateway.cli.request import DEFAULT_INSTANCE, find_target
from gateway.core.jws import b64url_encode, sign
from gateway.core.keys import generate, public_der, public_pem
from gateway.core.tokens import ROLE_CAPABILITY, mint_token, sign_payload

SECTION: Final = Section(
    "credentials", "Credentials", "tokens and signed payloads; one and the same 401, and 403"
)
ENDPOINTS: Final = ("/access_request", "/signed_access_request", "/preview_request")
LONG_AGO_S: Final = 86_400
SOURCE: Final = "SEMANTICS 10 and 12, E22; cmapi 7.2"


@SECTION.check("a token of the key with ROLE_CAPABILITY is let in", "cmapi 7.2", Mark.STATED)
def let_in(site: Site) -> None:
    demand(_preview(site, site.token()))


@SECTION.check("roles may be an array", "SEMANTICS 10", Mark.SILENT)
def roles_array(site: Site) -> None:
    demand(_preview(site, _token(site, roles=["ROLE_OTHER", ROLE_CAPABILITY])))


@SECTION.check("no token is 401 on each endpoint", SOURCE, Mark.CODE)
def no_token(site: Site) -> None:
    for path in ENDPOINTS:
        refused(401, site.send("POST", path, _body(site)))


@SECTION.check("what is no token is 401", SOURCE, Mark.CODE)
def no_jwt(site: Site) -> None:
    for text in ("x", "a.b.c", site.token() + "x"):
        refused(401, _preview(site, text))


@SECTION.check("a token of a foreign key is 401", SOURCE, Mark.STATED)
def foreign_key(site: Site) -> None:
    stranger = generate("RS256")
    forged = mint_token(stranger, sub="conformance", now_s=time.time(), ttl_s=TOKEN_TTL_S)
    refused(401, _preview(site, forged))


@SECTION.check("an unknown instance is 401", SOURCE, Mark.SILENT)
def unknown_instance(site: Site) -> None:
    refused(401, _elsewhere(site))


@SECTION.check("alg none is 401", SOURCE, Mark.INFERRED)
def alg_none(site: Site) -> None:
    refused(401, _preview(site, f"{_part({'alg': 'none', 'typ': 'JWT'})}.{_part(_claims())}."))


@SECTION.check("HS256 with the public key as secret is 401", "SEMANTICS 10", Mark.INFERRED)
def alg_confused(site: Site) -> None:
    public = site.private.public_key()
    text = f"{_part({'alg': 'HS256', 'typ': 'JWT'})}.{_part(_claims())}"
    for secret in (public_pem(public), public_der(public)):
        mac = hmac.new(secret, text.encode(), hashlib.sha256).digest()
        refused(401, _preview(site, f"{text}.{b64url_encode(mac)}"))


@SECTION.check("an expired token is 401", SOURCE, Mark.CODE)
def expired(site: Site) -> None:
    refused(401, _preview(site, _token(site, exp=int(time.time()) - LONG_AGO_S)))


@SECTION.check("a token that is not valid yet is 401", "SEMANTICS 10", Mark.INFERRED)
def not_yet(site: Site) -> None:
    refused(401, _preview(site, _token(site, nbf=int(time.time()) + LONG_AGO_S)))


@SECTION.check(
    "a token without exp is 401 unless the instance lets it be",
    "SEMANTICS 10, cmapi Q16",
    Mark.SILENT,
)
def without_exp(site: Site) -> None:
    reply = _preview(site, _token(site, exp=None))
    if reply.status == 200:
        raise NotOffered("tokens without exp are let in, as with require_exp = false")
    refused(401, reply)


@SECTION.check("a token without the role is 403", "cmapi Q3, SEMANTICS 10", Mark.SILENT)
def without_role(site: Site) -> None:
    for roles in ("ROLE_READ", ""):
        refused(403, _preview(site, _token(site, roles=roles)))


@SECTION.check("every 401 has the same body", "SEMANTICS 10", Mark.SILENT)
def one_body(site: Site) -> None:
    stranger = generate("RS256")
    forged = mint_token(stranger, sub="conformance", now_s=time.time(), ttl_s=TOKEN_TTL_S)
    replies = (
        site.send("POST", "/preview_request", _body(site)),
        _preview(site, forged),
        _preview(site, _token(site, exp=int(time.time()) - LONG_AGO_S)),
        _elsewhere(site),
    )
    first = refused(401, replies[0]).content.decode()
    for reply in replies[1:]:
        same(first, refused(401, reply).content.decode())


@SECTION.check("~ is the default instance", "cmapi 2, Q22", Mark.STATED, optional=True)
def default_instance(site: Site) -> None:
    url = f"{find_target(site.target.root, DEFAULT_INSTANCE).base}/preview_request"
    reply = site.wire.send("POST", url, _headers(site), _body(site))
    if reply.status == 401:
        raise NotTried("~ is another instance, or none")
    Answer(reply)


@SECTION.check("a request may be a signed payload", "SEMANTICS 10", Mark.OURS)
def signed(site: Site) -> None:
    Answer(_signed(site, site.signed(_members(site))))


@SECTION.check(
    "a signed payload of another instance, too old, of now but ahead, or forged is 401",
    "SEMANTICS 10",
    Mark.OURS,
)
def signed_wrongly(site: Site) -> None:
    members = _members(site)
    Answer(_signed(site, site.signed(members)))
    now_s = int(time.time())
    forged = sign_payload(
        generate("RS256"), site.kid, {**members, "iat": now_s, "aud": site.instance}
    )
    for content in (
        site.signed(members, aud="conformance-elsewhere"),
        site.signed(members, iat=now_s - LONG_AGO_S),
        site.signed(members, iat=now_s + LONG_AGO_S),
        forged,
        b"a.b.c",
    ):
        refused(401, site.send("POST", "/preview_request", content, media_type=JOSE))


@SECTION.check("a signed access request without jti is 401", "SEMANTICS 10", Mark.OURS)
def signed_without_id(site: Site) -> None:
    members = _members(site)
    Answer(_signed(site, site.signed(members)))
    content = site.signed({**members, "incremental": True})
    refused(401, site.send("POST", "/access_request", content, media_type=JOSE))


def _signed(site: Site, content: bytes) -> Reply:
    """Preview by a signed payload. Raises NotOffered when the server wants none."""
    reply = site.send("POST", "/preview_request", content, media_type=JOSE)
    if reply.status in (400, 401, 415):
        raise NotOffered(f"signed payloads are answered with HTTP {reply.status}")
    return reply


def _members(site: Site) -> dict[str, Any]:
    return {"hostId": host_id(site.host()), "features": []}


def _body(site: Site) -> bytes:
    """Make a request that changes nothing on whichever endpoint, and asks for nothing."""
    return msgspec.json.encode(_members(site) | {"incremental": True})


def _preview(site: Site, token: str) -> Reply:
    return site.send("POST", "/preview_request", _body(site), token=token)


def _elsewhere(site: Site) -> Reply:
    base = find_target(site.target.root, f"CONFORMANCE{secrets.token_hex(6).upper()}").base
    return site.wire.send("POST", f"{base}/preview_request", _headers(site), _body(site))


def _headers(site: Site) -> Mapping[str, str]:
    return {"Authorization": f"Bearer {site.token()}", "Content-Type": "application/json"}


def _claims(**over: Any) -> dict[str, Any]:
    now_s = int(time.time())
    claims = {"sub": "conformance", "roles": ROLE_CAPABILITY, "iat": now_s}
    return claims | {"exp": now_s + TOKEN_TTL_S} | over


def _token(site: Site, **over: Any) -> str:
    """Mint a token with other claims; one that is None is left out."""
    claims = {name: value for name, value in _claims(**over).items() if value is not None}
    return sign({"alg": "RS256", "typ": "JWT"}, msgspec.json.encode(claims), site.private).decode()


def _part(members: Mapping[str, Any]) -> str:
    return b64url_encode(msgspec.json.encode(members))
