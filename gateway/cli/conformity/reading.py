"""Reads of a server's administration, and what says that it has none."""

from __future__ import annotations

from typing import Any, Final

from gateway.cli.conformity.answers import demand, present
from gateway.cli.conformity.site import Site
from gateway.cli.conformity.wire import Reply
from gateway.core.model import Role

SHORT: Final = "/api/1.0"  # the old form of a local server, in place of an instance's base


def read_reply(site: Site, path: str) -> Reply:
    """Read with the administrator's token. Raises Differs unless it is answered with 200."""
    return demand(site.send("GET", path, token=site.session.token_for(Role.READ)))


def read(site: Site, path: str) -> Any:
    """Give the JSON that is read with the administrator's token."""
    return read_reply(site, path).json()


def read_short(site: Site, path: str, token: str | None = None) -> Reply:
    """Read in the short local form."""
    headers = {"Accept": "*/*"} | ({} if token is None else {"Authorization": f"Bearer {token}"})
    return present(site.wire.send("GET", f"{site.target.root}{SHORT}{path}", headers))
