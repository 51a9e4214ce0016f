"""The first page of an instance: how is it doing.

Decided here: in which words the state of an upstream is told. Not decided here: what is looked at
and how dear that is (service/overview.py).
"""

from __future__ import annotations

from starlette.routing import BaseRoute

from gateway.core.model import Role
from gateway.service import overview as service
from gateway.web.ui.charts import meter
from gateway.web.ui.code_words import words_of
from gateway.web.ui.doors import Doors
from gateway.web.ui.visits import Reply, Shown, Visit


def routes(doors: Doors, overview: service.Overview, *, explains: bool) -> list[BaseRoute]:
    """Give the route of the overview; `explains`: requests are kept to be explained."""

    async def show(visit: Visit) -> Reply:
        view = await overview.look(visit.index)
        balance = view.balance.found
        data = {
            "view": view,
            "waiting": balance.waiting if balance else {},
            "outboxes": [each.outbox.found for each in view.upstreams if each.outbox.found],
            "line": visit.index.line,
            "words_of": words_of,
            "state_of": _state_of,
            "meter": meter,
            "explains": explains,
        }
        return Shown("overview.html", data)

    return [doors.page("", "overview", show, Role.READ)]


def _state_of(upstream: service.Upstream) -> tuple[str, str]:
    """Say how an upstream answers: a class for its looks, and words."""
    outbox = upstream.outbox.found
    if not upstream.kind:
        return "warn", "not configured on this gateway, which sends nothing to it"
    if upstream.stopped:
        return "bad", "lets this gateway not in: see its credential and address"
    if upstream.away:
        return "bad", "does not answer well; it is tried again"
    if outbox is not None and outbox.attempts > 1:
        return "warn", f"the batch under way was tried {outbox.attempts} times"
    if upstream.away is None:
        return "faint", "nothing is known yet: nothing was sent since the start"
    return "good", "no failure known"
