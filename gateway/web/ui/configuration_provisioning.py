"""Provisioning at a page: a file or a text, what it would change, and then the change.

Decided here: that whoever wants to change a little begins with what is in force, that nothing typed
is lost on the way, and that what waits for an upstream is given up by a tick of its own, with a
reason. Not decided here: what a text may say
(service/provisioning.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from starlette.routing import BaseRoute

from gateway.core.errors import BadRequest, InvalidInput
from gateway.core.model import Role
from gateway.core.provisioning_text import EXAMPLE
from gateway.service.decisions import REASON_CHARS_MAX, check_text
from gateway.service.provisioning import Change, Overtaken, Provisioning, waiting_units
from gateway.web.ui.doors import Doors
from gateway.web.ui.visits import Moved, Reply, Shown, Visit

PAGE: Final = "configuration/provisioning"


def routes(doors: Doors, provisioning: Provisioning) -> list[BaseRoute]:
    """Give the routes of provisioning."""
    pages = _Pages(provisioning)
    return [
        doors.page(PAGE, "provisioning", pages.form, Role.ADMIN),
        doors.deed(PAGE, "provisioning_preview", pages.preview, Role.ADMIN),
        doors.deed(f"{PAGE}/apply", "provisioning_apply", pages.apply, Role.ADMIN),
    ]


class _Pages:
    def __init__(self, provisioning: Provisioning) -> None:
        self._provisioning = provisioning

    async def form(self, visit: Visit) -> Reply:
        text = self._provisioning.text(visit.who)
        return _form(text + EXAMPLE, now=bool(text))

    async def preview(self, visit: Visit) -> Reply:
        chosen = visit.form.files.get("file")
        try:
            text = visit.form.text("text") if chosen is None else chosen.decode()
        except UnicodeDecodeError:
            return _form(visit.form.text("text"), ["The file is not UTF-8; nothing was changed"])
        return await self._shown(visit, text)

    async def apply(self, visit: Visit) -> Reply:
        text, discarded = visit.form.text("text"), list(visit.form.all("discard"))
        why = visit.form.text("why").strip()
        version = visit.said("version")
        if not version.isascii() or not version.isdecimal() or len(version) > 15:
            raise BadRequest("version must be a number", "version")
        try:
            if discarded:
                check_text(why, "The reason", REASON_CHARS_MAX)
            change = await self._provisioning.preview(visit.who, text)
            left = sorted(set(change.waiting) - set(discarded))
            if left:
                raise InvalidInput(
                    f"Usage waits for {', '.join(left)}: tick that it is given up, or leave the"
                    " upstream attached"
                )
            written = await self._provisioning.apply(visit.who, text, int(version), discarded, why)
        except (InvalidInput, Overtaken) as error:
            problems = error.problems if isinstance(error, InvalidInput) else [error.message]
            return await self._shown(visit, text, problems, why=why)
        return Moved(
            visit.path("configuration"), f"Done: the instance is at version {written.version}."
        )

    async def _shown(
        self, visit: Visit, text: str, problems: Sequence[str] = (), why: str = ""
    ) -> Shown:
        if not text.strip():
            return _form("", ["Choose a file, or paste what it says"])
        try:
            change = await self._provisioning.preview(visit.who, text)
        except InvalidInput as error:
            return _form(text, error.problems)
        if not change.told and not problems:
            return _form(text, nothing=True)
        return _difference(change, text, problems, why)


def _form(
    text: str, problems: Sequence[str] = (), *, nothing: bool = False, now: bool = False
) -> Shown:
    data = {"text": text, "problems": problems, "nothing": nothing, "now": now}
    return Shown("provisioning.html", data, 400 if problems else 200)


def _difference(change: Change, text: str, problems: Sequence[str], why: str) -> Shown:
    data = {
        "change": change,
        "text": text,
        "problems": problems,
        "why": why,
        "units": {name: waiting_units(each) for name, each in change.waiting.items()},
        "reason_chars_max": REASON_CHARS_MAX,
    }
    return Shown("provisioning_change.html", data, 409 if problems else 200)
