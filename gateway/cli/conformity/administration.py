"""Checks of administration: the log-in, keys, policies, health, dropping a client.

No key is uploaded or removed and no policy changed: what does that is only tried without the right
to. The one log-in that must fail is of a made-up name, so that nobody is locked out.
"""

from __future__ import annotations

import secrets
import time
from typing import Final

import msgspec

from gateway.cli.conformity.answers import demand, present, seconds
from gateway.cli.conformity.checks import Mark, Section, Takes, hold, same
from gateway.cli.conformity.clients import find_client
from gateway.cli.conformity.reading import read, read_short
from gateway.cli.conformity.refusals import refused, shut_out
from gateway.cli.conformity.sessions import claims, token_roles
from gateway.cli.conformity.shapes import (
    FLAG,
    MOMENT,
    NAME,
    TEXT,
    WHOLE,
    Members,
    Shape,
    fit,
)
from gateway.cli.conformity.site import PREFIX, Site, Want
from gateway.cli.conformity.wares import Ware
from gateway.core.model import Role

SECTION: Final = Section(
    "administration", "Administration", "log-in and its token, keys, policies, health, drop"
)
SESSION: Final = Members({"expires": MOMENT, "token": NAME})
_LLS: Final = Members(
    {
        **dict.fromkeys(
            (
                *("version", "buildDate", "buildVersion", "branch", "patch"),
                *("fneBuildVersion", "serverInstanceID"),
            ),
            TEXT,
        ),
        "database": Members({"connectionCheck": TEXT}),
    }
)
HEALTH: Final[Shape] = Members({"LLS": _LLS})
POLICIES: Final = Members(
    {
        "licensing.borrowInterval": NAME,
        "licensing.allowDuplicateClients": FLAG,
        "security.enabled": FLAG,
        "security.anonymous": FLAG,
    }
)


@SECTION.check("a good log-in gives a token and when it expires", "cmapi 3.3, 7.1", Mark.STATED)
def login(site: Site) -> None:
    # No body is shown here: a token is in it.
    reply = site.session.reply
    same(200, reply.status)
    body = reply.json()
    fit(body, SESSION)
    hold(seconds(body["expires"]) > time.time(), "a moment to come", body["expires"])


@SECTION.check("the token is a JWT for this user, with roles and a lapse", "cmapi 7.1", Mark.STATED)
def token_claims(site: Site) -> None:
    login = site.session.logged_in()
    told = claims(site.session.token) or {}
    same(login.user, told.get("sub"))
    hold(token_roles(told), "roles", sorted(told))
    hold(isinstance(told.get("roles"), str), "roles as one comma-separated string", sorted(told))
    whole = all(type(told.get(name)) is int for name in ("iat", "exp"))
    hold(whole and told["iat"] < told["exp"], "iat before exp, in seconds", sorted(told))


@SECTION.check("a bad log-in is 401 with the error body", "cmapi 5.5, 7.1", Mark.STATED)
def bad_login(site: Site) -> None:
    login = {"user": f"{PREFIX}{secrets.token_hex(6)}", "password": secrets.token_urlsafe(12)}
    refused(401, site.send("POST", "/authorize", msgspec.json.encode(login)))


@SECTION.check("a log-in without a password is 400", "SEMANTICS 10", Mark.SILENT)
def no_login(site: Site) -> None:
    refused(400, site.send("POST", "/authorize", b'{"user": "conformance"}'))


@SECTION.check(
    "keys are uploaded by nobody without an administrator's token", "cmapi 3.2", Mark.STATED
)
def keys(site: Site) -> None:
    # An empty body is no key: a server that let this in would have nothing to keep.
    for token in (None, site.token()):
        shut_out(
            site.send(
                "POST", "/rest_licensing_keys", token=token, media_type="application/octet-stream"
            )
        )


@SECTION.check("health is told to anybody", "cmapi 3.3, 3.4", Mark.CODE)
def health(site: Site) -> None:
    fit(demand(site.send("GET", "/health")).json(), HEALTH)


@SECTION.check("health has the short local form", "cmapi 2, Q23", Mark.OURS)
def health_short(site: Site) -> None:
    fit(read_short(site, "/health").json(), HEALTH)


@SECTION.check("policies are told", "cmapi 3.3, 8.7", Mark.OURS, role=Role.READ)
def policies(site: Site) -> None:
    body = read(site, "/policies")
    fit(body, POLICIES)


@SECTION.check(
    "policies are changed by nobody without an administrator's token", "cmapi 8.3", Mark.OURS
)
def policies_kept(site: Site) -> None:
    for token in (None, site.token()):
        # An empty object names no policy: a server that let this in would change none.
        shut_out(present(site.send("PATCH", "/policies", b"{}", token=token)))


@SECTION.check(
    "dropping a client returns what it held",
    "cmapi 8.4",
    Mark.OURS,
    Takes.REUSABLE,
    role=Role.DROPCLIENT,
)
def drop(site: Site, ware: Ware) -> None:
    before, host = site.left(ware.name), site.host()
    site.ask(host, Want(ware.name, 2))
    client = find_client(site, "/clients", host)
    fit(client, Members({"id": WHOLE}))
    path = f"/clients/{client['id']}"
    token = site.session.token_for(Role.DROPCLIENT)
    reply = present(site.send("DELETE", path, token=token))
    hold(reply.status in (200, 204), "HTTP 200 or 204", reply.words)
    same(0, site.read_back(host).count(ware.name))
    same(before, site.left(ware.name))


@SECTION.check("nobody drops a client without an administrator's token", "cmapi 8.4", Mark.OURS)
def drop_refused(site: Site) -> None:
    for token in (None, site.token()):
        shut_out(present(site.send("DELETE", "/clients/0", token=token)))
