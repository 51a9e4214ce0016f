"""What must be true of journals: by themselves, and beside the sums of the books. Pure.

Decided here: I4 (nothing is refused for which there was room), I5 and I6 of RELIABILITY 1, and what
a journal says of I1 and I2, which tests/faults/checker.py judges. Not decided here: how journals
are written (journal_entries.py) and where all the records of a run are (journal.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from tests.faults.checker import Finding, Journal, Pair
from tests.stores.journal_entries import Bad, Request

# What a gateway says when the store is away, and a balancer when a gateway is.
CLEAN_5XX = {502, 503, 504}

Window = tuple[int, int]  # from and to, ms, both included


def told_to_clients(
    requests: Sequence[Request], by: str, windows_ms: Sequence[Window] = ()
) -> Journal:
    """Sum up what clients were granted and what they never heard of, each id once.

    What was answered for the last time within a window may be lost.
    """
    journal = Journal(by=by)
    for request in requests:
        if request.answers:
            last = request.answers[-1]
            risked = any(first <= last.at_ms <= end for first, end in windows_ms)
            for name, units in last.granted.items():
                journal.grant(request.instance, name, units)
                if risked and units > 0:
                    journal.risk(request.instance, name, units)
        elif request.unseen and not request.bad:
            for name, units in request.asked.items():
                journal.unseen(request.instance, name, units)
    return journal


def one_answer(requests: Sequence[Request]) -> Iterator[Finding]:
    """I5: one id has one answer, whoever gives it; and none grants more than was asked for."""
    for request in requests:
        where = f"{request.instance} {request.id}"
        if len({tuple(sorted(each.asked.items())) for each in request.entries}) > 1:
            yield Finding(f"{where}: one id for different things: the journal proves nothing")
        granted = {tuple(sorted(each.granted.items())) for each in request.answers}
        answers = {each.answer for each in request.answers} - {""}
        different = max(len(granted), len(answers))
        if different > 1:
            replicas = sorted({each.replica for each in request.answers} - {""})
            by = f" by {', '.join(replicas)}" if replicas else ""
            yield Finding(f"I5: {where}: {different} different answers{by}")
        for name, units in (pair for each in granted for pair in each):
            asked = request.asked.get(name, 0)
            if not min(asked, 0) <= units <= max(asked, 0):
                yield Finding(f"I5: {where}: {name}: {units} granted, {asked} asked")


def no_needless_refusal(
    requests: Sequence[Request], capacity: Mapping[Pair, int], used: Counter[Pair]
) -> Iterator[Finding]:
    """I4, exact under contention: what was refused would not have fitted in at the end either.

    Of requests for one line or feature that lack of capacity alone can refuse, where nothing was
    ever given back: there `used` only grows.
    """
    shrinking = {
        (request.instance, name)
        for request in requests
        for name, units in request.asked.items()
        if units < 0
    }
    for request in requests:
        if len(request.asked) != 1 or not request.answers:
            continue
        ((name, asked),) = request.asked.items()
        pair = (request.instance, name)
        if pair not in capacity or pair in shrinking:
            continue
        granted = request.answers[-1].granted.get(name, 0)
        free = capacity[pair] - used[pair]
        # Granted in part, it took all there was; refused whole, there was less than it asked for.
        enough = 1 if granted else asked
        if granted < asked and free >= enough:
            yield Finding(
                f"I4: {request.instance} {request.id}: {granted} of {asked} {name} granted,"
                f" and {free} were free in the end"
            )


def no_wrong_status(requests: Sequence[Request]) -> Iterator[Finding]:
    """I6: no error of the server's own making, and no success for a request that is bad."""
    for request in requests:
        for entry in request.entries:
            where = f"I6: {entry.instance} {entry.id}: status {entry.status}"
            if entry.status >= 500 and entry.status not in CLEAN_5XX:
                yield Finding(where)
            elif entry.bad is Bad.SIGNATURE and 200 <= entry.status < 300:
                yield Finding(f"{where} without a valid signature")
            elif entry.bad is Bad.INPUT and 200 <= entry.status < 300:
                yield Finding(f"{where} for bad input")
