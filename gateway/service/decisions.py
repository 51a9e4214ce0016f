"""What a person can decide about what was taken out of a lane, in one table and in plain words.

Decided here: what is known in which case, which decisions fit it, what each comes to, and what a
person may write down. Not decided here: how a decision is carried out (asides.py and the store's
scripts) and how it is shown (cli/). Pure. Source: DESIGN 5.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from gateway.core.decisions import Fate
from gateway.core.errors import InvalidInput

REASON_CHARS_MAX: Final = 500
WHO_CHARS_MAX: Final = 100
RECEIPT: Final = "receipt"  # in the record, a decision that nobody had to take
SPOOL: Final = "spool"

_UNWRITTEN: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})  # controls, halves of signs, line breaks


class Action(StrEnum):
    """A decision, in the words of the command and of the record."""

    RETRY = "retry"
    DISCARD = "discard"
    APPLIED = "reconcile --applied"
    NOT_APPLIED = "reconcile --not-applied"


class Known(StrEnum):
    """What is known of units that were set aside."""

    IN_DOUBT = "in_doubt"
    HANDED_OVER = "handed_over"
    DEAD = "dead"
    BLOCKED = "blocked"


FATES: Final[Mapping[Action, Fate]] = {
    Action.RETRY: Fate.OPEN,
    Action.DISCARD: Fate.DEAD,
    Action.APPLIED: Fate.FORWARDED,
    Action.NOT_APPLIED: Fate.OPEN,
}
SENTENCES: Final[Mapping[Known, str]] = {
    Known.IN_DOUBT: "It was sent, and no answer tells for sure whether the upstream applied it."
    " It does not go again by itself.",
    Known.HANDED_OVER: "It was written to a file of the spool, for a person to carry. A receipt of"
    " the file settles it (forward --receipt FILE).",
    Known.DEAD: "The upstream did not apply it and does not take its content. It does not go again"
    " by itself; its units count as dead.",
    Known.BLOCKED: "The upstream refuses these units for now and applied none of them. They go"
    " again by themselves.",
}
# What does not stand here does not fit.
MEANINGS: Final[Mapping[tuple[Known, Action], str]] = {
    (Known.IN_DOUBT, Action.RETRY): "the units go again in a batch of another id; only if the"
    " upstream did not apply this one, else they count twice there",
    (Known.IN_DOUBT, Action.DISCARD): "the units are given up and count as dead",
    (Known.IN_DOUBT, Action.APPLIED): "the upstream has it: the units count as forwarded",
    (Known.IN_DOUBT, Action.NOT_APPLIED): "the upstream does not have it: the units go again in a"
    " batch of another id",
    (Known.HANDED_OVER, Action.RETRY): "the units go again in another file; the file that was"
    " written must not be taken over any more, else they count twice",
    (Known.HANDED_OVER, Action.DISCARD): "the units are given up and count as dead; the file that"
    " was written must not be taken over any more",
    (Known.HANDED_OVER, Action.APPLIED): "the file was taken over, though there is no receipt: the"
    " units count as forwarded",
    (Known.HANDED_OVER, Action.NOT_APPLIED): "the file was lost and never will be taken over: the"
    " units go again in another file",
    (Known.DEAD, Action.RETRY): "the units go again in a batch of another id; it is refused again"
    " unless something was mended, there or here",
    (Known.DEAD, Action.DISCARD): "it is taken off the list; its units stay dead",
    (Known.BLOCKED, Action.RETRY): "the units go again with the next round",
    (Known.BLOCKED, Action.DISCARD): "the units are given up and count as dead",
}
_LOOK_FOR: Final[Mapping[str, str]] = {
    "cmapi": "A CMAPI server does not tell what became of one request. Look in its log, or ask who"
    " runs it, for an access request with the idempotency key {id}",
    "cloudevents": "A collector of events does not tell which ones it has. Look there for events"
    " with source /instances/{instance} and ids {id}/0 to {id}/{last}",
    "licensespring": "What is said above of the cloud's total is what it had before and, at last,"
    " after it; no call can arrive any more that was sent then. Look in the licence's activity log"
    " there for what was added between the two",
    SPOOL: "Nothing but a receipt tells what became of a file. Look, where it was carried to, for"
    " the file with {id} in its name",
}


def meanings(known: Known) -> Mapping[Action, str]:
    """List the decisions that fit, and what each comes to."""
    return {action: said for (case, action), said in MEANINGS.items() if case is known}


def judge(known: Known, action: Action) -> Fate:
    """Give what becomes of the units. Raises InvalidInput for a decision that does not fit."""
    if (known, action) not in MEANINGS:
        fitting = " or ".join(meanings(known))
        raise InvalidInput(
            f"There is nothing to reconcile: it was not applied for sure. Decide {fitting}"
        )
    return FATES[action]


def look_for(kind: str, batch_id: str, instance: str, upstream: str, rows: int) -> str:
    """Say why a person has to look, and for what; `kind` is "" for an upstream that is unknown."""
    said = _LOOK_FOR.get(
        kind,
        "Upstream {upstream} is not in this configuration; with --config FILE more can be said."
        " What to look for there is the id {id}",
    )
    return said.format(id=batch_id, instance=instance, upstream=upstream, last=rows - 1) + "."


def check_text(text: str, what: str, chars_max: int) -> str:
    """Give what a person wrote for the record, without white space around it.

    Raises InvalidInput when it is empty, too long, or holds what is no text.
    """
    said = text.strip()
    if not said:
        raise InvalidInput(f"{what} is empty; the record needs it")
    if len(said) > chars_max:
        raise InvalidInput(f"{what} has {len(said)} characters; at most {chars_max} are kept")
    if any(unicodedata.category(sign) in _UNWRITTEN for sign in said):
        raise InvalidInput(f"{what} holds control characters; give one line of text")
    return said
