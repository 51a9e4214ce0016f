"""The lines of an instance, and all about one of them.

Decided here: how a list is searched, sorted and paged, and what a line's page says of each part
that cannot be read now. Not decided here: what is left of a line (service/line_standings.py), what
its days and books come to (service/line_details.py), why a request was denied (service/explain.py).
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from starlette.routing import BaseRoute

from gateway.core.catalogue import is_shared
from gateway.core.errors import BadRequest, NotFound
from gateway.core.intervals import spell_duration
from gateway.core.model import Line, Model, Role
from gateway.protocols.cmapi_features import Page as HolderPage
from gateway.service.explain import Explain
from gateway.service.features import Features
from gateway.service.lately import Seen, said
from gateway.service.line_details import LineDays, LineDetails
from gateway.service.line_standings import ORDERS, State, found_by, fullest_first, together
from gateway.web.ui.charts import Series, columns, meter
from gateway.web.ui.code_words import words_of
from gateway.web.ui.doors import Doors
from gateway.web.ui.paging import PAGE_MAX, page_of
from gateway.web.ui.visits import Reply, Shown, Visit

REQUEST_ID_CHARS_MAX: Final = 255
FAMILY_SHOWN_MAX: Final = 100  # lines of one feature or licence

T = TypeVar("T")


def routes(
    doors: Doors, features: Features, details: LineDetails, explain: Explain, *, explains: bool
) -> list[BaseRoute]:
    """Give the routes; `explains`: requests are kept to be explained."""
    licences = _Licences(features, details, explain, explains)
    return [
        doors.page("licences", "licences", licences.listed, Role.READ),
        doors.page("licences/line", "licence", licences.one, Role.READ),
        doors.page("licences/request", "why", licences.why, Role.READ),
    ]


@dataclass(frozen=True, slots=True)
class _Licences:
    features: Features
    details: LineDetails
    explain: Explain
    explains: bool

    async def listed(self, visit: Visit) -> Reply:
        query, order = visit.asked("q"), visit.asked("sort") or "full"
        if order not in ORDERS:
            raise BadRequest(f"sort must be one of {', '.join(ORDERS)}", "sort")
        retired = visit.asked("show") == "retired"
        at_ms, standings = await self.features.standings(visit.index)
        kept = [each for each in standings if (each.state is State.RETIRED) is retired]
        found = sorted(found_by(kept, query) if query else kept, key=ORDERS[order])
        data = {
            "q": query,
            "sort": order,
            "show": "retired" if retired else "",
            "page": page_of(found, visit.asked("page")),
            "near": sum(each.near for each in kept),
            "kept": len(kept),
            "retired": sum(each.state is State.RETIRED for each in standings),
            "at_ms": at_ms,
            "meter": meter,
        }
        return Shown("licences.html", data)

    async def one(self, visit: Visit) -> Reply:
        line_id = visit.asked("id")
        at_ms, standing, others = await self.details.standing(visit.index, line_id)
        line, page = standing.line, HolderPage(PAGE_MAX, _after(visit.asked("after")))
        days = await _attempt(self.details.days(visit.index, line))
        holders = await _attempt(self.details.holders(visit.index, standing, page, at_ms))
        data: dict[str, Any] = {
            "standing": standing,
            "line": line,
            "at_ms": at_ms,
            "family": sorted((standing, *others), key=fullest_first) if others else [],
            "in_all": together(
                each for each in (standing, *others) if each.line.feature == line.feature
            ),
            "family_max": FAMILY_SHOWN_MAX,
            "facts": _facts(line),
            "days": days,
            "charts": [] if days.found is None else _charts(line, days.found),
            "holders": holders,
            "later": bool(page.after),
            "comes_back": bool(line.model.reusable or line.undo_ms),
            "shared": is_shared(line),
            "accounts": Seen(),
            "words_of": words_of,
            "meter": meter,
            "explains": self.explains,
        }
        if line.model.metered:
            data["accounts"] = await _attempt(self.details.accounts(visit.index, line))
        return Shown("line.html", data)

    async def why(self, visit: Visit) -> Reply:
        """Tell why a request came to what it came to; of one that is not kept, say so."""
        asked = visit.asked("id", REQUEST_ID_CHARS_MAX)
        data: dict[str, Any] = {"asked": asked, "why": None, "problem": ""}
        data |= {"explains": self.explains, "words_of": words_of}
        status = 200
        if asked:
            try:
                data["why"] = await self.explain.explain(visit.catalogue, asked)
            except NotFound as error:
                data["problem"], status = error.message, 404
        return Shown("request.html", data, status)


async def _attempt(look: Awaitable[T]) -> Seen[T]:
    """Give what is found, or why nothing is: the rest of the page is shown."""
    try:
        return Seen(await look)
    except Exception as error:
        return Seen(None, 0, said(error))


def _after(asked: str) -> int:
    if asked and not (asked.isascii() and asked.isdecimal() and len(asked) <= 16):
        raise BadRequest("after is the number of a registration", "after")
    return int(asked or 0)


def _facts(line: Line) -> list[tuple[str, str]]:
    """List what else was provisioned of a line; what it has not is left out."""
    product, cloud = line.product, line.licensespring
    facts = [
        ("Product", " ".join(filter(None, (product.name, product.version)))),
        ("Activation id", product.activation_id or ""),
        ("Entitlement id", product.entitlement_id or ""),
        ("Vendor string", line.vendor_string),
        ("Serial number", line.serial_number),
        ("Issuer", line.issuer),
        ("Notice", line.notice),
        ("Selectors", ", ".join(f"{key} = {text}" for key, text in sorted(line.selectors.items()))),
        ("Undo interval", spell_duration(line.undo_ms) if line.undo_ms else ""),
        ("Borrow interval", "" if line.borrow_ms is None else spell_duration(line.borrow_ms)),
        ("Sold by the upstream", line.pulled),
    ]
    if line.model.reusable:
        facts.append(("Renewed after", f"{line.renew_percent} % of the borrow interval"))
    if cloud is not None:
        facts += [
            ("LicenseSpring product", cloud.product),
            ("LicenseSpring feature", cloud.feature),
            ("LicenseSpring licence id", "" if cloud.license_id is None else str(cloud.license_id)),
            ("Client overages", "allowed" if line.client_overages else "not allowed"),
            ("Negative consumption", "taken" if line.allow_negative_consumptions else "not taken"),
        ]
    return [(name, text) for name, text in facts if text]


def _charts(line: Line, days: LineDays) -> list[Any]:
    """Draw a line's days: what was used or held, and what was denied, if anything was."""
    labels = [row.label for row in days.rows]
    drawn = []
    if line.model is Model.CONCURRENT:
        bound = None if line.unlimited else ("capacity", line.capacity)
        peaks = Series("held at most", [row.peak or 0 for row in days.rows])
        drawn.append(columns("Seats held at most, by day", labels, [peaks], bound))
    else:
        units = Series("units used, net", [row.units for row in days.rows])
        drawn.append(columns("Units used, by day", labels, [units]))
    if any(row.denied for row in days.rows):
        denied = Series("denials", [row.denied for row in days.rows])
        drawn.append(columns("Denials, by day", labels, [denied]))
    return drawn
