"""What an importer is told of a line's used counts, which no provisioning file carries.

Decided here: what makes up for them, by what counts mean on the line and whether it has expired.
Not decided here: which line it is (importing.py). Source: SEMANTICS 3, 4 and 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from zoneinfo import ZoneInfo

from gateway.core import importing_values as values
from gateway.core.importing_elements import Element
from gateway.core.model import Model
from gateway.core.provisioning_values import expiry_ms
from gateway.core.toml_text import Value

BY_HAND: Final = "taken for 0; look at it on the server"


def tell_used(
    element: Element, line: Mapping[str, Value], tz: ZoneInfo, now_ms: int | None
) -> None:
    """Note on an element that its line has expired, and what to do about its `used`.

    `line` is the carried element's, with valid `model`, `count` and `expires`. Without `now_ms`
    nothing is said to have expired; where it matters, the reader is told to look.
    """
    used = element.read("used", values.whole, 0, BY_HAND)
    expires = line["expires"]
    ends_ms = expiry_ms(expires, tz)
    if ends_ms is not None and now_ms is not None and ends_ms <= now_ms:
        element.note(
            f"it has expired ({expires}): carried, but whoever asks for it is denied"
            " (LICENSE_LAPSED); leave the line out, or renew it with another expires"
        )
        if used:
            element.note(
                f"used {used} is not carried, and nothing can be posted to an expired line; take"
                " what you need of its history from the server"
            )
    elif used:
        ends = None if ends_ms is None or now_ms is not None else str(expires)
        element.note(f"used {used} is not carried{_remedy(line, used, ends)}")


def _remedy(line: Mapping[str, Value], used: int, ends: str | None) -> str:
    """Say what makes up for used counts; `ends` is an expiry that may be past, nobody knows."""
    match Model(str(line["model"])):
        case Model.CONCURRENT:
            return (
                ": the hosts that hold it ask anew here, at the latest when they renew; until then"
                " the line begins at 0"
            )
        case Model.METERED_REUSABLE:  # never renewed: nothing but the next post comes
            return (
                ": each host that holds it posts its total again, and one that posts differences"
                " (incremental) must do so once; until then the line begins at 0"
            )
        case Model.METERED:
            denied = f"; a post is denied once the line has expired ({ends})" if ends else ""
            return f", the line begins at 0; {_posted(line['count'], used)}{denied}"


def _posted(count: Value, used: int) -> str:
    post = (
        f"post {used} once with `cmapi-gateway request --incremental` before an upstream is"
        " attached"
    )
    if not isinstance(count, int):
        return f"it is uncounted, so that denies nobody; where reports are to show it, {post}"
    if used > count:  # it is into its overdraft, and a count cannot be negative
        return post
    return f"{post}, or lower count by {used}, on a line with reset until the next period"
