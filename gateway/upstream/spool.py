"""The spool as an upstream: numbered files of usage events that people carry over an air gap. Pure.

Decided here: the bytes of a file and its name, its last line (the trailer, with checksum and
signature), and what a receipt is: the trailers of the files that were taken over. Not decided here:
how a file comes to be on a disk (spooling.py), what the events say (cloudevents.py), and what is
settled by a receipt. A receiver needs no tool of ours: `head -n -1 FILE | sha256sum` gives the
checksum, and `tail -qn1 *.ndjson > receipt.ndjson` writes the receipt. Source: DESIGN 5,
INTERFACE 1, 2 and 4, RFC 7515.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from gateway.core.errors import InvalidInput
from gateway.core.jws import parse, sign, verify
from gateway.core.keys import PrivateKey, PublicKey, algorithm_of, thumbprint
from gateway.core.model import Line, is_instance_id
from gateway.core.ports import Route, Sender
from gateway.core.usage import BATCH_ROWS_MAX, Batch, Choice
from gateway.upstream.cloudevents import events

SPOOL_TYP: Final = "usage-spool+jws"
NUMBER_MAX: Final = 10**15 - 1
FILE_BYTES_MAX: Final = 64 * 2**20  # 2,000 events have about 1 MB
TRAILER_BYTES_MAX: Final = 4_096  # with the longest RSA signature about 2,700
RECEIPT_LINES_MAX: Final = 100_000
RECEIPT_BYTES_MAX: Final = 128 * 2**20
RECEIPT_PROBLEMS_MAX: Final = 100  # told one by one; of more, how many
# A file of a batch is found again as long as its directory lasts; another one is a new spool.
ENDLESS_MS: Final = 100 * 365 * 86_400_000

_FILE_NAME: Final = re.compile(r"([0-9]{8,15})-([A-Za-z0-9._-]{1,64})\.ndjson")


class SpoolUpstream(msgspec.Struct, frozen=True, kw_only=True):
    """A spool directory, as configured; several gateways and upstreams may share one."""

    name: str
    directory: Path
    interval_s: float


class Trailer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The last line of a file: which batch it holds, and that we wrote these bytes.

    `rows` is the number of lines before it, `sha256` the checksum over all their bytes in
    hexadecimal, `signature` a compact JWS whose payload is `statement`. Only the form is certain:
    ask `check_trailer` whose it is.
    """

    number: Annotated[int, msgspec.Meta(ge=1, le=NUMBER_MAX)]
    batch: str
    instance: str
    upstream: str
    rows: Annotated[int, msgspec.Meta(ge=1, le=FILE_BYTES_MAX)]
    sha256: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
    signature: Annotated[str, msgspec.Meta(max_length=TRAILER_BYTES_MAX)]

    def __post_init__(self) -> None:
        for member in ("batch", "instance", "upstream"):
            if not is_instance_id(getattr(self, member)):
                raise ValueError(f"`{member}` is no id")

    @property
    def statement(self) -> bytes:
        """What is signed: the other members as JSON, sorted by name and without white space."""
        return _statement(msgspec.structs.asdict(self))

    @property
    def line(self) -> bytes:
        """The trailer as it stands in a file, line feed included."""
        return msgspec.json.encode(self) + b"\n"


_events: Final = msgspec.json.Encoder()
_trailer: Final = msgspec.json.Decoder(Trailer).decode


def route(upstream: SpoolUpstream, sender: Sender) -> Route:
    """Give the forwarder's view of this upstream."""
    return Route(
        name=upstream.name,
        sender=sender,
        encode=encode,
        interval_s=upstream.interval_s,
        horizon_ms=ENDLESS_MS,
        rows_max=BATCH_ROWS_MAX,
        by_row=True,
    )


def encode(choice: Choice, instance: str, batch_id: str, lines: Mapping[str, Line]) -> bytes:
    """Write the rows of a choice as NDJSON, an event a line; the trailer comes with the number."""
    return _events.encode_lines(events(choice.rows, instance, batch_id, lines))


def file_name(number: int, batch_id: str) -> str:
    """Name the file of a batch, so that names sort by number."""
    return f"{number:08d}-{batch_id}.ndjson"


def read_file_name(name: str) -> tuple[int, str] | None:
    """Read number and batch id from a file's name; None for a name that is not ours."""
    match = _FILE_NAME.fullmatch(name)
    if match is None:
        return None
    number = int(match[1])
    return (number, match[2]) if number and name == file_name(number, match[2]) else None


