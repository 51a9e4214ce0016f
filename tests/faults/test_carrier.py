"""The carrier takes over what the spool's own writer wrote, once, and nothing that was touched."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from gateway.core.keys import PrivateKey, generate, public_pem
from gateway.core.model import Line, Model
from gateway.core.usage import Batch, Row, choose_events
from gateway.upstream.spool import SpoolUpstream, encode, read_receipt
from gateway.upstream.spooling import SpoolSender
from tests.faults.carrier import Carrier, signed_by
from tests.faults.checker import violations

PRIVATE = generate("EdDSA")
LINE = Line(id="L1", feature="sessions", version="1.0", model=Model.METERED, count=9, capacity=9)


def write(spool: Path, *batches: str, private: PrivateKey = PRIVATE) -> None:
    """Let the real writer put a file of 3 + 4 units in the spool for each batch."""
    upstream = SpoolUpstream(name="usb", directory=spool, interval_s=1)
    lines = {LINE.id: LINE}
    choice = choose_events([Row("L1", 494_000, "", 3), Row("L1", 494_001, "", 4)], lines)
    for batch in batches:
        body = encode(choice, "DEMO", batch, lines)
        sent = Batch(batch, "usb", "DEMO", choice.rows, body)
        asyncio.run(SpoolSender(upstream, private).send(sent))


def open_carrier(directory: Path, moved: float = 0.0) -> Carrier:
    signed = signed_by(public_pem(PRIVATE.public_key()))
    return Carrier(directory / "spool", directory / "office", 7, moved=moved, signed=signed)


def total(carrier: Carrier) -> int:
    return sum(units for each in carrier.evidence().accepted for units in each.units.values())


def test_every_file_is_taken_over_once_however_often_it_is_carried(tmp_path: Path) -> None:
    write(tmp_path / "spool", *"abcdefgh")
    carrier = open_carrier(tmp_path)
    looks = [carrier.look() for _ in range(20)]
    taken = [name for look in looks for name in look]
    assert 0 < len(looks[0]) < 8  # something was late
    assert len(taken) > len(set(taken)) == 8  # something was carried twice
    assert total(carrier) == 56
    assert (carrier.complaints, carrier.missing()) == ([], [])
    carrier.close()


def test_a_receipt_is_one_that_the_gateway_reads(tmp_path: Path) -> None:
    write(tmp_path / "spool", "a", "b")
    carrier = open_carrier(tmp_path)
    assert carrier.receipt() is None
    carrier.look(everything=True)
    receipt = carrier.receipt(everything=True)
    assert receipt is not None
    assert {each.batch for each in read_receipt(receipt.read_bytes())} == {"a", "b"}
    carrier.close()


def test_what_is_carried_away_is_no_longer_in_the_spool_and_has_its_number(tmp_path: Path) -> None:
    write(tmp_path / "spool", "a", "b")
    carrier = open_carrier(tmp_path, moved=1.0)
    carrier.look(everything=True)
    write(tmp_path / "spool", "a", "c")  # "a" is not written again
    assert [name.partition("-")[2] for name in carrier.look(everything=True)] == ["c.ndjson"]
    assert total(carrier) == 21
    assert (carrier.complaints, carrier.missing()) == ([], [])
    carrier.close()


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (b'"units":3', b'"units":2', "its checksum does not hold"),
        (b'"rows":2', b'"rows":3', "its signature does not hold"),
        (b'"batch":"a"', b'"batch":"z"', "its signature does not hold"),
        (b'"number":1,', b"", "its last line is no trailer"),
    ],
)
def test_a_file_with_something_amiss_is_not_taken(
    tmp_path: Path, old: bytes, new: bytes, why: str
) -> None:
    write(tmp_path / "spool", "a")
    (file,) = (tmp_path / "spool").glob("*.ndjson")
    content = file.read_bytes()
    assert content.count(old) == 1
    file.unlink()
    file.write_bytes(content.replace(old, new))
    carrier = open_carrier(tmp_path)
    assert carrier.look(everything=True) == []
    assert carrier.complaints == [f"{file.name}: {why}"]
    assert total(carrier) == 0
    carrier.close()


def test_a_file_of_another_signer_is_not_taken(tmp_path: Path) -> None:
    write(tmp_path / "spool", "a", private=generate("EdDSA"))
    carrier = open_carrier(tmp_path)
    assert carrier.look(everything=True) == []
    assert "its signature does not hold" in carrier.complaints[0]
    carrier.close()


def test_a_file_that_changes_after_it_was_taken_is_told(tmp_path: Path) -> None:
    write(tmp_path / "spool", "a", "b")
    carrier = open_carrier(tmp_path)
    carrier.look(everything=True)
    first, second = sorted((tmp_path / "spool").glob("*.ndjson"))
    content = second.read_bytes()
    first.unlink()
    first.write_bytes(content)
    carrier.look(everything=True)
    assert carrier.complaints == [f"{first.name} has changed"]
    carrier.close()


def test_one_batch_in_two_contents_is_for_the_checker_to_find(tmp_path: Path) -> None:
    write(tmp_path / "spool", "a")
    carrier = Carrier(tmp_path / "spool", tmp_path / "office", seed=7)
    carrier.look(everything=True)
    (file,) = (tmp_path / "spool").glob("*.ndjson")
    lines = {LINE.id: LINE}
    choice = choose_events([Row("L1", 494_000, "", 9)], lines)
    other = SpoolUpstream(name="usb", directory=tmp_path / "other", interval_s=1)
    sent = Batch("a", "usb", "DEMO", choice.rows, encode(choice, "DEMO", "a", lines))
    asyncio.run(SpoolSender(other, PRIVATE).send(sent))
    (copy,) = (tmp_path / "other").glob("*.ndjson")
    file.with_name("00000002-a.ndjson").write_bytes(
        copy.read_bytes().replace(b'"number":1', b'"number":2')
    )
    carrier.signed = lambda trailer: json.dumps(trailer) != ""
    carrier.look(everything=True)
    books = {"instances": [], "conservation": "OK"}
    assert violations(books, None, {"usb": carrier.evidence()}) == ["I7: usb saw a with 2 contents"]
    assert total(carrier) == 7
    carrier.close()
