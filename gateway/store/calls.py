"""One call of apply.lua: jobs in, bytes out; bytes in, replies out. No connection, no clock.

Decided here: how jobs share contexts, tables and keys of a call, and how its reply is read.
Not decided here: which jobs go together (lanes.py) and what they mean (apply.lua).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from gateway.core.calendar import Calendar
from gateway.core.calls import PREVIEW, Reply, Verdict
from gateway.core.catalogue import CatalogueIndex, ResolvedWant
from gateway.core.model import Grant, Held, Offer, Outcome, Preview, Shortfall
from gateway.store.keys import InstanceKeys

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder().decode


@dataclass(slots=True)
class Job:
    """A resolved request on its way to the script; `dedupe_id` is "" for a preview.

    A job without wants or id that says `sweep_only` has the instance's lapses swept, nothing else.
    """

    index: CatalogueIndex
    wants: list[ResolvedWant]
    dedupe_id: str
    ttl_ms: int
    fingerprint: str
    echo: str
    host: str
    flags: int
    sweep_only: bool = False

    @property
    def work(self) -> int:
        """The work it is for the script, in candidate lines."""
        return 1 + sum(table.rows * len(units) for table, units in self.wants)


@dataclass(slots=True)
class Frame:
    """What calls for one instance have in common for a day: its keys and its context, encoded."""

    index: CatalogueIndex
    calendar: Calendar
    instance_keys: InstanceKeys
    keys: list[str]
    wire: msgspec.Raw

    @classmethod
    def make(cls, index: CatalogueIndex, calendar: Calendar, keys: InstanceKeys) -> Frame:
        upstreams = [name for name, _ in calendar.context.upstreams]
        wire = msgspec.Raw(_encode(calendar.context))
        return cls(index, calendar, keys, keys.block(upstreams, calendar.months), wire)


def encode_call(jobs: list[tuple[Job, Frame]]) -> tuple[list[str], bytes]:
    """Give KEYS and ARGV[1] of one call; tables and contexts that jobs share are sent once."""
    keys: list[str] = []
    contexts: list[msgspec.Raw] = []
    bases: list[int] = []
    tables: list[msgspec.Raw] = []
    context_at: dict[int, int] = {}
    table_at: dict[int, int] = {}
    asks: list[Any] = []
    for job, frame in jobs:
        context = context_at.get(id(frame))
        if context is None:
            contexts.append(frame.wire)
            bases.append(len(keys) + 1)
            keys.extend(frame.keys)
            context = context_at[id(frame)] = len(contexts)
        if job.sweep_only:
            continue
        wants: list[Any] = []
        for table, units in job.wants:
            at = table_at.get(id(table))
            if at is None:
                tables.append(table.wire)
                at = table_at[id(table)] = len(tables)
            wants.append((at, units))
        key = 0
        if job.dedupe_id:
            keys.append(frame.instance_keys.outcome(job.dedupe_id))
            key = len(keys)
        asks.append(
            (context, key, job.ttl_ms, job.fingerprint, job.echo, job.host, job.flags, wants)
        )
    return keys, _encode((contexts, bases, tables, asks))


def decode_reply(text: bytes, jobs: list[tuple[Job, Frame]]) -> tuple[int, list[Reply]]:
    """Read a reply: the store's clock in ms, and for each job what became of it."""
    clock_ms, answers, sweeps = _decode(text)
    replies: list[Reply] = []
    context_at: dict[int, int] = {}
    at = 0
    for job, frame in jobs:
        context = context_at.setdefault(id(frame), len(context_at))
        if job.sweep_only:
            replies.append(_swept(sweeps[context]))
        else:
            replies.append(_reply(answers[at], job.flags))
            at += 1
    return clock_ms, replies


def _swept(answer: list[Any]) -> Reply:
    return Reply(Verdict.DONE) if answer[0] == Verdict.DONE else _reply(answer, 0)


def _reply(answer: list[Any], flags: int) -> Reply:
    verdict = answer[0]
    if verdict == Verdict.DONE:
        if flags & PREVIEW:
            at_ms, shortfalls, offers = answer[1]
            offered = [Offer(*each) for each in offers]
            return Reply(Verdict.DONE, preview=Preview(at_ms, _shortfalls(shortfalls), offered))
        return Reply(Verdict.DONE, outcome=_outcome(answer[1]))
    if verdict == Verdict.REPLAYED:
        return Reply(Verdict.REPLAYED, outcome=_outcome(answer[1]), echo=answer[2])
    if verdict == Verdict.STALE:
        return Reply(Verdict.STALE, version=answer[1])
    if verdict == Verdict.CALENDAR:
        return Reply(Verdict.CALENDAR, from_ms=answer[1], now_ms=answer[2])
    return Reply(Verdict(verdict))


def _outcome(said: list[Any]) -> Outcome:
    at_ms, shortfalls, grants, held = said
    return Outcome(
        at_ms,
        _shortfalls(shortfalls),
        [Grant(*each) for each in grants],
        [Held(*each) for each in held],
    )


def _shortfalls(said: list[Any]) -> list[Shortfall]:
    return [Shortfall(*each) for each in said]
