"""The Lua scripts: read from the files beside, sent by digest, sent whole when the store forgot
them.

Decided here: how a script's text is put together (`#!lua`, a prelude with the clock, the file) and
which errors of the store mean that nothing was done. Not decided here: what a script does; each
file's head is its contract. The shebang makes the store refuse a script at its start when memory
is out, not in its middle.
"""

from __future__ import annotations

import hashlib
import re
from importlib import resources
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    TryAgainError,
)

_LUA: Final = resources.files("gateway.store") / "lua"

# Error replies that say the script did not run at all. Some pass by themselves.
REFUSALS: Final = (
    OutOfMemoryError,
    ReadOnlyError,
    BusyLoadingError,
    MasterDownError,
    NoScriptError,
    ClusterDownError,
    AskError,  # and MOVED, which is one
    TryAgainError,
    NoPermissionError,
    AuthenticationError,
)
REFUSAL_WORDS: Final = frozenset({"BUSY", "MISCONF", "NOREPLICAS"})
_OF_PIPELINE: Final = re.compile(r"of pipeline caused error: \(['\"](\w+)")  # as the client has it


# One script in rooms of a readable size; they share their locals, so the order is fixed.
APPLY_PARTS: Final = (
    *("note", "apply", "counters", "lapses", "rules", "request", "explain", "write", "run"),
)


def read_lua(name: str) -> str:
    """Give the text of one of the Lua files."""
    return (_LUA / f"{name}.lua").read_text(encoding="utf-8")


class Script:
    """One script: its text and its digest."""

    __slots__ = ("name", "sha", "text")

    def __init__(self, name: str, *bodies: str) -> None:
        self.name = name
        self.text = "\n".join(["#!lua", *bodies])
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    async def run(self, client: Redis, keys: list[str], args: list[Any]) -> Any:
        """Run the script. Every script of ours may be sent twice: a repeat changes nothing more."""
        try:
            return await client.evalsha(self.sha, len(keys), *keys, *args)
        except NoScriptError:
            return await client.eval(self.text, len(keys), *keys, *args)


class Scripts:
    """All scripts, over one clock prelude. Production never names another than the store's time."""

    def __init__(self, prelude: str | None = None) -> None:
        clock = read_lua("now") if prelude is None else prelude
        self.apply = Script("apply", clock, *(read_lua(part) for part in APPLY_PARTS))
        self.catalogue = Script("catalogue", clock, read_lua("catalogue"))
        self.cut = Script("cut", read_lua("cut"))
        self.lease = Script("lease", read_lua("lease"))
        outbox = read_lua("outbox")
        self.seal = Script("seal", outbox, read_lua("seal"))
        self.attempt = Script("attempt", clock, read_lua("attempt"))
        self.settle = Script("settle", outbox, read_lua("settle"))
        self.refuse = Script("refuse", outbox, read_lua("refuse"))
        self.marks = Script("marks", clock, read_lua("marks"))
        self.unblock = Script("unblock", read_lua("note"), outbox, read_lua("unblock"))
        self.split = Script("split", outbox, read_lua("split"))
        self.aside = Script("aside", clock, outbox, read_lua("aside"))
        self.decide = Script("decide", read_lua("note"), outbox, read_lua("decide"))
        self.clean = Script("clean", read_lua("clean"))
        self.logins = Script("logins", clock, read_lua("logins"))
        self.fold = Script("fold", read_lua("fold"))
        self.elsewhere = Script("elsewhere", read_lua("elsewhere"))
        self.schedule = Script("schedule", clock, read_lua("schedule"))


def refused(error: RedisError) -> bool:
    """Say whether an error reply means for sure that the script did nothing."""
    text = str(error)
    within = _OF_PIPELINE.search(text)
    word = within[1] if within else text.split(" ", 1)[0]
    return isinstance(error, REFUSALS) or word in REFUSAL_WORDS
