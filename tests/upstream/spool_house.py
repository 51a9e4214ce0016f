"""What the tests of the spool's writer stand on: batches, and a look that checks the files."""

from __future__ import annotations

import asyncio
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.core.model import UNITS_MAX, Line, Model
from gateway.core.ports import Verdict
from gateway.core.usage import Batch, Choice, Row
from gateway.upstream.spool import SpoolUpstream, check_trailer, encode, open_file, read_file_name
from gateway.upstream.spooling import SpoolSender

PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))  # the same in every process
PUBLIC = PRIVATE.public_key()
LINES = {
    "L1": Line(
        id="L1",
        feature="sessions",
        version="1.0",
        model=Model.METERED,
        count=None,
        capacity=UNITS_MAX,
    )
}


def batch(batch_id: str, units: int = 1, rows: int = 3, upstream: str = "usb") -> Batch:
    of_batch = tuple(Row("L1", 495_000 + hour, "", units) for hour in range(rows))
    body = encode(Choice(rows=of_batch), "DEMO", batch_id, LINES)
    return Batch(batch_id, upstream, "DEMO", of_batch, body)


def send(directory: Path, one: Batch) -> Verdict:
    upstream = SpoolUpstream(name="usb", directory=directory, interval_s=60)
    return asyncio.run(SpoolSender(upstream, PRIVATE).send(one))


def files(directory: Path) -> dict[int, str]:
    """Give the batch ids of the visible files by number, each checked to be whole and ours."""
    found: dict[int, str] = {}
    for path in directory.iterdir():
        parts = read_file_name(path.name)
        if parts is None:
            continue
        body, last = open_file(path.read_bytes())
        assert check_trailer(last, PUBLIC)
        assert (last.number, last.batch) == parts
        assert last.number not in found
        assert body == batch(last.batch).body
        found[last.number] = last.batch
    assert len(set(found.values())) == len(found)
    return dict(sorted(found.items()))


def drafts(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir() if path.name.endswith(".draft")]
