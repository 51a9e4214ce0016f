"""What is recorded of one line, and what all lines denied on one day, read by name.

Decided here: that what a page shows of a line costs the same however many lines there are: fields
are asked for by their names, and a day's denials are picked out by the store. Not decided here:
what the fields come to (service/line_days.py, service/line_books.py). Nothing is written.
Source: DESIGN 4, SEMANTICS 11.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Final

import msgspec

from gateway.core.model import Code
from gateway.core.periods import day_number
from gateway.store.durable import answered
from gateway.store.keys import InstanceKeys
from gateway.store.ledgers import UpstreamSums
from gateway.store.topology import Client
from gateway.store.walks import Fields, steps

PAGE_FIELDS: Final = 4_000  # asked for at a time; holds the store for about 2 ms
DAYS_MAX: Final = 62  # of a line, read at once: some 900 fields

_KINDS: Final = ("u", "b", "p", "h", *(f"d:{code}" for code in Code))
_SUMS: Final = ("base", "open", "sealed", "forwarded", "parked", "dead")


class LineSums(msgspec.Struct, frozen=True):
    """The sums of a line's books at one moment. `acked` is since its first unit."""

    acked: int
    days: int
    upstreams: Mapping[str, UpstreamSums]


async def read_line_sums(
    client: Client, keys: InstanceKeys, line: str, upstreams: Sequence[str]
) -> LineSums:
    """Read what became of a line's units. Raises Unavailable; a retry is safe."""
    fields = [f"acked|{line}", f"days|{line}"]
    fields += [f"{kind}|{line}|{name}" for name in upstreams for kind in _SUMS]
    found: Any = await answered(client.hmget(keys.ledger, fields))
    acked, days, *sums = (int(units or 0) for units in found)
    width = len(_SUMS)
    return LineSums(
        acked,
        days,
        {
            name: UpstreamSums(*sums[place * width : (place + 1) * width])
            for place, name in enumerate(upstreams)
        },
    )


async def read_line_days(
    client: Client, keys: InstanceKeys, line: str, days: Sequence[date]
) -> dict[int, Fields]:
    """Read what is recorded of a line on some days, at most DAYS_MAX, by month (yyyymm).

    Only what is kept by the day; a month that was folded has none. Raises Unavailable, ValueError.
    """
    if len(days) > DAYS_MAX:
        raise ValueError(f"{len(days)} days, at most {DAYS_MAX}")
    names: dict[int, list[str]] = {}
    for day in days:
        number = day_number(day)
        fields = (f"{line}|{number}|{kind}" for kind in _KINDS)
        names.setdefault(number // 100, []).extend(fields)
    pipeline = client.pipeline(transaction=True)  # a unit of yesterday's is not read twice
    for month, wanted in names.items():
        pipeline.hmget(keys.days(month), wanted)
    replies: Any = await answered(pipeline.execute())
    return {
        month: {
            name.encode(): value
            for name, value in zip(wanted, values, strict=True)
            if value is not None
        }
        for (month, wanted), values in zip(names.items(), replies, strict=True)
    }


async def read_denials(client: Client, keys: InstanceKeys, day: date) -> dict[tuple[str, str], int]:
    """Read what was denied on a day, by line and code; the line is "" of a feature that none has.

    Raises Unavailable; a retry is safe.
    """
    number = day_number(day)
    found: dict[tuple[str, str], int] = {}  # by field: the walk may come by one twice
    wanted = f"*|{number}|d:*"
    async for fields in steps(client, keys.days(number // 100), match=wanted, count=PAGE_FIELDS):
        for name, count in fields.items():
            line, _, kind = name.decode().split("|", 2)
            found[line, kind.removeprefix("d:")] = int(count)
    return found
