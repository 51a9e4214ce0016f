"""A visit: who asks for a page with what; and the three kinds of answer a page can give.

Decided here: what every page function takes and gives. Not decided here: how somebody is let in and
how an answer becomes bytes (doors.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias
from urllib.parse import quote, urlencode

from gateway.core.catalogue import CatalogueIndex
from gateway.core.errors import BadRequest, Forbidden
from gateway.core.model import Catalogue, Role
from gateway.service.admin import Who
from gateway.web.streams import Pieces
from gateway.web.ui.forms import Form

BASE: Final = "/ui"
INSTANCES: Final = f"{BASE}/instances"


def base_of(instance: str) -> str:
    """Give the path that all pages of an instance begin with, without a slash at its end."""
    return f"{INSTANCES}/{quote(instance, safe='')}"


def address(path: str, /, **query: object) -> str:
    """Give a path with a query of those members that are neither None nor empty."""
    members = [(name, str(value)) for name, value in query.items() if value not in (None, "")]
    return f"{path}?{urlencode(members)}" if members else path


@dataclass(frozen=True, slots=True)
class Visit:
    """Somebody who was let in, and what was sent: a query, and with a deed a form.

    `now_ms` is this process's clock, for what is shown; nothing is decided by it.
    """

    who: Who
    query: Mapping[str, str]
    form: Form
    request_id: str
    now_ms: int

    @property
    def index(self) -> CatalogueIndex:
        return self.who.index

    @property
    def catalogue(self) -> Catalogue:
        return self.who.index.catalogue

    @property
    def instance(self) -> str:
        return self.who.instance

    def may(self, *roles: Role) -> bool:
        """Say whether any of some roles is held now."""
        return not self.who.roles.isdisjoint(roles)

    def need(self, *roles: Role) -> None:
        """Raise Forbidden unless any of some roles is held."""
        if not self.may(*roles):
            raise Forbidden(f"Role {roles[0]} is required", roles[0])

    def path(self, page: str = "", /, **query: object) -> str:
        """Give the address of a page of this instance, such as `licences`."""
        return address(f"{base_of(self.instance)}/{page}", **query)

    def asked(self, name: str, chars_max: int = 200) -> str:
        """Give a member of the query, without white space around it; empty when there is none.

        Raises BadRequest for one that is too long.
        """
        return _bounded(self.query.get(name, ""), name, chars_max)

    def said(self, name: str, chars_max: int = 200) -> str:
        """Give a member of the form, as `asked` does of the query."""
        return _bounded(self.form.text(name), name, chars_max)


def _bounded(text: str, name: str, chars_max: int) -> str:
    text = text.strip()
    if len(text) > chars_max:
        raise BadRequest(f"{name} has over {chars_max} characters", name)
    return text


@dataclass(frozen=True, slots=True)
class Shown:
    """A page: a template of templates/ and what it is filled with."""

    template: str
    data: Mapping[str, Any] = field(default_factory=dict)
    status: int = 200


@dataclass(frozen=True, slots=True)
class Moved:
    """A deed is done: look at `path`, which says `told` once. `ends`: the session is over."""

    path: str
    told: str = ""
    ends: bool = False


@dataclass(frozen=True, slots=True)
class Sent:
    """A file to keep."""

    body: bytes | Pieces
    media_type: str
    file: str


Reply: TypeAlias = Shown | Moved | Sent
