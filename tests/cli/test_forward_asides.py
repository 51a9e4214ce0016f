"""`forward list|show|retry|discard|reconcile` and `--receipt`: what is printed, and exit codes."""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.core.keys import generate
from gateway.core.ports import Mark, Standing
from gateway.core.usage import Batch
from gateway.service.aside_words import plain
from gateway.store.signing import signing_key
from gateway.upstream.spool import trailer
from tests.store.outbox_house import INSTANCE, UPSTREAM, House, open_house
from tests.stores.homes import Home

pytestmark = pytest.mark.slow  # each a command over a store of its own; the story has quick tests

T = TypeVar("T")
MARK = Mark("L1", "", "sessions 1.0: LIMIT", since_ms=1_000, retry_ms=2_000)
BLOCKED = f"{INSTANCE}/{UPSTREAM}/L1"
WHY = ("--reason", "agreed with the vendor")
CONFIG = f"""
[[upstream]]
name = "{UPSTREAM}"
kind = "spool"
dir = "spool"
"""
CMAPI = '"cmapi"\nkey_file = "k"\nurl = "http://127.0.0.1/api"'


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "var"


def at(data_dir: Path, story: Callable[[House], Awaitable[T]]) -> T:
    async def told() -> T:
        async with open_house(Home(data_dir), partitions=256) as house:
            return await story(house)

    return asyncio.run(told())


def sums(data_dir: Path) -> dict[str, int]:
    return at(data_dir, lambda house: house.sums())["L1"]


def dump(data_dir: Path) -> dict[bytes, Any]:
    return at(data_dir, lambda house: house.dump())


def forward(data_dir: Path, *words: str) -> Result:
    return CliRunner().invoke(main, ["forward", *words, "--data-dir", str(data_dir)])


def told(data_dir: Path, *words: str) -> str:
    result = forward(data_dir, *words)
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return result.stdout


def set_aside(
    data_dir: Path, batch_id: str, standing: Standing, body: bytes | None = None
) -> Batch:
    async def story(house: House) -> Batch:
        await house.use("sessions", 42)
        return await house.put_aside(batch_id, standing, "why\x1b[2J", body=body)

    return at(data_dir, story)


def block(data_dir: Path) -> None:
    async def story(house: House) -> None:
        await house.use("sessions", 42)
        await house.block("b1", [MARK])

    at(data_dir, story)


def test_list_shows_a_row_for_each_and_says_when_there_is_none(data_dir: Path) -> None:
    assert told(data_dir, "list") == "nothing is set aside\n"
    assert told(data_dir, "list", "--decisions") == "nothing was decided\n"
    block(data_dir)
    set_aside(data_dir, "b2", Standing.DEAD)
    table = told(data_dir, "list")
    for word in (BLOCKED, "b2", "dead", "blocked", "L1=42", MARK.why, "forward show ADDRESS"):
        assert word in table
    assert "\x1b" not in table


def test_list_as_json_has_the_documented_members(data_dir: Path) -> None:
    set_aside(data_dir, "b1", Standing.PARKED)
    (item,) = json.loads(told(data_dir, "list", "--format", "json"))["aside"]
    since = item.pop("since")
    assert (since[:2], since[-1]) == ("20", "Z")
    assert item == {
        "address": "b1",
        "instance": INSTANCE,
        "upstream": UPSTREAM,
        "kind": "",
        "standing": "parked",
        "known": "in_doubt",
        "units": {"L1": 42},
        "attempts": 1,
        "why": "why\x1b[2J",
        "retry": None,
    }
    told(data_dir, "retry", "b1", *WHY, "--by", "dana")
    (decision,) = json.loads(told(data_dir, "list", "--decisions", "--format", "json"))["decisions"]
    assert decision.pop("when").endswith("Z")
    assert decision == {
        "who": "dana",
        "what": "retry",
        "instance": INSTANCE,
        "upstream": UPSTREAM,
        "subject": "b1",
        "units": {"L1": 42},
        "why": WHY[1],
    }


