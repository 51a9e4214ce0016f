"""The outbox's keys as plain values, and what they have to be by the specification's lanes.

Decided here: how batches, halves, rows, marks, what was set aside and the record are spelt in the
store, a second time and independently of it. Every field is kept, so that a stray one shows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from gateway.core.ports import Mark
from gateway.core.usage import Row
from gateway.store.keys import InstanceKeys
from tests.model.lane import Lane, Sealed

_rows: Final = msgspec.msgpack.Decoder(tuple[Row, ...]).decode


def plain_sealed(fields: dict[str, bytes]) -> dict[str, Any]:
    """Read a sealed batch: its fields, and the halves behind it, the next one last."""
    halves = [
        {"id": fields.pop(f"id.{n}"), "rows": _rows(fields.pop(f"rows.{n}")),
         "body": fields.pop(f"body.{n}")}
        for n in range(1, int(fields.pop("halves", 0)) + 1)
    ]  # fmt: skip
    plain = {name: text if name in ("id", "body") else int(text)
             for name, text in fields.items() if name != "rows"}  # fmt: skip
    return plain | {"rows": _rows(fields["rows"]), "halves": halves}


def plain_aside(fields: dict[str, bytes]) -> dict[str, Any]:
    """Read what was set aside, by field."""
    read: dict[str, Callable[[bytes], Any]]
    read = {"facts": msgspec.msgpack.decode, "rows": _rows, "body": bytes}
    return {name: read[name.rpartition("|")[2]](text) for name, text in fields.items()}


def plain_refused(fields: dict[str, bytes]) -> dict[str, Any]:
    """Read the marks, by field."""
    return {name: msgspec.json.decode(text, type=Mark) for name, text in fields.items()}


def plain_record(entries: list[tuple[bytes, dict[bytes, bytes]]]) -> list[dict[str, Any]]:
    """Read the record of decisions; when, which is the store's own clock's, is left out."""
    return [_noted({k.decode(): v.decode() for k, v in fields.items()}) for _, fields in entries]


def _noted(fields: dict[str, str]) -> dict[str, Any]:
    told = [entry.rpartition("=") for entry in fields["units"].split()]
    return fields | {"units": {line: int(units) for line, _, units in told if int(units)}}


def noted(fields: list[str], units: Mapping[str, int]) -> dict[str, Any]:
    """Give the entry of the record for a decision and what it was about."""
    said = dict(zip(fields[::2], fields[1::2], strict=True))
    return {**said, "units": {line: count for line, count in units.items() if count}}


def lane_keys(keys: InstanceKeys, lane: Lane) -> dict[str, Any]:
    """Spell a lane as its keys, but for open; keys without a field are left out."""
    up = lane.upstream
    aside: dict[str, Any] = {}
    for each in lane.asides.values():
        facts = [each.standing, each.why, each.at_ms, each.first_sent_ms, each.attempts]
        aside |= {f"{each.id}|facts": facts, f"{each.id}|rows": each.rows,
                  f"{each.id}|body": each.body}  # fmt: skip
    dump = {
        keys.sealed(up): _sealed(lane.batches),
        keys.blocked(up): {
            "|".join(map(str, row if row[2] else row[:2])): units
            for row, units in lane.blocked.items()
        },
        keys.refused(up): {f"{line}|{host}": mark for (line, host), mark in lane.marks.items()},
        keys.aside(up): aside,
    }
    return {key: value for key, value in dump.items() if value}


def lane_sums(lane: Lane) -> dict[str, int]:
    """Spell a lane's sums as fields of the ledger."""
    return {
        f"{place}|{line}|{lane.upstream}": units
        for place, of_line in lane.sums.items()
        for line, units in of_line.items()
    }


def _sealed(batches: list[Sealed]) -> dict[str, Any]:
    if not batches:
        return {}
    *halves, first = batches
    fields = {
        "id": first.id.encode(),
        "rows": first.rows,
        "body": first.body,
        "attempts": first.attempts,
        "first_sent_ms": first.doubt_ms,
        "first_attempt": first.doubted,
        "at_ms": first.began_ms,
        "halves": [
            {"id": half.id.encode(), "rows": half.rows, "body": half.body} for half in halves
        ],
    }
    return {name: value for name, value in fields.items() if value is not None}
