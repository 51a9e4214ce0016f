"""How usage goes upstream: what waits, what is under way, what was refused; and that it goes now.

Decided here: what of it is on one page. Not decided here: what is told of an upstream
(service/forwarding.py), what was set aside and what a person decides about it (deciding.py).
"""

from __future__ import annotations

import re
from typing import Any, Final

from starlette.routing import BaseRoute

from gateway.core.decisions import Aside
from gateway.core.errors import BadRequest, NotFound
from gateway.core.model import Role
from gateway.service.aside_words import plain
from gateway.service.forwarding import CLOUD, Forwarding, Lane
from gateway.store.outbox_looks import ROWS_LOOKED_MAX
from gateway.web.ui.doors import Doors
from gateway.web.ui.paging import Page, page_of
from gateway.web.ui.visits import Moved, Reply, Shown, Visit

ASIDE_PAGE_MAX: Final = 20  # batches, each of up to 2,000 rows that are read for it
RECORD_PAGE_MAX: Final = 50

_PLACE: Final = re.compile(r"[0-9]{1,16}-[0-9]{1,16}")


def routes(doors: Doors, forwarding: Forwarding) -> list[BaseRoute]:
    """Give the routes of forwarding, but for what was set aside."""
    pages = _Pages(forwarding)
    return [
        doors.page("forwarding", "forwarding", pages.show, Role.READ),
        doors.page("forwarding/record", "record", pages.show_record, Role.READ),
        doors.deed("forwarding/sync", "sync_now", pages.sync, Role.ADMIN),
    ]


class _Pages:
    def __init__(self, forwarding: Forwarding) -> None:
        self._forwarding = forwarding

    async def show(self, visit: Visit) -> Reply:
        """Show all upstreams, or the one that is asked for, whose lists then are turned."""
        named = visit.asked("upstream")
        view = await self._forwarding.view(visit.index, visit.now_ms)
        lanes = [lane for lane in view.lanes if named in ("", lane.name)]
        if named and not lanes:
            raise NotFound("No such upstream is attached to this instance")
        shown = [
            {"place": place} | await self._lane(visit, lane, turned=bool(named))
            for place, lane in enumerate(lanes, 1)
        ]
        waiting = sum(lane.sums.open + lane.sums.sealed for lane in view.lanes if lane.sums)
        data = {
            "view": view,
            "lanes": shown,
            "named": named,
            "waiting_units": waiting,
            "oldest_ms": min((x.oldest_ms for x in view.lanes if x.oldest_ms), default=None),
            "blocked_rows": sum(lane.blocked_rows for lane in view.lanes),
            "parked": sum(lane.parked for lane in view.lanes),
            "dead": sum(lane.dead for lane in view.lanes),
            "unreadable": [lane.name for lane in view.lanes if lane.trouble],
            "may_decide": visit.may(Role.ADMIN),
            "looked_max": ROWS_LOOKED_MAX,
            "plain": plain,
        }
        return Shown("forwarding.html", data)

    async def _lane(self, visit: Visit, lane: Lane, *, turned: bool) -> dict[str, Any]:
        facts: Page[Aside] = page_of(
            lane.aside, visit.asked("aside") if turned else "", ASIDE_PAGE_MAX
        )
        waiting = await self._forwarding.waiting(visit.instance, lane, facts.rows)
        interval_ms = 0 if lane.upstream is None else lane.upstream.interval_ms
        cloud = lane.upstream is not None and lane.upstream.kind == CLOUD
        return {
            "lane": lane,
            "cloud": cloud,
            "span_ms": lane.schedule.span_ms(interval_ms) if cloud else interval_ms,
            "trouble": lane.trouble or waiting.trouble,
            "aside": waiting.batches,
            "aside_page": facts,
            "blocked": page_of(waiting.blocked, visit.asked("blocked") if turned else ""),
        }

    async def show_record(self, visit: Visit) -> Reply:
        """Show what people decided, the newest first."""
        before = visit.asked("before")
        if before and not _PLACE.fullmatch(before):
            raise BadRequest("That is no place in the record", "before")
        found = await self._forwarding.record(visit.instance, RECORD_PAGE_MAX + 1, before)
        some = found[:RECORD_PAGE_MAX]
        data = {
            "record": [decision for _, decision in some],
            "older": some[-1][0] if len(found) > len(some) else "",
            "before": before,
            "plain": plain,
        }
        return Shown("record.html", data)

    async def sync(self, visit: Visit) -> Reply:
        """Demand that what waits goes now."""
        upstream = visit.said("upstream")
        await self._forwarding.sync_now(visit.index, upstream, visit.who.user)
        told = f"{upstream}: asked for. Whoever forwards sees it within some 10 seconds."
        return Moved(visit.path("forwarding"), told)
