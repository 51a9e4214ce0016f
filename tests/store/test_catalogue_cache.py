"""Catalogues that are kept: ready or packed, bounded by bytes, and never another than was read."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, cast

import msgspec

from gateway.core.catalogue import CatalogueIndex
from gateway.core.model import UNITS_MAX, Catalogue, Line, Model
from gateway.store.catalogues import Catalogues, ready_bytes
from gateway.store.shelves import Shelf

NAMES: Final = [f"I{number}" for number in range(10)]


class _Client:
    """A store in memory that counts how often it is asked for an instance."""

    def __init__(self) -> None:
        self.blobs = {name: _blob(name, 1) for name in NAMES}
        self.asked: Counter[str] = Counter()

    async def hmget(self, key: str, fields: list[str]) -> list[bytes | None]:
        name = key.split(":")[3]
        self.asked[name] += 1
        found = self.blobs.get(name)
        return [None] * 3 if found is None else [b"%d" % found[0], found[1], None]


def _blob(name: str, version: int) -> tuple[int, bytes]:
    line = Line(
        id="L", feature="f", version="1.0", model=Model.METERED, count=None, capacity=UNITS_MAX
    )
    return version, msgspec.msgpack.encode(Catalogue(id=name, version=version, lines=(line,)))


def _play(
    scene: Callable[[_Client, Catalogues], Coroutine[Any, Any, None]], *, ready: int, packed: int
) -> None:
    """Give a scene catalogues with room for so many, ready and packed."""
    client = _Client()
    topology: Any = type("One", (), {"client": client})()
    size = len(client.blobs[NAMES[0]][1])
    catalogues = Catalogues(
        topology,
        cast(Any, None),
        4,
        _ready=Shelf(ready * ready_bytes(size)),
        _packed=Shelf(packed * 2 * size),
    )
    asyncio.run(scene(client, catalogues))


async def _get(catalogues: Catalogues, name: str) -> CatalogueIndex:
    index = await catalogues.get(name)
    assert index is not None
    return index


def test_what_is_used_stays_ready_and_what_is_not_is_packed() -> None:
    async def scene(client: _Client, catalogues: Catalogues) -> None:
        first = await _get(catalogues, "I0")
        for name in NAMES[1:]:
            await _get(catalogues, name)
            assert await _get(catalogues, "I0") is first
        assert len(catalogues._ready) == 3
        again = await _get(catalogues, "I1")
        assert again.catalogue.id == "I1"
        assert set(client.asked.values()) == {1}
        assert client.asked.total() == len(NAMES)

    _play(scene, ready=3, packed=100)


def test_what_was_packed_is_what_was_read() -> None:
    async def scene(client: _Client, catalogues: Catalogues) -> None:
        before = (await _get(catalogues, "I0")).catalogue
        await _get(catalogues, "I1")
        assert (await _get(catalogues, "I0")).catalogue == before
        assert client.asked["I0"] == 1

    _play(scene, ready=1, packed=100)


def test_who_is_on_neither_shelf_is_read_again() -> None:
    async def scene(client: _Client, catalogues: Catalogues) -> None:
        for name in [*NAMES, "I0"]:
            await _get(catalogues, name)
        assert client.asked["I0"] == 2
        assert (len(catalogues._ready), len(catalogues._packed)) == (1, 1)

    _play(scene, ready=1, packed=1)


def test_a_reading_replaces_what_was_kept_on_either_shelf() -> None:
    async def scene(client: _Client, catalogues: Catalogues) -> None:
        await _get(catalogues, "I0")
        await _get(catalogues, "I1")  # I0 is packed now
        client.blobs["I0"] = _blob("I0", 2)
        assert (await _get(catalogues, "I0")).catalogue.version == 1  # until somebody knows better
        await _get(catalogues, "I1")
        await catalogues.read("I0")
        await _get(catalogues, "I2")
        assert (await _get(catalogues, "I0")).catalogue.version == 2
        del client.blobs["I0"]
        assert await catalogues.read("I0") is None
        assert await catalogues.get("I0") is None

    _play(scene, ready=1, packed=100)


_MEASURED: Final = """
import gc, sys
from gateway.core.catalogue import CatalogueIndex
from gateway.core.keys import generate, public_der
from gateway.core.model import *
from gateway.store.catalogues import ready_bytes
from gateway.store.frames import Frames, StoreClock
import msgspec
def resident():
    with open("/proc/self/statm") as file: return int(file.read().split()[1]) * 4096
lines, count = int(sys.argv[1]), int(sys.argv[2])
key = Key("k", "RS256", public_der(generate("RS256").public_key()))
blob = msgspec.msgpack.encode(Catalogue(id="I", version=1, keys=(key,), lines=tuple(
    Line(id=f"LINE-{n:05d}", feature=f"feature-{n:05d}", version="1.0", model=Model.METERED,
         count=1000, capacity=1000) for n in range(lines))))
wants = [Want(f"feature-{n:05d}", "1.0", 1) for n in range(lines)]
frames = Frames(256, StoreClock())
def make():
    index = CatalogueIndex(msgspec.msgpack.decode(blob, type=Catalogue))
    for start in range(0, lines, 64):
        host = Host("string", "h")
        index.resolve(AccessRequest(host=host, wants=tuple(wants[start : start + 64])))
    index.ring
    frames.make(index, 1_700_000_000_000, 1_700_000_000_000)
    return index
make()
gc.collect()
before = resident()
kept = [make() for _ in range(count)]
print((resident() - before) / count / ready_bytes(len(blob)))
"""


def test_the_estimate_is_of_the_size_of_what_is_kept() -> None:
    """Of a small catalogue and of a large one, in a process of their own."""
    for lines, count in ((3, 3_000), (2_000, 20)):
        told = subprocess.run(
            [sys.executable, "-c", _MEASURED, str(lines), str(count)],
            capture_output=True,
            text=True,
            check=False,
            cwd=Path(__file__).parents[2],
        )
        assert told.returncode == 0, told.stderr
        assert 0.5 < float(told.stdout) < 2, (lines, told.stdout)
