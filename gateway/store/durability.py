"""How safe a count is when it is acknowledged: what follows each call that must be safe.

Decided here: the commands of each `ack` level and when the reply is enough. They go on the
connection that wrote, right behind the script; WAIT and WAITAOF speak for no other. Not decided
here: which server can keep the promise (strength.py), nor who is told when it is not kept in time
(lane.py, durable.py). Pure. Source: RELIABILITY 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

APPLIED_UNSAFE: Final = "Applied, but not yet as safe as asked for"
AHEAD_SHARE: Final = 0.25  # of the time there is: to receive is quicker than to sync

Command = tuple[str | int, ...]


@dataclass(frozen=True)
class Wait:
    """What a connection waits for behind what it wrote.

    `command` is without its time-out; () waits for nothing, as at `memory` and `written`. `ahead`
    goes before it and decides nothing: a replica tells what it has on its disk when it is asked,
    and else once a second. Asked by WAITAOF alone, it answers before it has synced; asked once
    more, as soon as all have received, it has (measured: 6 ms for 870 ms).
    """

    command: Command = ()
    ahead: Command = ()

    def commands(self, ms: int) -> list[Command]:
        """Give all that is sent, in order; together they answer within `ms`. The last one decides.

        Nothing is sent where there is nothing to wait for.
        """
        if not self.ahead:
            return [self.within(ms)] if self.command else []
        ahead_ms = max(1, int(ms * AHEAD_SHARE))
        return [(*self.ahead, ahead_ms), self.within(ms - ahead_ms)]

    def within(self, ms: int) -> Command:
        """Give what decides: it answers after `ms` at the latest (at least 1: 0 is for ever)."""
        return (*self.command, max(1, ms)) if self.command else ()

    def reached(self, reply: Any) -> bool:
        """Say whether its reply tells of enough: a number of replicas, or [here, on replicas]."""
        asked = self.command[1:]
        told = reply if isinstance(reply, (list, tuple)) else (reply,)
        return not asked or (
            len(told) == len(asked)
            and all(
                isinstance(have, int) and have >= int(want)
                for have, want in zip(told, asked, strict=True)
            )
        )


NO_WAIT: Final = Wait()


def wait_for(ack: str, replicas: int) -> Wait:
    """Give what a level of `redis.ack` waits for; `replicas` is `redis.ack_replicas`.

    A server without WAITAOF keeps `local` by syncing at each write, and then waits for nothing.
    """
    match ack:
        case "local":
            return Wait(("WAITAOF", 1, 0))
        case "replica":
            return Wait(("WAIT", replicas))
        case "replica_fsync":
            return Wait(("WAITAOF", 1, replicas), ahead=("WAIT", replicas))
    return NO_WAIT
