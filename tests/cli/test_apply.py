"""`apply` over an embedded store: what is written, in which order, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from gateway.cli import main
from gateway.config import load_config
from gateway.core.decisions import Decision
from gateway.core.model import Catalogue
from gateway.core.provisioning_text import write_provisioning
from gateway.core.usage import Row
from gateway.store.asides import Asides
from gateway.store.catalogues import CatalogueConflict
from gateway.store.keys import META
from gateway.store.opening import Store
from gateway.store.rewriting import WRITE_TRIES_MAX, rewrite
from gateway.wiring_store import open_store

T = TypeVar("T")
encode = msgspec.msgpack.encode
LINE = """
[[instance.line]]
id = "L1"
feature = "f"
version = "1.0"
count = 5
model = "metered"
"""


def instance(name: str, *, default: bool = False, extra: str = "") -> str:
    return f'[[instance]]\nid = "{name}"\n{"default = true" if default else ""}\n{extra}\n{LINE}'


def apply(tmp_path: Path, text: str, *options: str) -> Result:
    file = tmp_path / "file.toml"
    file.write_text(text)
    data_dir = str(tmp_path / "var")
    return CliRunner().invoke(main, ["apply", str(file), "--data-dir", data_dir, *options])


def applied(tmp_path: Path, text: str) -> str:
    result = apply(tmp_path, text)
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def with_store(tmp_path: Path, story: Callable[[Store], Awaitable[T]]) -> T:
    async def told() -> T:
        async with open_store(load_config(None, {}, {"data_dir": tmp_path / "var"})) as store:
            return await story(store)

    return asyncio.run(told())


def catalogues(tmp_path: Path, *names: str) -> list[Catalogue | None]:
    async def read(store: Store) -> list[Catalogue | None]:
        found = [await store.catalogues.read(name) for name in names]
        return [index.catalogue if index else None for index in found]

    return with_store(tmp_path, read)


def default_of(tmp_path: Path) -> str | None:
    return with_store(tmp_path, lambda store: store.catalogues.default())


def test_file_is_written_once_and_again_changes_nothing(tmp_path: Path) -> None:
    text = instance("I", extra="[[instance.upstream]]\nname = 'up'")
    told = applied(tmp_path, text)
    assert "+ instance I, line L1: feature f, version 1.0, model metered, count 5\n" in told
    assert told.endswith("instance I is at version 1\n")
    before = catalogues(tmp_path, "I")
    assert applied(tmp_path, text) == "nothing to change\n"
    assert catalogues(tmp_path, "I") == before


def test_change_is_the_next_version(tmp_path: Path) -> None:
    applied(tmp_path, instance("I"))
    told = applied(tmp_path, instance("I").replace("5", "6"))
    assert told == "~ instance I, line L1: count 5 -> 6\ninstance I is at version 2\n"


def test_a_license_key_is_kept_by_its_stand_in(tmp_path: Path) -> None:
    sold = 'licensespring = { product = "P", license_key = "KEY-82" }\n'
    applied(tmp_path, instance("I") + sold)
    [before] = catalogues(tmp_path, "I")
    assert before is not None
    text = write_provisioning(before)
    assert "KEY-82" not in text
    assert applied(tmp_path, text) == "nothing to change\n"
    refused = apply(tmp_path, text.replace('id = "I"', 'id = "OTHER"'))
    assert refused.exit_code == 2
    assert "stands for no license_key here" in refused.stderr
    assert catalogues(tmp_path, "I", "OTHER") == [before, None]


def test_dry_run_shows_the_difference_and_writes_nothing(tmp_path: Path) -> None:
    result = apply(tmp_path, instance("I"), "--dry-run")
    assert result.exit_code == 0
    assert result.stdout.endswith("dry run: nothing was written\n")
    assert catalogues(tmp_path, "I") == [None]


def test_one_problem_leaves_all_instances_unwritten(tmp_path: Path) -> None:
    applied(tmp_path, instance("I"))
    before = catalogues(tmp_path, "I", "J")
    text = instance("I").replace("metered", "concurrent") + instance("J")
    result = apply(tmp_path, text)
    assert result.exit_code == 2
    assert "instance I, line L1: model cannot change from metered" in result.stderr
    assert result.stdout == ""
    assert catalogues(tmp_path, "I", "J") == before


def test_default_moves_also_from_an_instance_that_the_file_does_not_name(tmp_path: Path) -> None:
    applied(tmp_path, instance("A", default=True))
    assert default_of(tmp_path) == "A"
    told = applied(tmp_path, instance("B", default=True))
    assert "~ instance A: default true -> false\n" in told
    assert told.index("instance A is at version 2") < told.index("instance B is at version 1")
    assert default_of(tmp_path) == "B"
    former, present = catalogues(tmp_path, "A", "B")
    assert former is not None
    assert present is not None
    assert (former.default, present.default) == (False, True)


def test_default_that_is_given_up_is_nobody(tmp_path: Path) -> None:
    applied(tmp_path, instance("A", default=True))
    applied(tmp_path, instance("A"))
    assert default_of(tmp_path) is None


def test_default_is_settled_after_an_end_in_the_middle(tmp_path: Path) -> None:
    applied(tmp_path, instance("A", default=True))
    with_store(tmp_path, lambda store: store.client.hdel(META, "default"))
    assert applied(tmp_path, instance("A", default=True)) == "nothing to change\n"
    assert default_of(tmp_path) == "A"


ATTACHED = instance("I", extra="[[instance.upstream]]\nname = 'up'")
WAITING = "usage waits for it: 3 open and 4 sealed and 5 parked and 6 dead of line L1"


def leave_waiting(tmp_path: Path, **places: int) -> None:
    """Let units wait for the upstream in these places, as a forwarder leaves them."""

    async def story(store: Store) -> None:
        keys = store.catalogues.keys("I")
        ledger = {f"{place}|L1|up": units for place, units in places.items()}
        ledger |= {f"{word}|L1": sum(places.values()) for word in ("acked", "days")}
        await store.client.hset(keys.ledger, mapping=ledger)  # type: ignore[arg-type]
        packed = {place: encode([Row("L1", 1, "", units)]) for place, units in places.items()}
        if "open" in places:
            await store.client.hset(keys.open("up"), "L1|1", places["open"])
        if "sealed" in places:
            fields = {"id": "s", "rows": packed["sealed"], "body": b"x", "attempts": 0}
            await store.client.hset(keys.sealed("up"), mapping=fields)
        for place in {"parked", "dead"} & places.keys():
            facts = encode((place, "why", 1, 0, 1))
            fields = {f"{place}|facts": facts, f"{place}|rows": packed[place], f"{place}|body": b""}
            await store.client.hset(keys.aside("up"), mapping=fields)

    with_store(tmp_path, story)


def dump(tmp_path: Path) -> tuple[dict[bytes, bytes], list[bytes], list[Decision]]:
    """Give ledger, keys and record of the instance."""

    async def story(store: Store) -> tuple[dict[bytes, bytes], list[bytes], list[Decision]]:
        keys = store.catalogues.keys("I")
        names = sorted(await store.client.keys(keys.prefix + "*"))
        asides = Asides(store.topology, store.scripts, store.partitions)
        ledger = await store.client.hgetall(keys.ledger)
        return ledger, names, await asides.decisions("I")

    return with_store(tmp_path, story)


@pytest.mark.slow  # several commands over a store each
@pytest.mark.parametrize("place", ["open", "sealed", "parked", "dead"])
def test_upstream_with_usage_waiting_is_not_detached(tmp_path: Path, place: str) -> None:
    applied(tmp_path, ATTACHED)
    leave_waiting(tmp_path, **{place: 3})
    before = catalogues(tmp_path, "I"), dump(tmp_path)
    result = apply(tmp_path, instance("I"))
    assert (result.exit_code, result.stdout) == (2, "")
    said = f"upstream up cannot be detached, usage waits for it: 3 {place} of line L1"
    assert said in result.stderr
    assert "--discard up" in result.stderr
    assert (catalogues(tmp_path, "I"), dump(tmp_path)) == before


def test_upstream_without_usage_waiting_is_detached(tmp_path: Path) -> None:
    applied(tmp_path, ATTACHED)
    assert "- instance I, upstream up\n" in applied(tmp_path, instance("I"))


@pytest.mark.slow  # several commands over a store
def test_discard_gives_up_what_waits_and_records_it(tmp_path: Path) -> None:
    applied(tmp_path, ATTACHED)
    leave_waiting(tmp_path, open=3, sealed=4, parked=5, dead=6)
    before = catalogues(tmp_path, "I"), dump(tmp_path)
    assert WAITING in apply(tmp_path, instance("I")).stderr
    dry = apply(tmp_path, instance("I"), "--discard", "up", "--dry-run")
    assert dry.exit_code == 0
    assert "- instance I, upstream up: 12 units are given up" in dry.stdout
    assert "6 units of dead batches stay dead" in dry.stdout
    assert (catalogues(tmp_path, "I"), dump(tmp_path)) == before
    done = apply(tmp_path, instance("I"), "--discard", "up")
    assert (done.exit_code, done.stderr) == (0, "")
    assert dry.stdout.replace("dry run: nothing was written\n", "") in done.stdout
    (catalogue,) = catalogues(tmp_path, "I")
    assert catalogue is not None
    assert catalogue.upstreams == ()
    ledger, names, (decision,) = dump(tmp_path)
    sums = {place: int(ledger[f"{place}|L1|up".encode()]) for place in ("open", "sealed", "parked")}
    assert sums == {"open": 0, "sealed": 0, "parked": 0}
    assert int(ledger[b"dead|L1|up"]) == 18
    assert not [name for name in names if name.endswith(b":up")]
    assert (decision.what, decision.upstream, decision.units) == ("discard", "up", "L1=12")
    assert decision.why == "detached with --discard"
    assert "@" in decision.who


@pytest.mark.slow  # several commands over a store each
@pytest.mark.parametrize("kept", [True, False])
def test_discard_of_an_upstream_that_is_not_detached_is_bad_input(
    tmp_path: Path, kept: bool
) -> None:
    applied(tmp_path, ATTACHED)
    leave_waiting(tmp_path, open=3)
    before = catalogues(tmp_path, "I"), dump(tmp_path)
    name, text = ("up", ATTACHED) if kept else ("other", instance("I"))
    result = apply(tmp_path, text, *(["--discard", "up"] if not kept else []), "--discard", name)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"--discard {name}: this file detaches no upstream of that name" in result.stderr
    assert (catalogues(tmp_path, "I"), dump(tmp_path)) == before


def test_public_file_is_found_beside_the_file(tmp_path: Path) -> None:
    CliRunner().invoke(main, ["keys", "generate", "--out", str(tmp_path / "keys")])
    text = instance("I") + "[[instance.key]]\nkid = 'k1'\npublic_file = 'keys/public.pem'\n"
    assert "+ instance I, key k1: alg RS256" in applied(tmp_path, text)
    assert applied(tmp_path, text) == "nothing to change\n"


@pytest.mark.parametrize(("data", "sentence"), [(b"\xff", "is not UTF-8"), (b"[", "is not TOML")])
def test_file_that_is_none_is_a_sentence(tmp_path: Path, data: bytes, sentence: str) -> None:
    file = tmp_path / "file.toml"
    file.write_bytes(data)
    result = CliRunner().invoke(main, ["apply", str(file), "--data-dir", str(tmp_path / "var")])
    assert (result.exit_code, sentence in result.stderr) == (2, True)
    assert not (tmp_path / "var").exists()


def test_overtaken_write_is_made_again_a_few_times(tmp_path: Path) -> None:
    async def story(store: Store) -> tuple[int, int]:
        edits = 0

        async def overtake(name: str) -> None:
            found = await store.catalogues.read("I")
            assert found is not None
            await store.catalogues.put(replace(found.catalogue, name=name))

        class Overtaken:
            """The catalogues; somebody else writes before each of the first `times` writes."""

            def __init__(self, times: int) -> None:
                self.times = times
                self.read = store.catalogues.read

            async def put(self, catalogue: Catalogue, _discards: object) -> Catalogue:
                nonlocal edits
                edits += 1
                if edits <= self.times:
                    await overtake(f"somebody {edits}")
                return await store.catalogues.put(catalogue)

        await store.catalogues.put(Catalogue(id="I"))
        written = await rewrite(
            Overtaken(2),  # type: ignore[arg-type]
            "I",
            lambda current: replace(current, default=True),
        )
        assert (written.name, written.default) == ("somebody 2", True)
        edits = 0
        with pytest.raises(CatalogueConflict):
            await rewrite(
                Overtaken(99),  # type: ignore[arg-type]
                "I",
                lambda current: replace(current, default=False),
            )
        return written.version, edits

    assert with_store(tmp_path, story) == (4, WRITE_TRIES_MAX)
