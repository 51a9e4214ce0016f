"""The vectors without HTTP and without a store: request codec, resolving, ledger, answer codec.

Not decided here: credentials, headers and media types, which the vectors with the flag `http_only`
are about. A catalogue is changed here as the store's scripts change it.
"""

from __future__ import annotations

import base64
import itertools

import msgspec
import pytest

from gateway.core import ledger
from gateway.core.calendar import make_calendar
from gateway.core.calls import INCREMENTAL, PARTIAL, PREVIEW, Ask, Reply, Table, Verdict
from gateway.core.catalogue import CatalogueIndex, ResolvedWant
from gateway.core.counters import State
from gateway.core.errors import BadRequest, GatewayError, IdempotencyMismatch
from gateway.core.fingerprint import fingerprint
from gateway.core.model import AccessRequest
from gateway.core.moments import iso
from gateway.protocols import problem
from gateway.protocols.cmapi_answer import encode_access, encode_preview, read_echo, write_echo
from gateway.protocols.cmapi_request import decode_preview, decode_request
from gateway.service.access import everything
from tests.vectors.loader import (
    Played,
    Seen,
    Step,
    Vector,
    applied,
    chosen,
    given,
    judge_body,
    judge_counters,
    play,
    vectors,
)

INSTANCE = "VECTOR"
RETENTION_MS = 3_600_000
CALENDARS_MAX = 3


class Codec:
    """One instance in memory."""

    def __init__(self, fixture: str) -> None:
        self.state = State()
        self.own_ids = itertools.count()
        self.index = CatalogueIndex(applied(fixture, INSTANCE))
        self.put(fixture)

    def put(self, fixture: str) -> None:
        """Make a file's catalogue the one in force; an expiry that came nearer cuts holds."""
        current = self.index.catalogue if self.state.version else None
        catalogue = applied(fixture, INSTANCE, current)
        self.state.version += 1
        self.index = CatalogueIndex(msgspec.structs.replace(catalogue, version=self.state.version))
        for held in self.state.holds.values():
            for line, hold in held.items():
                expires_ms = self.index.line[line].expires_ms
                if expires_ms and not 0 < hold.lapses_ms <= expires_ms:
                    hold.lapses_ms = expires_ms

    def answer(self, step: Step, at_ms: int) -> tuple[bytes, dict[str, str]]:
        """Answer a request with its body and the headers that the ledger knows of."""
        previewed = step.endpoint == "preview_request"
        request = (decode_preview if previewed else decode_request)(step.body_bytes)
        known = None
        if not previewed:
            jti = step.claims.get("jti") if step.credential == "signed" else None
            known = jti or step.header("idempotency-key") or request.correlation_id
        reply = self._applied(request, previewed, known, at_ms)
        if reply.verdict is Verdict.MISMATCH:
            raise IdempotencyMismatch("The idempotency id was used for another request")
        if reply.preview is not None:
            body = encode_preview(self.index, request, reply.preview)
            return body, {"gateway-transaction-time": iso(reply.preview.at_ms)}
        assert reply.outcome is not None
        headers = {"gateway-transaction-time": iso(reply.outcome.at_ms)}
        if reply.verdict is Verdict.REPLAYED:
            headers["idempotency-replayed"] = "true"
        answered = read_echo(reply.echo) if reply.echo else request
        return encode_access(self.index, answered, reply.outcome), headers

    def _applied(
        self, request: AccessRequest, previewed: bool, known: str | None, at_ms: int
    ) -> Reply:
        flags = (INCREMENTAL if request.incremental else 0) | (PARTIAL if request.partial else 0)
        if previewed:
            asked = request if request.wants else everything(self.index, request)
            tables, wants = _numbered(self.index.resolve_apart(asked))
            flags = PREVIEW
        else:
            tables, wants = _numbered(self.index.resolve(request))
        ask = Ask(
            context=0,
            id=f"own {next(self.own_ids)}" if known is None else known,
            ttl_ms=RETENTION_MS,
            fingerprint=fingerprint(request).hex(),
            echo="" if known is None else write_echo(request),
            host=request.host.canonical,
            flags=flags,
            wants=wants,
        )
        from_ms, now_ms = at_ms, at_ms
        for _ in range(CALENDARS_MAX):
            context = make_calendar(self.index, from_ms, now_ms).context
            state, reply = ledger.apply(self.state, context, tables, ask, at_ms)
            if reply.verdict is not Verdict.CALENDAR:
                self.state = state
                return reply
            from_ms, now_ms = reply.from_ms, reply.now_ms
        raise AssertionError("no calendar is wide enough")

    def seen(self) -> Seen:
        state = self.state
        return Seen.of(
            state.used,
            {
                host: {line: hold.count for line, hold in held.items()}
                for host, held in state.holds.items()
            },
            state.acked,
            {key: day.units for key, day in state.days.items()},
            {
                (line, hour): units
                for rows in state.open.values()
                for (line, hour, _), units in rows.items()
            },
        )


def _numbered(
    resolved: list[ResolvedWant],
) -> tuple[list[Table], list[tuple[int, list[tuple[int, int]]]]]:
    tables = [table.table for table, _ in resolved]
    return tables, [(number, units) for number, (_, units) in enumerate(resolved)]


def judge(codec: Codec, played: Played, bodies: dict[str, bytes]) -> list[str]:
    """Carry a step out and list what is not as expected."""
    step, expect = played.step, played.step.expect
    if step.apply:
        codec.put(step.apply)
        return []
    error: GatewayError
    try:
        body, headers = codec.answer(step, played.at_ms)
        status = 200
    except (BadRequest, IdempotencyMismatch) as raised:
        error = raised
        status, headers, body = problem.render(error)
    found = judge_body(expect, body)
    if status != expect.status:
        found.append(f"status: expected {expect.status}, was {status}: {body!r}")
    if expect.replayed != ("idempotency-replayed" in headers):
        found.append(f"replayed: expected {expect.replayed}")
    moment = expect.headers.get("Gateway-Transaction-Time")
    if moment not in (None, headers.get("gateway-transaction-time")):
        found.append(f"transaction time: expected {moment}, was {headers}")
    if expect.same_as and bodies[expect.same_as] != body:
        found.append(f"expected {bodies[expect.same_as]!r} again, was {body!r}")
    if step.name:
        bodies[step.name] = body
    return found + judge_counters(played, codec.index, codec.seen())


@pytest.mark.parametrize("vector", chosen(without="http_only"), ids=lambda vector: vector.id)
def test_codec_and_ledger_answer_a_vector_as_it_says(vector: Vector) -> None:
    codec, bodies = Codec(given(vector)), dict[str, bytes]()
    for number, played in enumerate(play(vector)):
        found = judge(codec, played, bodies)
        assert not (played.own and found), (vector.says, f"step {number}", found)


def test_each_body_is_what_its_comment_shows() -> None:
    for vector in vectors().values():
        for step in vector.steps:
            if step.body_text:
                assert base64.b64encode(step.body_text.encode()).decode() == step.body, vector.id


def test_each_vector_says_its_law_and_comes_after_one_that_is_there() -> None:
    for vector in vectors().values():
        assert "SEMANTICS" in vector.says, vector.id
        assert not vector.after or vector.after in vectors(), vector.id
        assert set(vector.flags) <= {"http_only", "codec_only"}, vector.id
        assert not (vector.after and vector.given != "DEMO"), vector.id


def test_every_example_of_the_semantics_has_its_vector() -> None:
    examples = [f"E{number}" for number in range(1, 23)] + ["E30"]
    assert [each for each in examples if each not in vectors()] == []
    assert len(vectors()) >= 90
