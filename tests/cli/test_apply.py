"""`apply` over an embedded store: what is written, in which order, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from gateway.cli import main
from gateway.cli.apply import WRITE_TRIES_MAX, rewrite
from gateway.config import load_config
from gateway.core.model import Catalogue
from gateway.store.catalogues import CatalogueConflict
from gateway.store.keys import META
from gateway.store.opening import Store
from gateway.wiring import open_store

T = TypeVar("T")
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


@pytest.mark.parametrize("field", ["open|L1|up", "sealed|L1|up"])
def test_upstream_with_usage_waiting_is_not_detached(tmp_path: Path, field: str) -> None:
    applied(tmp_path, instance("I", extra="[[instance.upstream]]\nname = 'up'"))
    before = catalogues(tmp_path, "I")

    def waiting(units: int) -> None:
        with_store(
            tmp_path,
            lambda store: store.client.hset(store.catalogues.keys("I").ledger, field, units),
        )

    waiting(-3)
    result = apply(tmp_path, instance("I"))
    assert result.exit_code == 2
    assert "upstream up cannot be detached, usage of line L1 waits for it" in result.stderr
    assert catalogues(tmp_path, "I") == before
    waiting(0)
    assert "- instance I, upstream up\n" in applied(tmp_path, instance("I"))


def test_discard_is_refused_as_long_as_it_is_not_built(tmp_path: Path) -> None:
    result = apply(tmp_path, instance("I"), "--discard", "up")
    assert (result.exit_code, "--discard is not built yet" in result.stderr) == (2, True)
    assert catalogues(tmp_path, "I") == [None]


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

            async def put(self, catalogue: Catalogue) -> Catalogue:
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
