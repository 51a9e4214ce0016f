"""What was set aside in words for people, the same on a terminal and on a page.

Decided here: how much of a body is shown, that what upstreams or people have written is shown
without signs that steer whatever shows it, and in which order rows are told. Not decided here: how
it looks (cli/, web/). Pure.
"""

from __future__ import annotations

import unicodedata
from typing import Final

from gateway.core.usage import Row
from gateway.service.asides import Item
from gateway.service.decisions import Known

BODY_CHARS_MAX: Final = 4_096

_STEERING: Final = frozenset({"Cc", "Cs"})


def plain(text: str, keep: str = "") -> str:
    """Give a text without what a terminal would obey."""
    return "".join(
        sign if sign in keep or unicodedata.category(sign) not in _STEERING else "\ufffd"
        for sign in text
    )


def in_question(item: Item) -> bool:
    """Say whether the upstream may have it."""
    return item.known in (Known.IN_DOUBT, Known.HANDED_OVER)


def body_text(item: Item) -> str | None:
    """Give the beginning of a batch's body; None when there is none."""
    if not item.body:
        return None
    text = item.body[:BODY_CHARS_MAX].decode("utf-8", "replace")
    return text if len(item.body) <= BODY_CHARS_MAX else f"{text}…"


def by_hour(row: Row) -> tuple[int, str, str]:
    """Order rows by their hour, then by line and host."""
    return row.hour, row.line, row.host
