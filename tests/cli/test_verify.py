"""`verify` shows the books, and its exit code says whether they balance (INTERFACE 1)."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from msgspec.structs import replace

from gateway.core.model import Attachment, Catalogue, Line, Model
from gateway.store.opening import open_store

CATALOGUE = Catalogue(
    id="DEMO",
    default=True,
    lines=(
        Line(id="L1", feature="sessions", version="1", model=Model.METERED, count=9, capacity=9),
        Line(id="L2", feature="seats", version="1", model=Model.CONCURRENT, count=3, capacity=3),
    ),
    upstreams=(Attachment("parent"),),
)
BALANCED = {"acked|L1": 42, "days|L1": 42, "open|L1|parent": 40, "forwarded|L1|parent": 2}


FORWARDED = {"forwarded|L1|parent": 50}


def store_with(data_dir: Path, ledger: Mapping[str, int]) -> None:
    async def main() -> None:
        async with open_store("embedded", data_dir, partitions=256) as store:
            await store.catalogues.put(CATALOGUE)
            keys = store.catalogues.keys("DEMO")
            await store.client.hset(keys.ledger, mapping=dict(ledger))
            await store.client.hset(keys.used, mapping={"L1|0": 42, "L2|0": 2})

    asyncio.run(main())


def command(data_dir: Path, *arguments: str) -> list[str]:
    program = "from gateway.cli import main; main()"
    return [sys.executable, "-c", program, "verify", "--data-dir", str(data_dir), *arguments]


def verify(data_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(data_dir, *arguments), capture_output=True, text=True, timeout=90, check=False
    )


@pytest.mark.slow
def test_balanced_books_are_shown_to_the_letter_and_exit_0(tmp_path: Path) -> None:
    store_with(tmp_path, BALANCED)
    told = verify(tmp_path, "DEMO", "--format", "json")
    assert told.returncode == 0, told.stderr
    lines = [
        {
            "id": "L1",
            "feature": "sessions",
            "upstream": "parent",
            "acked": 42,
            "forwarded": 2,
            "dead": 0,
            "parked": 0,
            "open": 40,
            "sealed": 0,
            "used": 42,
            "held": 0,
            "balanced": True,
            "carried": 0,
        },
        {
            "id": "L2",
            "feature": "seats",
            "upstream": None,
            "acked": 0,
            "forwarded": 0,
            "dead": 0,
            "parked": 0,
            "open": 0,
            "sealed": 0,
            "used": 2,
            "held": 2,
            "balanced": True,
            "carried": 0,
        },
    ]
    expected = {"instances": [{"id": "DEMO", "lines": lines}], "conservation": "OK"}
    assert expected == json.loads(told.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("which", [(), ("DEMO",), ("~",)])
def test_a_table_ends_with_the_verdict(tmp_path: Path, which: tuple[str, ...]) -> None:
    store_with(tmp_path, BALANCED)
    told = verify(tmp_path, *which)
    assert told.returncode == 0, told.stderr
    assert "sessions" in told.stdout
    assert told.stdout.splitlines()[-1] == "conservation: OK"


def test_a_difference_is_named_and_exits_1(tmp_path: Path) -> None:
    store_with(tmp_path, {**BALANCED, "forwarded|L1|parent": 1})
    told = verify(tmp_path)
    assert told.returncode == 1
    assert told.stdout.splitlines()[-1].startswith("conservation: DEMO line L1 to parent: 42 acked")
    as_json = json.loads(verify(tmp_path, "--format", "json").stdout)
    assert not as_json["instances"][0]["lines"][0]["balanced"]


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("--deep",)])
def test_an_instance_that_cannot_be_read_is_named_and_hides_no_other(
    tmp_path: Path, more: tuple[str, ...]
) -> None:
    store_with(tmp_path, BALANCED)

    async def damage() -> None:
        async with open_store("embedded", tmp_path, partitions=256) as store:
            await store.catalogues.put(replace(CATALOGUE, id="AAA", default=False))
            ledger = store.catalogues.keys("AAA").ledger
            await store.client.delete(ledger)
            await store.client.set(ledger, "no ledger")

    asyncio.run(damage())
    told = verify(tmp_path, *more)
    assert told.returncode == 1, told.stderr
    assert told.stdout.splitlines()[-1].startswith("conservation: AAA cannot be read: ")
    assert "WRONGTYPE" in told.stdout
    assert "seats" in told.stdout  # of the other one
    instances = json.loads(verify(tmp_path, *more, "--format", "json").stdout)["instances"]
    assert [(each["id"], len(each["lines"]), "unreadable" in each) for each in instances] == [
        ("AAA", 0, True),
        ("DEMO", 2, False),
    ]


@pytest.mark.slow
def test_a_carried_negative_is_marked_and_told_in_json(tmp_path: Path) -> None:
    store_with(tmp_path, {"acked|L1": 42, "days|L1": 42, "open|L1|parent": -8} | FORWARDED)
    mark = {"line": "", "host": "", "why": "", "since_ms": 1, "retry_ms": 2, "carried": True}

    async def carry() -> None:
        async with open_store("embedded", tmp_path, partitions=256) as store:
            keys = store.catalogues.keys("DEMO")
            await store.client.hset(keys.refused("parent"), "L1|", json.dumps(mark))
            await store.client.hset(keys.open("parent"), "L1|490000", -8)

    asyncio.run(carry())
    told = verify(tmp_path)
    assert told.returncode == 0, told.stderr
    assert "-8 (carried)" in told.stdout
    assert "forward list" not in told.stdout
    lines = json.loads(verify(tmp_path, "--format", "json").stdout)["instances"][0]["lines"]
    assert (lines[0]["open"], lines[0]["carried"]) == (-8, -8)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["parked", "dead"])
def test_a_table_points_to_what_a_person_can_decide(tmp_path: Path, place: str) -> None:
    store_with(tmp_path, {**BALANCED, "open|L1|parent": 30, f"{place}|L1|parent": 10})
    told = verify(tmp_path)
    assert told.returncode == 0, told.stderr
    assert "cmapi-gateway forward list" in told.stdout
    assert told.stdout.splitlines()[-1] == "conservation: OK"


@pytest.mark.slow
def test_parked_units_without_rows_are_a_difference_of_a_deep_look(tmp_path: Path) -> None:
    store_with(tmp_path, {**BALANCED, "open|L1|parent": 0, "parked|L1|parent": 40})
    assert verify(tmp_path).returncode == 0
    deep = verify(tmp_path, "--deep")
    assert deep.returncode == 1
    # The days come first: this ledger has no rows of any kind.
    assert "row by row (and 1 more)" in deep.stdout


@pytest.mark.slow
def test_only_a_deep_look_misses_rows(tmp_path: Path) -> None:
    store_with(tmp_path, BALANCED)
    assert verify(tmp_path).returncode == 0
    told = verify(tmp_path, "--deep")
    assert told.returncode == 1
    assert "row by row" in told.stdout


@pytest.mark.parametrize("name", ["NOBODY", "no such name"])
def test_an_instance_that_is_not_there_is_bad_input(tmp_path: Path, name: str) -> None:
    store_with(tmp_path, BALANCED)
    told = verify(tmp_path, name)
    assert (told.returncode, told.stdout) == (2, "")
    assert len(told.stderr.splitlines()) == 1


def test_an_empty_store_balances(tmp_path: Path) -> None:
    told = verify(tmp_path, "--format", "json")
    assert told.returncode == 0
    assert json.loads(told.stdout) == {"instances": [], "conservation": "OK"}


@pytest.mark.slow
def test_a_watch_looks_again_until_ctrl_c_and_ends_as_the_last_look_did(tmp_path: Path) -> None:
    store_with(tmp_path, BALANCED)
    with subprocess.Popen(
        command(tmp_path, "--watch", "--format", "json"),
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        assert process.stdout is not None
        try:
            looks = [json.loads(process.stdout.readline()) for _ in range(2)]
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()
    assert [look["conservation"] for look in looks] == ["OK", "OK"]
