"""What other servers consumed of the lines that a cloud sells to several of them.

Decided here: that it is noted under the lease of whoever speaks with the cloud, per line and reset
period, and how long it is kept. Not decided here: how it is computed (core/elsewhere.py) and what
it means: it is not available here (lua/rules.lua). Source: DESIGN 4.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

import msgspec

from gateway.core.catalogue import period_of
from gateway.core.model import Line
from gateway.core.ports import Step
from gateway.store.durable import Durable, answered
from gateway.store.keys import InstanceKeys
from gateway.store.scripts import Scripts
from gateway.store.topology import Client

TAKEN_MAX: Final = 1_000  # noted in one call: some milliseconds of the store's time

_encode: Final = msgspec.msgpack.Encoder().encode


class Taken(msgspec.Struct, frozen=True, array_like=True):
    """Units that others consumed of a line in a period, below 0 when more came back to them.

    Forgotten at `until_ms`, together with the line's own `used` of that period; 0: never.
    """

    line: str
    label: str
    units: int
    until_ms: int

    @classmethod
    def at(cls, line: Line, at_ms: int, units: int) -> Taken:
        """Give what was consumed of a line in its period at a moment."""
        label, end_ms = period_of(line, at_ms)
        return cls(line.id, label, units, end_ms and end_ms + line.undo_ms + 1)


async def note_elsewhere(
    durable: Durable, scripts: Scripts, keys: InstanceKeys, holder: str, taken: Sequence[Taken]
) -> Step:
    """Set what others consumed; DONE, or LEASE_LOST, and what is not noted by then is not.

    `holder` has the lease of the instance's partition. Raises Unavailable; a repeat is safe.
    """
    for start in range(0, len(taken), TAKEN_MAX):
        reply = await durable.write(
            scripts.elsewhere,
            [keys.lease, keys.used, keys.lapse, keys.due],
            [holder, keys.instance, _encode(taken[start : start + TAKEN_MAX])],
        )
        if Step(reply) is not Step.DONE:
            return Step(reply)
    return Step.DONE


async def forget_elsewhere(
    durable: Durable, client: Client, keys: InstanceKeys, lines: Collection[str]
) -> None:
    """Forget what others consumed of lines that no cloud sells any more. Raises Unavailable."""
    if not lines:
        return
    found: Any = await answered(client.hkeys(keys.used))
    names = [name.decode() for name in found if name.startswith(b"elsewhere|")]
    gone = [name for name in names if name.split("|")[1] in lines]
    if gone:
        await durable.run("HDEL", keys.used, *gone)
