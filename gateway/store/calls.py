"""One call of apply.lua: jobs in, bytes out; bytes in, replies out. No connection, no clock.

Decided here: how jobs share contexts, tables and keys of a call, and how its reply is read.
Not decided here: which jobs go together (groups.py) and what they mean (apply.lua).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from gateway.core.calendar import Calendar
from gateway.core.calls import PREVIEW, Reply, Verdict
from gateway.core.catalogue import CatalogueIndex, ResolvedWant
from gateway.core.model import Outcome, Preview
from gateway.store.keys import InstanceKeys

_encode: Final = msgspec.msgpack.Encoder().encode


class Job(msgspec.Struct):
    """A resolved request on its way to the script; `dedupe_id` is "" for a preview, `fingerprint`
    for an id that cannot come with two meanings.

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
    explain_ms: int = 0  # how long why it came to this is kept; 0: not at all
    decision: tuple[str, ...] = ()  # names and values for the record of decisions
    catalogue: bytes = b""  # as of an ask: the next version, packed; `index` is still the present

    @property
    def work(self) -> int:
        """The work it is for the script, in candidate lines."""
        work = 1
        for table, units in self.wants:
            work += table.rows * (len(units) or 1)
        return work


@dataclass(slots=True)
class Frame:
    """What calls for one instance have in common for a day: its keys and its context, encoded."""

    calendar: Calendar
    instance_keys: InstanceKeys
    keys: list[str]
    wire: msgspec.Raw

    @classmethod
    def make(cls, calendar: Calendar, keys: InstanceKeys) -> Frame:
        upstreams = [name for name, _ in calendar.context.upstreams]
        wire = msgspec.Raw(_encode(calendar.context))
        return cls(calendar, keys, keys.block(upstreams, calendar.months), wire)


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
        ask = (context, key, job.ttl_ms, job.fingerprint, job.echo, job.host, job.flags, wants)
        if job.explain_ms or job.decision or job.catalogue:
            asks.append((*ask, _more(job, frame.instance_keys, keys)))
        else:
            asks.append(ask)
    return keys, _encode((contexts, bases, tables, asks))


def _more(job: Job, instance_keys: InstanceKeys, keys: list[str]) -> tuple[Any, ...]:
    """Give the last member of an ask, for what only some have; its keys go to the end of `keys`."""
    explained = record = 0
    if job.explain_ms:
        keys.append(instance_keys.explained(job.dedupe_id))
        explained = len(keys)
    if job.decision:
        keys.append(instance_keys.record)
        record = len(keys)
    versions = versions_of(job) if explained else ()
    return explained, job.explain_ms, record, job.decision, versions, _text(job.catalogue)


def _text(blob: bytes) -> msgspec.Raw:
    """Pack bytes as a text of any length and content: the store's msgpack knows no other kind."""
    return msgspec.Raw(b"\xdb" + len(blob).to_bytes(4, "big") + blob)


def versions_of(job: Job) -> list[list[str]]:
    """Give the versions of the lines that a job is about, table by table."""
    line = job.index.line
    return [[line[row.id].version for row in table.table.rows] for table, _ in job.wants]


def decode_reply(text: bytes, jobs: list[tuple[Job, Frame]]) -> tuple[int, list[Reply]]:
    """Read a reply: the store's clock in ms, and for each job what became of it."""
    said = _decode_said(text)
    replies: list[Reply] = []
    context_at: dict[int, int] = {}
    answers = iter(said.answers)
    for job, frame in jobs:
        context = context_at.setdefault(id(frame), len(context_at))
        if job.sweep_only:
            answer = said.sweeps[context]
            done = answer.verdict is Verdict.DONE
            replies.append(Reply(Verdict.DONE) if done else _reply(answer, job))
        else:
            replies.append(_reply(next(answers), job))
    return said.clock_ms, replies


class _Answer(msgspec.Struct, array_like=True):
    """What became of a job; how many of the two further values there are depends on the verdict."""

    verdict: Verdict
    first: msgspec.Raw = msgspec.Raw()
    second: msgspec.Raw = msgspec.Raw()


class _Said(msgspec.Struct, array_like=True):
    clock_ms: int
    answers: list[_Answer]
    sweeps: list[_Answer]


_decode_said: Final = msgspec.msgpack.Decoder(_Said).decode
_decode_outcome: Final = msgspec.msgpack.Decoder(Outcome).decode
_decode_preview: Final = msgspec.msgpack.Decoder(Preview).decode
_decode_int: Final = msgspec.msgpack.Decoder(int).decode
_decode_str: Final = msgspec.msgpack.Decoder(str).decode


def _reply(answer: _Answer, job: Job) -> Reply:
    verdict = answer.verdict
    if verdict is Verdict.DONE:
        if job.flags & PREVIEW:
            return Reply(verdict, preview=_decode_preview(answer.first))
        return Reply(verdict, outcome=_decode_outcome(answer.first))
    if verdict is Verdict.REPLAYED:
        outcome, echo = _decode_outcome(answer.first), _decode_str(answer.second)
        return Reply(verdict, outcome=outcome, echo=echo)
    if verdict is Verdict.STALE:
        return Reply(verdict, version=_decode_int(answer.first))
    if verdict is Verdict.CALENDAR:
        from_ms, now_ms = _decode_int(answer.first), _decode_int(answer.second)
        return Reply(verdict, from_ms=from_ms, now_ms=now_ms)
    return Reply(verdict)
