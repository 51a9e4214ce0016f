"""A file that adds up and that no gateway wrote: refused in one sentence, changing nothing."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from gateway.core.backups import Begin, End, Entries, Frame, Header, Ids, KnownId, Part
from gateway.core.model import Attachment, Catalogue
from gateway.protocols.backup_file import BadBackup, read_frames
from gateway.service.backup import contents
from gateway.store.keys import LAYOUT_VERSION
from tests.service.backup_house import LINES, Site, over_two, restoring, written

HEADER = Header("1.0", LAYOUT_VERSION, 4, 1_900_000_000_000, True, {"default": "DEMO"})
CATALOGUE = Catalogue(id="DEMO", lines=LINES, upstreams=(Attachment("parent"),))
CAT = Part("cat", [(b"version", b"7"), (b"blob", msgspec.msgpack.encode(CATALOGUE))])
LEDGER = Part("ledger", [(b"seq", b"3"), (b"acked|L1", b"5"), (b"open|L1|parent", b"2")])
SEEN = Part("seen", [(b"h1", b"1900000000000")])
RECORD = Entries([("1-0", [b"what", b"discard"]), ("1-1", [b"what", b"restore"])])
OUTCOME = msgspec.msgpack.encode(["f", ["o"], "", 7, 3, "DEMO"])
IDS = Ids([KnownId("DEMO", "d", "x" * 22, 9, OUTCOME)])
WHOLE: list[Frame] = [HEADER, Begin("DEMO", 5), CAT, LEDGER, SEEN, RECORD, End("DEMO"), IDS]

Change = Callable[[], list[Frame]]


def instead(old: Frame, *new: Frame) -> list[Frame]:
    at = WHOLE.index(old)
    return [*WHOLE[:at], *new, *WHOLE[at + 1 :]]


def more(part: str, *pairs: tuple[bytes, bytes]) -> list[Frame]:
    return instead(SEEN, SEEN, Part(part, list(pairs)))


def known(**other: Any) -> list[Frame]:
    return instead(IDS, Ids([replace(IDS.ids[0], **other)]))


def blob(**other: Any) -> Part:
    made = msgspec.msgpack.encode(replace(CATALOGUE, **other))
    return Part("cat", [(b"version", b"7"), (b"blob", made)])


BAD: dict[str, list[Frame]] = {
    "own things": instead(HEADER, replace(HEADER, meta={"root": "x"})),
    "default": instead(HEADER, replace(HEADER, meta={"default": "a|b"})),
    "key": instead(HEADER, replace(HEADER, meta={"signing_key": "PEM"})),
    "layout": instead(HEADER, replace(HEADER, layout=LAYOUT_VERSION + 1)),
    "moment": instead(HEADER, replace(HEADER, at_ms=10**18)),
    "before all": instead(Begin("DEMO", 5)),
    "no end": instead(End("DEMO")),
    "another end": instead(End("DEMO"), End("SITE")),
    "twice": [*WHOLE, *WHOLE[1:7]],
    "name": instead(Begin("DEMO", 5), Begin("DE|MO", 5)),
    "ids within": instead(SEEN, IDS),
    "no catalogue": instead(CAT),
    "blob": instead(CAT, Part("cat", [(b"version", b"7"), (b"blob", b"\xc1")])),
    "version": instead(CAT, Part("cat", [(b"version", b"x"), CAT.pairs[1]])),
    "of another": instead(CAT, blob(id="SITE")),
    "part": more("secrets", (b"a", b"b")),
    "part of a key": more("open:a}b", (b"a", b"b")),
    "ledger": more("ledger", (b"seq", b"three")),
    "ledger's name": more("ledger", (b"\xff", b"3")),
    "ledger's size": more("ledger", (b"seq", b"9" * 40)),
    "epoch": more("ledger", (b"epoch_seq|x", b"3")),
    "usage": more("open:parent", (b"L1", b"5")),
    "usage of nobody": more("open:elsewhere", (b"L1", b"5")),
    "batch": more("sealed:parent", (b"id", b"b1"), (b"rows", b"\xc1"), (b"body", b"")),
    "half a batch": more("sealed:parent", (b"id", b"b1")),
    "score": more("lapse", (b"h1", b"soon")),
    "entries": instead(RECORD, Entries([("1-1", [b"a", b"b"]), ("1-0", [b"a", b"b"])])),
    "entry": instead(RECORD, Entries([("*", [b"a", b"b"])])),
    "odd entry": instead(RECORD, Entries([("1-0", [b"a"])])),
    "id's instance": known(instance="SITE"),
    "id's kind": known(kind="x"),
    "id's name": known(name="a}b"),
    "id's outcome": known(value=b"\xc1"),
    "outcome of another": known(value=msgspec.msgpack.encode(["f", ["o"], "", 7, 3, "SITE"])),
}  # fmt: skip


def test_what_the_bad_ones_are_made_of_is_good() -> None:
    header, (told,) = contents(read_frames(io.BytesIO(written(WHOLE))))
    assert header == HEADER
    assert (told.version, told.requests, told.acked, told.waiting) == (7, 3, 5, 2)
    assert (told.lines, told.hosts, told.ids) == (3, 1, 1)


@pytest.mark.parametrize("name", BAD)
def test_it_is_told_in_one_sentence(name: str) -> None:
    with pytest.raises(BadBackup) as caught:
        contents(read_frames(io.BytesIO(written(BAD[name]))))
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_nothing_is_changed_for_it(tmp_path: Path) -> None:
    async def story(a: Site, b: Site) -> None:
        await a.use("DEMO", "sessions", 5, "k1")
        before = await a.dump()
        for name, frames in BAD.items():
            with pytest.raises(BadBackup):
                await restoring(a.store, written(frames)).look()
            assert await a.dump() == before, name
        losses = await restoring(b.store, written(WHOLE)).look()
        assert losses.instances == ["DEMO"]

    over_two(tmp_path, story)
