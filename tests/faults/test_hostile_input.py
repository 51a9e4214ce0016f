"""Hostile input at every door of a served gateway: no 5xx, no 2xx without a credential, no trace.

Inputs of all kinds are sent as raw bytes over kept connections. After them the store has no key
outside its layout, and has counted what the answers say, to the unit; memory has not grown. The
seed is printed: `GATEWAY_FUZZ_SEED` repeats a run, with `GATEWAY_FUZZ_ONLY` one of its inputs.
`GATEWAY_FUZZ_INPUTS` says how many there are; with 100000 it is what RELIABILITY 4 row 15 asks for.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, Final

import pytest

from gateway.store.keys import InstanceKeys, PartitionKeys, address_logins, logins_under_way, pulse
from tests.faults import hostile_layout
from tests.faults.hostile_http import SILENCE, Answer, Books, Input, send_all
from tests.faults.hostile_inputs import SHARES, make, make_all
from tests.faults.hostile_jws import oracle_keys
from tests.faults.hostile_site import DESK, FLOATING, HOSTILE, INSTANCES, OTHER, Site, open_site
from tests.system.processes import Processes

INPUTS: Final = int(os.environ.get("GATEWAY_FUZZ_INPUTS", "8000"))
SEED: Final = os.environ.get("GATEWAY_FUZZ_SEED") or secrets.token_hex(4)
ONLY: Final = os.environ.get("GATEWAY_FUZZ_ONLY", "")
WARMING: Final = 500  # inputs before memory is looked at
AT_ONCE: Final = 16
MEMORY_BYTES_MAX: Final = 64 * 2**20
LINES: Final = {
    HOSTILE: {"L1", "L2", "L3"},
    DESK: {"L1", "L2", "L3"},
    FLOATING: {"units", "seats", "pages"},
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("hostile")
    processes = Processes(directory)
    try:
        yield open_site(directory, processes)
    finally:
        processes.close()


class Attack:
    """What was sent so far, what came back, and what of it was counted."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.kinds: Counter[tuple[str, int]] = Counter()
        self.books: Books = {}

    def judge(self, each: Input, answers: list[Answer]) -> None:
        """Hold what came back for one input against what may; book what was counted."""
        statuses = [answer.status for answer in answers] or [SILENCE]
        for status in statuses:
            self.statuses[status] += 1
            self.kinds[each.kind.partition(" ")[0], status] += 1
        shown = (
            f"seed {SEED}: {each}\nanswered {statuses} {[answer.body[:300] for answer in answers]}"
        )
        assert set(statuses) <= each.allowed, shown
        assert each.let_in or not any(200 <= status < 300 for status in statuses), shown
        for answer in answers:
            _judge_shape(answer, shown)
            if answer.status == 200 and each.counts is not None:
                for key, units in each.counts(answer).items():
                    self.books[key] = self.books.get(key, 0) + units


def _judge_shape(answer: Answer, shown: str) -> None:
    """See that a refusal is one of ours, or the bare one of a codec, and says nothing of us."""
    if answer.status < 400 or not answer.body:
        return
    if answer.headers.get("content-type") == "application/json":
        told = json.loads(answer.body)
        names = set(told) - {"error"}
        assert names in ({"key", "message", "arguments"}, {"status", "code", "message"}), shown
        assert len(answer.body) < 8_192, shown
    for word in (b"Traceback", b"gateway/", b"site-packages", b"redis", b"lua"):
        assert word not in answer.body, shown


@pytest.mark.faults
def test_hostile_inputs_are_refused_and_leave_nothing(site: Site) -> None:
    attack = Attack()
    asyncio.run(_sent(site, range(WARMING), attack))
    before = site.memory_bytes
    began_s = time.monotonic()
    if ONLY:
        print(make(SEED, int(ONLY), site))
        asyncio.run(_sent(site, range(int(ONLY), int(ONLY) + 1), attack))
    else:
        asyncio.run(_sent(site, range(WARMING, INPUTS), attack))
    span_s = time.monotonic() - began_s
    grown = site.memory_bytes - before
    print(
        f"\nseed {SEED}: {INPUTS} inputs, {(INPUTS - WARMING) / span_s:.0f}/s,"
        f" memory {grown / 2**20:+.1f} MiB, answers {dict(sorted(attack.statuses.items()))}"
    )
    assert grown < MEMORY_BYTES_MAX
    assert not any(status >= 500 for status in attack.statuses)
    _books_are_right(site, attack)
    log = site.gateway.log
    assert "unexpected" not in log, log[-4_000:]
    assert "broken_off" not in log, log[-4_000:]


