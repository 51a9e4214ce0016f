"""The parts of `demo` that need no process: its mix, its journals, its wire, its comparison."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import islice

import msgspec
import pytest

from gateway.cli.demonstration import mix, report, wire
from gateway.cli.demonstration.cmapi import AccessSpeaker, access_request, with_token
from gateway.cli.demonstration.fleet import Fleet, Tally
from gateway.cli.demonstration.journal import Answer, Entry, Journal, Status, Units, read_answer
from gateway.cli.demonstration.journal import total as sum_of
from gateway.cli.demonstration.mix import Ask, asks
from gateway.cli.demonstration.scene import INSTANCE, PARENT, demo_lines
from gateway.core import ledger
from gateway.core.calendar import make_calendar
from gateway.core.calls import INCREMENTAL, PARTIAL
from gateway.core.calls import Ask as Call
from gateway.core.catalogue import CatalogueIndex
from gateway.core.counters import State
from gateway.core.model import Catalogue, Line
from gateway.protocols.cmapi_answer import encode_access
from gateway.protocols.cmapi_request import normalise
from gateway.service.balance import Books
from gateway.service.balance import Entry as Booked

TURNS = 80
ENOUGH = 200  # requests, of which REPEAT_SHARE come again
NOW_MS = 1_800_000_000_000
LINES = demo_lines()
BY_FEATURE = {line.feature: line for line in LINES}


def test_same_seed_asks_the_same() -> None:
    """INTERFACE 1: a run can be repeated by its seed, whatever was answered in it."""
    assert list(islice(asks(7, 3), 500)) == list(islice(asks(7, 3), 500))
    assert list(islice(asks(7, 3), 500)) != list(islice(asks(7, 4), 500))
    assert list(islice(asks(7, 3), 500)) != list(islice(asks(8, 3), 500))


def test_the_mix_has_every_line_and_every_fault() -> None:
    drawn = list(islice(asks(1, 0), 2_000))
    names = {name for ask in drawn for name, _, _ in ask.features}
    assert names >= set(BY_FEATURE)
    assert any(ask.reset_after_s is not None for ask in drawn)
    assert any(ask.repeats for ask in drawn)
    assert {True, False} == {ask.incremental for ask in drawn} == {ask.partial for ask in drawn}


def test_journals_agree_with_the_specification_of_the_ledger() -> None:
    """I1 and I2 without a process: what answers say sums up to what the ledger acked and holds."""
    index = CatalogueIndex(Catalogue(id=INSTANCE, version=1, lines=LINES))
    state = State(version=1)
    journals = {f"h{client}": Journal(BY_FEATURE) for client in range(8)}
    mixes = {host: asks(5, client) for client, host in enumerate(journals)}
    denied = 0
    for turn in range(TURNS):
        for host, journal in journals.items():
            ask = next(mixes[host])
            state, answer = _answer(index, state, ask, host, f"{host}-{turn}")
            journal.record(ask, answer)
            denied += answer.denied
    assert denied
    assert [odd for journal in journals.values() for odd in journal.oddities] == []
    units = sum_of(journals.values())
    for line in LINES:
        held = sum(lines[line.id].count for lines in state.holds.values() if line.id in lines)
        expected = held if line.model.reusable else state.acked[line.id]
        assert expected == units[line.feature].left, line.id
        counts = units[line.feature]
        assert counts.asked == counts.granted + counts.denied


def _answer(
    index: CatalogueIndex, state: State, ask: Ask, host: str, name: str
) -> tuple[State, Answer]:
    request = normalise(access_request(ask, host))
    wants = index.resolve(request)
    call = Call(
        context=0,
        id=name,
        ttl_ms=1_000,
        fingerprint="",
        echo="",
        host=request.host.canonical,
        flags=(INCREMENTAL if ask.incremental else 0) | (PARTIAL if ask.partial else 0),
        wants=[(at, units) for at, (_, units) in enumerate(wants)],
    )
    context = make_calendar(index, NOW_MS, NOW_MS).context
    tables = [resolved.table for resolved, _ in wants]
    state, reply = ledger.apply(state, context, tables, call, NOW_MS)
    assert reply.outcome is not None
    state.outcomes.clear()  # no id comes again; the specification copies all it remembers
    return state, read_answer(encode_access(index, request, reply.outcome))


@pytest.mark.parametrize(
    ("ask", "answer", "odd"),
    [
        (Ask((("users", "1.0", 3),)), Answer((Entry("users", 4),), ()), "users: asked 3"),
        (Ask((("users", "1.0", -3),)), Answer((Entry("users", 1),), ()), "users: asked -3"),
        (mix.read_back(), Answer((Entry("editor", 1),), ()), "editor: held 0"),
        (
            Ask((("pages", "1.0", 2),), partial=False),
            Answer((Entry("pages", 2),), (Status("FEATURE_NOT_FOUND", "pages"),)),
            "pages: held 0",
        ),
    ],
)
def test_an_answer_that_cannot_be_is_noted(ask: Ask, answer: Answer, odd: str) -> None:
    journal = Journal(BY_FEATURE)
    journal.record(ask, answer)
    assert journal.oddities[0].startswith(odd)


def test_records_that_agree_are_conservation() -> None:
    assert _differences() == []
    assert report.verdict([]) == [report.OK]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"units": {"users": Units(asked=9, granted=9)}}, "line users: granted in answers 9"),
        ({"units": {"editor": Units(asked=3, granted=3)}}, "line editor: held by the clients 3"),
        ({"below": {"users": {"acked": 9}}}, "line users: granted in answers 8"),
        ({"below": {"users": {"used": 7}}}, "line users: acked by the gateway 8, used"),
        ({"below": {"users": {"used": 5_000}}}, "is over its capacity 4400"),
        ({"below": {"users": {"forwarded": 6, "open": 2}}}, "2 units are still open"),
        ({"below": {"pages": {"forwarded": 1, "parked": 3}}}, "3 units are still parked"),
        ({"above": {"users": {"acked": 9}}}, "forwarded 8, acked by the upstream 9"),
        ({"tally": Tally(repeats=5, differing=1)}, "1 of 5 repeats"),
        ({"tally": Tally(unanswered=1)}, "1 requests were never answered"),
        ({"tally": Tally(troubles=Counter({"HTTP 500": 3}))}, "3 times: HTTP 500"),
        ({"oddities": ["users: asked 3, answered 4"]}, "users: asked 3"),
        ({"told": ["line users: 8 acked, but 7 in its days"]}, "7 in its days"),
    ],
)
def test_every_difference_is_named(change: dict[str, object], named: str) -> None:
    """INTERFACE 1: OK is said only when all three records agree; else what differs is told."""
    found = _differences(**change)  # type: ignore[arg-type]  # a table of keyword arguments
    assert any(named in words for words in found), found
    assert report.OK not in report.verdict(found)
    assert len(report.verdict(found)) == len(found) + 1


GRANTED = {"sessions": 40, "users": 8, "editor": 2, "pages": 4, "api": 100}


def _differences(
    *,
    units: dict[str, Units] | None = None,
    below: dict[str, dict[str, int]] | None = None,
    above: dict[str, dict[str, int]] | None = None,
    tally: Tally | None = None,
    oddities: list[str] | None = None,
    told: list[str] | None = None,
) -> list[str]:
    """Compare records that agree but for what is given."""
    journal = {name: Units(asked=n + 1, granted=n, denied=1) for name, n in GRANTED.items()}
    gateway = _books(INSTANCE, "parent", below or {}, told or [])
    upstream = _books(PARENT, None, above or {}, [])
    rows = report.accounts(LINES, journal | (units or {}), gateway, upstream)
    return report.differences(rows, tally or Tally(), oddities or [], [gateway, upstream])


def _books(
    instance: str, upstream: str | None, change: dict[str, dict[str, int]], told: list[str]
) -> Books:
    entries = [_booked(line, upstream, change.get(line.id, {})) for line in LINES]
    return Books(instance, entries, told)


def _booked(line: Line, upstream: str | None, change: dict[str, int]) -> Booked:
    count = GRANTED[line.feature]
    acked = count if line.model.metered else 0
    entry = Booked(
        id=line.id,
        feature=line.feature,
        upstream=upstream if line.model.metered else None,
        acked=acked,
        forwarded=acked if upstream else 0,
        used=count,
        held=count if line.model.reusable else 0,
        balanced=True,
    )
    return msgspec.structs.replace(entry, **change)


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def _with_server(serve: Serve, client: Callable[[int], Awaitable[None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(60):
            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            async with server:
                await client(server.sockets[0].getsockname()[1])

    asyncio.run(run())


def test_a_connection_is_reset_after_the_request_is_out() -> None:
    """The fault that the fleet injects: the server has the request, the client no answer."""
    seen: list[object] = []
    heard = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readexactly(4))
        try:
            seen.append(await reader.read())
        except ConnectionResetError as error:
            seen.append(type(error))
        heard.set()
        writer.close()

    async def client(port: int) -> None:
        await wire.Wire("127.0.0.1", port).post_and_reset(b"POST", 0.5)
        await heard.wait()

    _with_server(serve, client)
    assert [b"POST", ConnectionResetError] == seen


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhal",
        b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n",
        b"SSH-2.0\r\n\r\n",
    ],
)
def test_what_is_no_whole_answer_is_none(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(4)
        writer.write(answer)
        writer.close()

    async def client(port: int) -> None:
        with pytest.raises(wire.Unanswered):
            await wire.Wire("127.0.0.1", port).post(b"POST")

    _with_server(serve, client)


def test_a_repeat_with_other_bytes_is_counted_as_differing() -> None:
    """I5: one id, one answer. A gateway that answers a repeat anew is found out."""
    served = 0
    enough = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                await reader.readexactly(int(head.lower().split("content-length: ")[1].split()[0]))
                served += 1
                if served >= ENOUGH:
                    enough.set()
                body = b'{"features":[],"statusList":[],"number":%d}' % served
                writer.write(b"HTTP/1.1 200 OK\r\nIdempotency-Replayed: true\r\n")
                writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    tally = Tally()

    async def client(port: int) -> None:
        nonlocal tally
        seal = with_token("t")
        speakers = [
            AccessSpeaker(number=number, seed=1, instance=INSTANCE, seal=seal, lines=BY_FEATURE)
            for number in range(2)
        ]
        fleet = Fleet(("127.0.0.1", port), speakers)
        tally, stop = fleet.tally, asyncio.Event()
        work = asyncio.create_task(fleet.work(stop))
        await enough.wait()
        stop.set()
        await work

    _with_server(serve, client)
    assert tally.repeats == tally.differing > 0
    assert tally.unanswered == 0
