"""The consumption list: what each line has counted, and what of it the upstreams lack.

Decided here: what is searched, and what is shown of which upstream. Not decided here: what is
counted and in which order it is listed (service/consumption.py).
"""

from __future__ import annotations

from starlette.routing import BaseRoute

from gateway.core.model import Role
from gateway.service.aside_words import plain
from gateway.service.consumption import Consumed, Consumption
from gateway.web.ui.doors import Doors
from gateway.web.ui.paging import page_of
from gateway.web.ui.visits import Reply, Shown, Visit


def routes(doors: Doors, consumption: Consumption) -> list[BaseRoute]:
    """Give the route of the consumption list."""

    async def show(visit: Visit) -> Reply:
        query, waiting = visit.asked("q").casefold(), visit.asked("waiting") == "1"
        listed = await consumption.list(visit.instance)
        found = [
            each
            for each in listed.entries
            if (not waiting or each.unsynced) and (not query or query in _text_of(each))
        ]
        unsynced = [each for each in listed.entries if each.unsynced and each.upstream]
        data = {
            "q": visit.asked("q"),
            "waiting": waiting,
            "page": page_of(found, visit.asked("page")),
            "listed": len(listed.entries),
            "unsynced_lines": len({each.line.id for each in unsynced}),
            "unsynced_units": sum(each.unsynced for each in unsynced),
            "attached": visit.catalogue.upstreams,
            "unheard": listed.unheard,
            "now_ms": listed.now_ms,
            "plain": plain,
        }
        return Shown("consumption.html", data)

    return [doors.page("consumption", "consumption", show, Role.READ)]


def _text_of(entry: Consumed) -> str:
    line = entry.line
    return "\n".join((line.id, line.feature, line.product.name or "", entry.upstream)).casefold()