async def _sent(site: Site, numbers: range, attack: Attack) -> None:
    address = (site.gateway.host, site.gateway.port)
    await send_all(address, make_all(SEED, numbers, site), AT_ONCE, attack.judge)


def _books_are_right(site: Site, attack: Attack) -> None:
    """Walk all keys, and balance what was acknowledged against what the answers said."""
    with site.store() as client:
        assert hostile_layout.foreign(client, INSTANCES) == []
        for instance, lines in LINES.items():
            assert hostile_layout.strange_fields(client, instance, lines) == []
        keys = InstanceKeys(OTHER, hostile_layout.PARTITIONS)
        assert client.exists(keys.used, keys.holds, keys.undo, keys.seen, keys.days(202611)) == 0
    acked = {key: units for key, units in site.balance().items() if units}
    assert acked == {key: units for key, units in attack.books.items() if units}


# The test itself --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nowhere() -> Any:
    """As much of a site as inputs are made from."""
    secrets_of = {"token": "t.t.t", "session": "s.s.s", "floating": "f.f.f"}
    return SimpleNamespace(**secrets_of, cookie="c.c.c", xsrf="x", keys=oracle_keys())


def test_the_same_seed_makes_the_same_inputs(nowhere: Any) -> None:
    """But for what is signed at a moment, with a random part: that is spoiled in the same way."""

    def made(seed: str) -> list[tuple[str, bytes]]:
        found = (make(seed, number, nowhere) for number in range(300))
        return [(each.kind, b"" if _is_of_now(each.kind) else each.raw) for each in found]

    assert made("a") == made("a")
    assert made("a") != made("b")


def _is_of_now(kind: str) -> bool:
    return kind.startswith(("payload", "token", "signed"))


def test_each_kind_is_sent_and_what_is_let_in_by_nobody_may_not_be_answered_well(
    nowhere: Any,
) -> None:
    kinds: Counter[str] = Counter()
    for number in range(600):
        each = make("kinds", number, nowhere)
        kinds[each.kind.partition(" ")[0].partition(",")[0]] += 1
        assert each.let_in or not any(200 <= status < 300 for status in each.allowed), each
        assert not any(status >= 500 for status in each.allowed), each
    assert len(kinds) >= len(SHARES) - 2, kinds  # some kinds are named alike


def test_every_key_of_the_layout_has_a_shape() -> None:
    """A key that is added to the layout needs a line in the walk's table."""
    keys = InstanceKeys(HOSTILE, hostile_layout.PARTITIONS)
    spelled = [getattr(keys, name) for name in InstanceKeys.__slots__]
    spelled = [each for each in spelled if isinstance(each, str) and each.startswith("gw:")]
    spelled.remove(keys.prefix)
    spelled += [keys.days(202611), keys.month(202612)]
    spelled += [
        getattr(keys, name)("up")
        for name in ("open", "sealed", "blocked", "refused", "aside", "sync")
    ]
    spelled += [keys.outcome("A" * 22), keys.explained("A" * 22), keys.logins("ann")]
    spelled += [
        keys.ended_session("x"),
        address_logins("::1", 256),
        logins_under_way(keys.logins("ann")),
        pulse(keys.cat),
    ]
    spelled += [getattr(PartitionKeys(7), name) for name in PartitionKeys.__slots__]
    for key in [*spelled, "gw:meta", pulse("gw:meta")]:
        assert hostile_layout.shape(key, [HOSTILE], ["up"]) is not None, key


@pytest.mark.parametrize(
    "key",
    [
        "gw:meta2", "x", "", "gw:{p256}:due", "gw:{p001}:due\n", "gw:{p001}:d:short",
        "gw:{p001}:l:a:u",
        f"gw:{{p001}}:i:{HOSTILE}:cat", "gw:{p089}:i:NOBODY:cat", "gw:{p001}:i:a{p002}:cat",
    ],
)  # fmt: skip
def test_a_key_that_is_not_of_the_layout_is_found(key: str) -> None:
    assert InstanceKeys(HOSTILE, 256).partition != 1
    assert hostile_layout.shape(key, [HOSTILE]) is None
