"""How an outbox stands, for whoever watches: how old its oldest usage is, and what waits for a
person.

Decided here: what is read of it, and how much at most: what is beyond READ_FIELDS_MAX may be older
than is told. Read for people and alarms; the forwarder reads for itself (outbox.py). Nothing is
written. Source: INTERFACE 5, DESIGN 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from gateway.core.ports import Standing
from gateway.core.usage import Row, Scope, covers, units_by_scope
from gateway.store.durable import answered
from gateway.store.keys import InstanceKeys
from gateway.store.rows import decode_rows, mark_of, row_of
from gateway.store.topology import Client
from gateway.store.walks import steps

READ_FIELDS_MAX: Final = 5_000  # of the open rows of one outbox
HOUR_MS: Final = 3_600_000

_decode_facts: Final = msgspec.msgpack.Decoder(tuple[Standing, str, int, int, int]).decode


class OutboxStanding(msgspec.Struct, frozen=True):
    """How one outbox stands. `oldest_ms` is the beginning of the hour that the oldest row which is
    to be sent belongs to; None: there is none.

    `attempts` are those of the batch under way, 0 when there is none or it was not sent yet;
    `first_sent_ms` is when the earliest of them began whose outcome is not known.
    """

    oldest_ms: int | None = None
    blocked_rows: int = 0
    parked: int = 0
    dead: int = 0
    attempts: int = 0
    first_sent_ms: int | None = None


async def read_standing(
    client: Client, keys: InstanceKeys, upstream: str, *, by_host: bool
) -> OutboxStanding:
    """Read how the outbox of an instance stands. Raises Unavailable."""
    pipeline = client.pipeline(transaction=False)
    pipeline.hlen(keys.open(upstream))
    pipeline.hmget(keys.sealed(upstream), ["rows", "attempts", "first_sent_ms"])
    pipeline.hlen(keys.blocked(upstream))
    pipeline.hgetall(keys.refused(upstream))
    pipeline.exists(keys.aside(upstream))
    replies: Any = await answered(pipeline.execute())
    open_rows, (sealed, attempts, first_sent_ms), blocked, marks, aside = replies
    hours = [row.hour for row in (decode_rows(sealed) if sealed else ())]
    if open_rows:
        rows = await _open_rows(client, keys.open(upstream))
        carried = _carried(marks, rows)
        hours += [row.hour for row in rows if not covers(carried, row, by_host=by_host)]
    standings = await _asides(client, keys.aside(upstream)) if aside else []
    return OutboxStanding(
        min(hours) * HOUR_MS if hours else None,
        blocked,
        standings.count(Standing.PARKED),
        standings.count(Standing.DEAD),
        int(attempts or 0),
        int(first_sent_ms) if first_sent_ms else None,
    )


def _carried(marks: Mapping[bytes, bytes], rows: Sequence[Row]) -> set[Scope]:
    """Find what is not to be sent, since more was undone than used and it is not taken back.

    It waits for later use to be netted with, which may take years.
    """
    marked = {mark.scope for mark in (mark_of(*each) for each in marks.items()) if mark.carried}
    return {scope for scope, units in units_by_scope(marked, rows).items() if sum(units) < 0}


async def _open_rows(client: Client, key: str) -> list[Row]:
    rows: list[Row] = []
    async for fields in steps(client, key):
        rows += (row_of(field, units) for field, units in fields.items())
        if len(rows) >= READ_FIELDS_MAX:
            break
    return rows


async def _asides(client: Client, key: str) -> list[Standing]:
    """Say of each batch set aside how it stands; there are ASIDE_MAX of them at most."""
    names: Any = await answered(client.hkeys(key))
    facts = [name for name in names if name.endswith(b"|facts")]
    found: Any = await answered(client.hmget(key, facts)) if facts else []
    return [_decode_facts(each)[0] for each in found if each]
