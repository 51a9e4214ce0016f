"""An outbox as a person looks at it: what waits since when, what is under way, what was set aside.

Decided here: what one look reads, and how much at most: of more than ROWS_LOOKED_MAX rows not all
are told of, and the ledger has the sums. Not decided here: what is made of it (service/), how the
forwarder reads for itself (outbox.py) and alarms do (standings.py). Nothing is written.
Source: DESIGN 4 and 5.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from gateway.core.ports import Mark
from gateway.core.usage import Row
from gateway.store.asides import Asides
from gateway.store.durable import answered
from gateway.store.rows import decode_rows, mark_of, row_of
from gateway.store.walks import scan, steps

ROWS_LOOKED_MAX: Final = 20_000  # of what is open, or blocked: about a tenth of a second

_SEALED: Final = ("id", "rows", "first_sent_ms", "attempts", "halves")


class UnderWay(msgspec.Struct, frozen=True):
    """The sealed batch. `behind`: halves of it that wait until it is settled.

    `first_sent_ms` is when the earliest attempt began whose outcome is not known, None when no
    attempt is in doubt.
    """

    id: str
    rows: tuple[Row, ...]
    first_sent_ms: int | None
    attempts: int
    behind: int

    @property
    def units(self) -> int:
        """What its rows come to."""
        return sum(row.units for row in self.rows)


class OutboxLook(msgspec.Struct, frozen=True):
    """What is in an outbox. `rows` are those of `open_rows` that were looked at; `carried` marks
    what the upstream does not take back.
    """

    open_rows: int
    blocked_rows: int
    rows: tuple[Row, ...]
    carried: tuple[Mark, ...]
    sealed: UnderWay | None


class Looks(Asides):
    """The outboxes of a store's instances, and what was taken out of them."""

    async def look(self, instance: str, upstream: str) -> OutboxLook:
        """Look at an outbox. Raises Unavailable."""
        keys = self._keys(instance)
        pipeline = self.client.pipeline(transaction=False)
        pipeline.hlen(keys.open(upstream))
        pipeline.hlen(keys.blocked(upstream))
        pipeline.hmget(keys.sealed(upstream), _SEALED)
        found: Any = await answered(pipeline.execute())
        open_rows, blocked_rows, sealed = found
        marks = [
            mark_of(*each) for each in (await scan(self.client, keys.refused(upstream))).items()
        ]
        fields: dict[bytes, bytes] = {}
        if open_rows:
            async for some in steps(self.client, keys.open(upstream)):
                fields.update(some)
                if len(fields) >= ROWS_LOOKED_MAX:
                    break
        return OutboxLook(
            open_rows=max(open_rows, len(fields)),
            blocked_rows=blocked_rows,
            rows=tuple(row_of(*each) for each in fields.items()),
            carried=tuple(mark for mark in marks if mark.carried),
            sealed=_under_way(sealed),
        )


def _under_way(fields: list[Any]) -> UnderWay | None:
    batch_id, rows, first_sent_ms, attempts, halves = fields
    if batch_id is None:
        return None
    return UnderWay(
        batch_id.decode(),
        decode_rows(rows),
        int(first_sent_ms) if first_sent_ms else None,
        int(attempts or 0),
        int(halves or 0),
    )