def trailer(number: int, batch: Batch, private: PrivateKey) -> Trailer:
    """Make the last line of a batch's file, signed by the gateway's own key.

    Raises ValueError for a body that is not whole lines: the caller's mistake.
    """
    if not batch.body.endswith(b"\n"):
        raise ValueError("The body of a spool batch ends with a line feed")
    said = {
        "number": number,
        "batch": batch.id,
        "instance": batch.instance,
        "upstream": batch.upstream,
        "rows": batch.body.count(b"\n"),
        "sha256": hashlib.sha256(batch.body).hexdigest(),
    }
    kid = thumbprint(private.public_key())
    header = {"alg": algorithm_of(private), "typ": SPOOL_TYP, "kid": kid}
    signature = sign(header, _statement(said), private).decode("ascii")
    return msgspec.convert(said | {"signature": signature}, Trailer)


def read_trailer(line: bytes) -> Trailer:
    """Read a trailer from its line, strictly; white space around it is ignored.

    At most TRAILER_BYTES_MAX bytes. Raises InvalidInput, whose sentence names what is wrong.
    """
    if len(line) > TRAILER_BYTES_MAX:
        raise InvalidInput(f"Too long for a trailer, which has at most {TRAILER_BYTES_MAX} bytes")
    try:
        return _trailer(line)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"Not the last line of a spool file: {error}") from error


def check_trailer(trailer: Trailer, *publics: PublicKey) -> bool:
    """Say whether one of our keys signed exactly what the trailer says. Never raises."""
    if not trailer.signature.isascii():
        return False
    parsed = parse(trailer.signature.encode("ascii"), max_bytes=TRAILER_BYTES_MAX)
    if parsed is None or len(parsed.header) != 3 or parsed.header.get("typ") != SPOOL_TYP:
        return False
    # Byte by byte, since two JSON texts may read alike and only one was signed.
    if parsed.payload != trailer.statement:
        return False
    kid = parsed.header.get("kid")
    return any(
        kid == thumbprint(public) and verify(parsed, algorithm_of(public), public)
        for public in publics
    )


def open_file(data: bytes) -> tuple[bytes, Trailer]:
    """Take a file apart into its events and its trailer, whose checksum fits.

    At most FILE_BYTES_MAX bytes. Raises InvalidInput for what is no whole file of ours, or was
    changed; the signature is another question (`check_trailer`).
    """
    if len(data) > FILE_BYTES_MAX:
        raise InvalidInput(f"Larger than a spool file, which has at most {FILE_BYTES_MAX} bytes")
    if not data.endswith(b"\n"):
        raise InvalidInput("The file ends in the middle of a line")
    end = data.rfind(b"\n", 0, len(data) - 1) + 1
    body, last = data[:end], read_trailer(data[end:])
    if hashlib.sha256(body).hexdigest() != last.sha256:
        raise InvalidInput("The checksum in the last line is not that of the lines before it")
    return body, last


def read_receipt(text: bytes) -> list[Trailer]:
    """Read a receipt: trailers, one a line, in their order; a batch named twice counts once.

    Blank lines are ignored. Raises InvalidInput with all that is wrong, by line number, when a line
    is no trailer, or two say different things of one batch; then nothing of it is to be settled.
    Signatures are not checked here. Bounds: RECEIPT_BYTES_MAX, RECEIPT_LINES_MAX.
    """
    if len(text) > RECEIPT_BYTES_MAX:
        raise InvalidInput(f"A receipt has at most {RECEIPT_BYTES_MAX} bytes")
    if text.count(b"\n") > RECEIPT_LINES_MAX:
        raise InvalidInput(f"A receipt has at most {RECEIPT_LINES_MAX} lines")
    found: dict[str, tuple[int, Trailer]] = {}
    problems = []
    for number, line in enumerate(text.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            one = read_trailer(line)
        except InvalidInput as error:
            problems.append(f"line {number}: {error.message}")
            continue
        first, other = found.setdefault(one.batch, (number, one))
        if other.statement != one.statement:
            problems.append(f"line {number}: batch {one.batch} reads otherwise on line {first}")
    if problems:
        more = len(problems) - RECEIPT_PROBLEMS_MAX
        raise InvalidInput(
            *problems[:RECEIPT_PROBLEMS_MAX], *([f"and {more} more"] if more > 0 else [])
        )
    return [one for _, one in found.values()]


def _statement(members: dict[str, Any]) -> bytes:
    said = {name: value for name, value in members.items() if name != "signature"}
    return msgspec.json.encode(said, order="sorted")