def test_show_tells_all_that_is_known_and_commands_that_work(data_dir: Path) -> None:
    set_aside(data_dir, "b1", Standing.PARKED)
    text = told(data_dir, "show", "b1")
    assert "no answer tells for sure" in text
    assert "body of b1" in text
    assert "\x1b" not in text
    shown = json.loads(told(data_dir, "show", "b1", "--format", "json"))
    assert [row["units"] for row in shown["rows"]] == [42]
    assert (shown["body"], shown["body_bytes"]) == ("body of b1", 10)
    whats = [each["what"] for each in shown["decisions"]]
    assert whats == ["retry", "discard", "reconcile --applied", "reconcile --not-applied"]
    command = shown["decisions"][2]["command"]
    assert command in text
    words = shlex.split(command)
    assert words[0] == "cmapi-gateway"
    assert CliRunner().invoke(main, words[1:]).exit_code == 2  # the reason is still to be given
    assert sums(data_dir) == {"parked": 42}
    done = CliRunner().invoke(main, [*words[1:-1], "seen in their log"])
    assert done.exit_code == 0, done.output
    assert sums(data_dir) == {"forwarded": 42}


@pytest.mark.parametrize(
    ("standing", "words", "place"),
    [
        (Standing.PARKED, ["reconcile", "--applied"], "forwarded"),
        (Standing.PARKED, ["reconcile", "--not-applied"], "open"),
        (Standing.DEAD, ["retry"], "open"),
        (None, ["discard"], "dead"),
    ],
)
def test_a_decision_is_carried_out_said_and_recorded_once(
    data_dir: Path, standing: Standing | None, words: list[str], place: str
) -> None:
    address = "b1" if standing else BLOCKED
    if standing:
        set_aside(data_dir, "b1", standing)
    else:
        block(data_dir)
    said = told(data_dir, *words, address, *WHY)
    assert said.startswith(f"{' '.join(words)} {address}: ")
    assert "units: L1=42" in said
    assert f": {WHY[1]}" in said.splitlines()[-1]
    assert sums(data_dir) == {place: 42}
    assert told(data_dir, "list") == "nothing is set aside\n"
    assert " ".join(words) in told(data_dir, "list", "--decisions")
    before = dump(data_dir)
    again = forward(data_dir, *words, address, *WHY)
    assert (again.exit_code, again.stdout) == (1, "")
    assert f"{' '.join(words)} ({WHY[1]})" in again.stderr
    assert before == dump(data_dir)


def test_a_retry_in_doubt_warns_that_units_may_count_twice(data_dir: Path) -> None:
    set_aside(data_dir, "b1", Standing.PARKED)
    assert "count twice" in told(data_dir, "retry", "b1", *WHY)


