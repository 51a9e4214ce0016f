"""What was set aside, and a person's decision about it: looked at, chosen, confirmed, carried out.

Decided here: that a decision is confirmed on a page of its own which says in numbers what will
happen, and that only what was shown there is decided: when it has changed meanwhile, it is shown
anew. Not decided here: which decisions fit and what they come to (service/decisions.py), how one is
carried out and recorded (service/asides.py). Source: DESIGN 5.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from starlette.routing import BaseRoute

from gateway.core.decisions import Fate
from gateway.core.errors import InvalidInput, NotFound
from gateway.core.model import Role
from gateway.service.aside_words import body_text, by_hour, in_question, plain
from gateway.service.asides import Desk, Gone, Item
from gateway.service.decisions import (
    FATES,
    REASON_CHARS_MAX,
    SENTENCES,
    WHO_CHARS_MAX,
    Action,
    Known,
    check_text,
    judge,
    meanings,
)
from gateway.service.forwarding import HOUR_MS, Forwarding
from gateway.web.ui.doors import Doors
from gateway.web.ui.paging import page_of
from gateway.web.ui.rendering import units
from gateway.web.ui.visits import Moved, Reply, Shown, Visit

LINES_SHOWN_MAX: Final = 20
SAID_CHARS_MAX: Final = 4 * REASON_CHARS_MAX  # so much of a reason is shown again

NAMES: Final[Mapping[Action, str]] = {
    Action.RETRY: "Send again",
    Action.DISCARD: "Discard",
    Action.APPLIED: "It was applied",
    Action.NOT_APPLIED: "It was not applied",
}
_BECOMES: Final[Mapping[Fate, str]] = {
    Fate.OPEN: "wait to be sent again",
    Fate.FORWARDED: "count as forwarded",
    Fate.DEAD: "count as dead",
}


def routes(doors: Doors, forwarding: Forwarding) -> list[BaseRoute]:
    """Give the routes of what was set aside."""
    pages = _Pages(forwarding)
    return [
        doors.page("forwarding/aside", "aside", pages.show, Role.READ),
        doors.deed("forwarding/confirm", "aside_confirm", pages.confirm, Role.ADMIN),
        doors.deed("forwarding/decide", "aside_decide", pages.decide, Role.ADMIN),
    ]


class _Pages:
    def __init__(self, forwarding: Forwarding) -> None:
        self._forwarding = forwarding

    async def show(self, visit: Visit) -> Reply:
        """Show all that is known of one thing, and what can be decided about it."""
        item = await _find(self._desk(visit), visit.asked("address"))
        return Shown("aside.html", _shown(visit, item))

    async def confirm(self, visit: Visit) -> Reply:
        """Say in numbers what a decision comes to; nothing is changed."""
        item = await _find(self._desk(visit), visit.said("address"))
        try:
            action, why = _asked(visit, item)
        except InvalidInput as error:
            return _again(visit, item, error)
        return Shown("decide.html", _confirmed(item, action, why))

    async def decide(self, visit: Visit) -> Reply:
        """Carry out a decision that was confirmed, if it is still about what was shown."""
        desk = self._desk(visit)
        item = await _find(desk, visit.said("address"))
        try:
            action, why = _asked(visit, item)
        except InvalidInput as error:
            return _again(visit, item, error)
        if visit.said("seen") != _digest(item):
            changed = {**_confirmed(item, action, why), "changed": True}
            return Shown("decide.html", changed, status=409)
        try:
            await desk.decide(item, action, _signature(visit), why)
        except Gone as error:
            raise _not_there(error, item.address) from error
        told = (
            f"{NAMES[action]}: {_said(item, action)} ({plain(item.subject)}, {item.upstream})."
            " It is in the record."
        )
        return Moved(visit.path("forwarding"), told)

    def _desk(self, visit: Visit) -> Desk:
        return self._forwarding.desk_of(visit.instance)


async def _find(desk: Desk, address: str) -> Item:
    try:
        return await desk.find(address)
    except Gone as error:
        raise _not_there(error, address) from error
    except InvalidInput as error:
        raise NotFound(
            "That is no address of anything set aside; the page Forwarding lists what is"
        ) from error


def _not_there(error: Gone, address: str) -> NotFound:
    if error.decided:
        return NotFound(f"{address} is not set aside any more: {plain(error.decided)}")
    return NotFound(f"{address} is not set aside; the page Forwarding lists what is")


def _asked(visit: Visit, item: Item) -> tuple[Action, str]:
    """Read a decision and its reason. Raises InvalidInput for what does not fit or is not said."""
    said = visit.said("what")
    if not said:
        raise InvalidInput("Choose what is to happen")
    try:
        action = Action(said)
    except ValueError:
        raise InvalidInput("There is no such decision") from None
    judge(item.known, action)
    return action, check_text(visit.said("why", SAID_CHARS_MAX), "The reason", REASON_CHARS_MAX)


def _again(visit: Visit, item: Item, error: InvalidInput) -> Reply:
    """Show the form again with what was said, and what is wrong with it."""
    filled = {"what": visit.said("what"), "why": visit.said("why", SAID_CHARS_MAX)}
    data = _shown(visit, item) | filled | {"problem": error.message}
    return Shown("aside.html", data, status=400)


def _shown(visit: Visit, item: Item) -> dict[str, Any]:
    rows = sorted(item.rows, key=by_hour)
    return {
        "item": item,
        "units_in_all": sum(item.units.values()),
        "lines": sorted(item.units.items(), key=_largest)[:LINES_SHOWN_MAX],
        "page": page_of(rows, visit.asked("page")),
        "hour_ms": HOUR_MS,
        "body": plain(body_text(item) or "", keep="\n\t"),
        "sentence": SENTENCES[item.known],
        "in_question": in_question(item),
        "spooled": item.known is Known.HANDED_OVER,
        "choices": [
            (action.value, NAMES[action], said) for action, said in meanings(item.known).items()
        ],
        "may_decide": visit.may(Role.ADMIN),
        "reason_chars_max": REASON_CHARS_MAX,
        "what": "",
        "why": "",
        "problem": "",
        "plain": plain,
    }


def _confirmed(item: Item, action: Action, why: str) -> dict[str, Any]:
    return {
        "item": item,
        "what": action.value,
        "name": NAMES[action],
        "means": meanings(item.known)[action],
        "said": _said(item, action),
        "lines": sorted(item.units.items(), key=_largest)[:LINES_SHOWN_MAX],
        "why": why,
        "seen": _digest(item),
        "grave": action in (Action.DISCARD, Action.RETRY),
        "changed": False,
        "plain": plain,
    }


def _said(item: Item, action: Action) -> str:
    """Say in numbers what becomes of an item's units."""
    count, lines, rows = sum(item.units.values()), len(item.units), len(item.rows)
    becomes = _BECOMES[FATES[action]]
    if item.known is Known.DEAD and FATES[action] is Fate.DEAD:
        becomes = "stay dead, and the batch leaves the list"
    of = f"{units(lines)} {'line' if lines == 1 else 'lines'}"
    rows_of = f"{units(rows)} {'row' if rows == 1 else 'rows'}"
    return f"{units(count)} units of {of}, in {rows_of}, {becomes}"


def _digest(item: Item) -> str:
    """Give a short mark of what was shown: of a line that is refused, more may have come."""
    told = msgspec.json.encode((item.standing, sorted(item.rows)))
    return hashlib.sha256(told).hexdigest()[:16]


def _signature(visit: Visit) -> str:
    return f"{visit.who.user}@{visit.instance}"[:WHO_CHARS_MAX]


def _largest(entry: tuple[str, int]) -> tuple[int, str]:
    return -abs(entry[1]), entry[0]
