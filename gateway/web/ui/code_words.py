"""What the codes of denials mean, for whoever reads them on a page at night.

Decided here: the words: what happened, and what to do about it. Not decided here: when which code
is told (core/explaining.py), why one request was denied (protocols/cmapi_explain.py).
Source: SEMANTICS 3 and 6.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from gateway.core.model import Code


class Words(NamedTuple):
    """What a code means, and what helps."""

    means: str
    helps: str


_WORDS: Final[Mapping[str, Words]] = {
    Code.FEATURE_NOT_FOUND: Words(
        "There is no line of the feature that was asked for; a retired one counts as absent.",
        "See that the client asks for the right name at the right instance, or provision a line.",
    ),
    Code.VERSION_TOO_HIGH: Words(
        "No line of the feature has the version that was asked for, or a higher one.",
        "Provision a line of that version, or have the client ask for one that is licensed.",
    ),
    Code.LICENSE_NOT_YET_VALID: Words(
        "The lines that fit have not started yet.",
        "Wait for their start, or correct it in the provisioning file.",
    ),
    Code.LICENSE_LAPSED: Words(
        "Every line that fits has expired.",
        "Renew the licence and apply its new expiry.",
    ),
    Code.DENIED_BY_POLICY: Words(
        "No line in force fits the selectors of the request.",
        "Compare the selectors of the line with those that the client sends.",
    ),
    Code.FEATURE_COUNT_INSUFFICIENT: Words(
        "Too little was left: everything is used, or held by others.",
        "See who holds it and release what is not needed, wait for a reset, or buy more.",
    ),
    Code.CONSUMED_NOT_RETURNABLE: Words(
        "Consumption was to be undone, and no line of the feature has an undo interval.",
        "Nothing was lost. If undo is wanted, provision an undo interval.",
    ),
    Code.RETURN_TOO_LARGE: Words(
        "More was to be returned than the host held.",
        "Nothing was lost. Perhaps it lapsed before: look at the host's borrow interval.",
    ),
    Code.UNDO_WINDOW_CLOSED: Words(
        "More was to be undone than this host consumed inside the undo interval.",
        "What was consumed earlier stays counted.",
    ),
    Code.NOT_HELD: Words(
        "The host was to hold some of it already, and did not.",
        "Perhaps it lapsed: the client has to check out again.",
    ),
}
_OTHER: Final = Words("A code of another version of this gateway.", "Its documents explain it.")


def words_of(code: str) -> Words:
    """Give the words for a code, also for one that this version does not know."""
    return _WORDS.get(code, _OTHER)
