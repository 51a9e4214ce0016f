"""Templates to bytes: one environment, everything from outside escaped.

Decided here: how numbers, moments and spans are written on pages. Not decided here: what a page
says (templates/).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from gateway.core.model import UNITS_MAX
from gateway.core.moments import iso
from gateway.core.periods import zone
from gateway.web.ui.visits import address

_SPANS: Final = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s"))


class Renderer:
    """Fills templates. What they are filled with is escaped; Markup alone is taken as it is."""

    def __init__(self, files: Mapping[str, str]) -> None:
        """Take the addresses of the files that every page names."""
        self._environment = Environment(
            loader=PackageLoader("gateway.web.ui"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.filters |= {
            "units": units,
            "moment": moment,
            "span": span,
        }
        self._environment.globals |= {"address": address, "files": files}

    def render(self, template: str, data: dict[str, Any]) -> bytes:
        """Fill a template of templates/."""
        return self._environment.get_template(template).render(data).encode()


def units(count: int | None) -> str:
    """Write a count with thin spaces between thousands; None and beyond the greatest: unlimited."""
    if count is None or count >= UNITS_MAX:
        return "unlimited"
    return f"{count:,}".replace(",", "\u202f").replace("-", "\u2212")


def moment(at_ms: int | None, timezone: str = "UTC", *, seconds: bool = False) -> Markup | str:
    """Write a moment as a local time with its zone, and exactly for machines; None: a dash."""
    if at_ms is None:
        return "\u2013"
    try:
        local = datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(zone(timezone))
    except (OverflowError, ValueError):  # at the calendar's ends a zone is enough to leave it
        return "beyond the calendar"
    shown = local.strftime("%Y-%m-%d %H:%M:%S" if seconds else "%Y-%m-%d %H:%M")
    name = local.tzname() or timezone
    return Markup('<time datetime="{}">{} {}</time>').format(iso(at_ms), shown, name)


def span(ms: int | None) -> str:
    """Write a span by its two greatest units, such as `2 d 3 h`; None: a dash."""
    if ms is None:
        return "\u2013"
    left, parts = max(0, ms), []
    for unit_ms, name in _SPANS:
        count, left = divmod(left, unit_ms)
        if count:
            parts.append(f"{count} {name}")
        if parts and (len(parts) == 2 or not count):
            break
    return " ".join(parts) or "0 s"
