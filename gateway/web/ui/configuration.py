"""Configuration: what an instance is, and its policies, which are changed here.

Decided here: what is told of an instance on one page. Not decided here: which policies there are
(protocols/cmapi_server.py). Lines, keys and users have pages of their own.
"""

from __future__ import annotations

from typing import Final

import msgspec
from starlette.routing import BaseRoute

from gateway.core.errors import BadRequest
from gateway.core.intervals import spell_duration
from gateway.core.model import Role
from gateway.service.licensing_keys import ROLES as KEY_ROLES
from gateway.service.policies import InstancePolicies
from gateway.web.ui.doors import Doors
from gateway.web.ui.visits import Moved, Reply, Shown, Visit

LINES_MAX: Final = 50  # listed here; Licences has them all

_SPANS: Final = {
    "borrow_interval": "licensing.borrowInterval",
    "borrow_interval_max": "licensing.borrowIntervalMax",
}
_FLAGS: Final = {
    "require_signed_payload": "gateway.requireSignedPayload",
    "require_exp": "gateway.requireExp",
}


def routes(doors: Doors, policies: InstancePolicies) -> list[BaseRoute]:
    """Give the routes of an instance's configuration."""

    async def show(visit: Visit) -> Reply:
        return _shown(visit)

    async def change(visit: Visit) -> Reply:
        said: dict[str, str | bool] = {word: visit.said(name) for name, word in _SPANS.items()}
        said |= {word: visit.form.text(name) == "1" for name, word in _FLAGS.items()}
        try:
            await policies.change_as(visit.who, msgspec.json.encode(said))
        except BadRequest as error:
            return _shown(visit, error.message, {name: visit.said(name) for name in _SPANS})
        return Moved(visit.path("configuration"), "The policies are changed.")

    return [
        doors.page("configuration", "configuration", show, Role.READ),
        doors.deed("configuration", "policies", change, Role.ADMIN),
    ]


def _shown(visit: Visit, problem: str = "", typed: dict[str, str] | None = None) -> Shown:
    catalogue = visit.catalogue
    lines = [line for line in catalogue.lines if not line.retired]
    retired = len(catalogue.lines) - len(lines)
    data = {
        "catalogue": catalogue,
        "lines": lines[:LINES_MAX],
        "total": len(lines),
        "retired": retired,
        "spans": typed
        or {
            "borrow_interval": spell_duration(catalogue.borrow_ms),
            "borrow_interval_max": spell_duration(catalogue.borrow_max_ms),
        },
        "problem": problem,
        "may_change": visit.may(Role.ADMIN),
        "may_keys": visit.may(*KEY_ROLES),
    }
    return Shown("configuration.html", data, 400 if problem else 200)