def test_bad_input_is_one_sentence_and_moves_nothing(data_dir: Path, tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text(CONFIG.replace('"spool"\ndir = "spool"', CMAPI))
    set_aside(data_dir, "b1", Standing.PARKED)
    before = dump(data_dir)
    for words, sentence in (
        (["retry", "b1"], "--reason is empty"),
        (["retry", "b1", "--reason", "a\x07b"], "control characters"),
        (["retry", "b1", "--reason", "x" * 501], "at most 500"),
        (["retry", "b1", *WHY, "--by", " "], "--by is empty"),
        (["retry", "b 1", *WHY], "is no address"),
        (["reconcile", "b1"], "with the idempotency key b1"),
        (["--once", "retry", "b1", *WHY], "exclude one another"),
        (["retry"], "Missing argument"),
    ):
        result = forward(data_dir, *words, "--config", str(config))
        assert (result.exit_code, result.stdout) == (2, "")
        assert sentence in result.stderr
        assert len(result.stderr.splitlines()) == 1
    assert before == dump(data_dir)


def test_what_was_not_applied_for_sure_is_not_reconciled(data_dir: Path) -> None:
    set_aside(data_dir, "b1", Standing.DEAD)
    before = dump(data_dir)
    for flag in ([], ["--applied"], ["--not-applied"]):
        result = forward(data_dir, "reconcile", "b1", *flag, *WHY)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "not applied for sure" in result.stderr
    assert before == dump(data_dir)


def test_a_further_command_that_is_none_is_bad_input(data_dir: Path) -> None:
    result = forward(data_dir, "sideways")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "No such command 'sideways'" in result.stderr


def test_common_options_may_stand_before_the_further_command(data_dir: Path) -> None:
    set_aside(data_dir, "b1", Standing.PARKED)
    words = ["forward", "--data-dir", str(data_dir), "list", "--format", "json"]
    result = CliRunner().invoke(main, words)
    assert [each["address"] for each in json.loads(result.stdout)["aside"]] == ["b1"]
    elsewhere = str(data_dir.with_name("elsewhere"))
    result = CliRunner().invoke(main, [*words, "--data-dir", elsewhere])
    assert json.loads(result.stdout)["aside"] == []


def receipt(data_dir: Path, *batches: Batch, forged: bool = False) -> Path:
    """Write a receipt for batches, as it would come back from where they were carried."""

    async def story(house: House) -> bytes:
        ours = await signing_key(house.store, "EdDSA", None, data_dir)
        key = generate("EdDSA") if forged else ours
        return b"".join(trailer(n, batch, key).line for n, batch in enumerate(batches, start=1))

    file = data_dir.with_name("receipt.ndjson")
    file.write_bytes(at(data_dir, story))
    return file


def test_a_receipt_settles_what_was_carried_over(data_dir: Path, tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text(CONFIG)
    batch = set_aside(data_dir, "b1", Standing.PARKED, b"event\n")
    shown = told(data_dir, "show", "b1", "--config", str(config))
    assert "A receipt of the file settles it" in shown
    assert "must not be taken over any more" in shown
    file = receipt(data_dir, batch)
    said = told(data_dir, "--receipt", str(file))
    assert said.splitlines() == [
        f"settled: batch b1 ({INSTANCE} -> {UPSTREAM}), 1 rows",
        "1 settled, 0 settled before, 0 not waiting",
    ]
    assert sums(data_dir) == {"forwarded": 42}
    decisions = told(data_dir, "list", "--decisions")
    assert "receipt.ndjson" in decisions
    before = dump(data_dir)
    assert "settled before: batch b1" in told(data_dir, "--receipt", str(file))
    assert before == dump(data_dir)


def test_what_is_not_waiting_fails_and_the_others_are_settled(data_dir: Path) -> None:
    batch = set_aside(data_dir, "b1", Standing.PARKED, b"event\n")
    unknown = Batch("b0", UPSTREAM, INSTANCE, (), b"event\n")
    result = forward(data_dir, "--receipt", str(receipt(data_dir, unknown, batch)))
    assert result.exit_code == 1
    assert f"batch b0 ({INSTANCE} -> {UPSTREAM}) is not waiting" in result.stderr
    assert "1 settled, 0 settled before, 1 not waiting" in result.stdout
    assert sums(data_dir) == {"forwarded": 42}


def test_a_receipt_that_is_not_whole_and_ours_settles_nothing(data_dir: Path) -> None:
    batch = set_aside(data_dir, "b1", Standing.PARKED, b"event\n")
    more = Batch("b2", UPSTREAM, INSTANCE, (), b"event\n")
    forged = receipt(data_dir, batch, more, forged=True).read_bytes()
    file = receipt(data_dir, batch, more)
    text = file.read_bytes()
    before = dump(data_dir)
    for bad in (forged, text.replace(b'"b2"', b'"b3"'), text[:-20], b"\n", None):
        file.unlink() if bad is None else file.write_bytes(bad)
        result = forward(data_dir, "--receipt", str(file))
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr
    assert before == dump(data_dir)


def test_nothing_that_a_terminal_would_obey_is_printed() -> None:
    assert plain("a\x1b[2Jb\nc") == "a\ufffd[2Jb\ufffdc"
    assert plain("a\x07\nc", keep="\n") == "a\ufffd\nc"
