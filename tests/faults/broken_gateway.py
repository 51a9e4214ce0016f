"""A gateway that is broken on purpose: `python -m tests.faults.broken_gateway DEFECT serve …`.

Decided here: the defects, each one text of a Lua file and what stands in its place. Everything else
is our command line. A nemesis that does not find them finds nothing (test_nemesis_catches.py).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Final

from gateway.cli import main
from gateway.store import scripts

# By name: the file, the text, found there once, and what stands in its place.
DEFECTS: Final[Mapping[str, tuple[str, str, str]]] = {
    "forgets-ids": (
        "run",
        "redis.call('SET', key, cmsgpack.pack({unpack(record, 1, 6)}), 'PX', record.ttl_ms)",
        "",
    ),
    "grants-one-too-many": (
        "rules",
        "local free = most - (used_of(x, row.name) + gone)",
        "local free = most + 1 - (used_of(x, row.name) + gone)",
    ),
    "believes-an-old-catalogue": (
        "run",
        "if x.version ~= x.found_version then",
        "if false then",
    ),
    "drops-what-is-to-be-forwarded": (
        "write",
        "add(KEYS[x.open + i], x.rows[i], true)",
        "",
    ),
}

_as_they_are = scripts.read_lua


def break_it(defect: str) -> None:
    """Let this process have the defect."""
    file, sound, broken = DEFECTS[defect]

    def read_lua(name: str) -> str:
        text = _as_they_are(name)
        if name != file:
            return text
        assert text.count(sound) == 1, f"{file}.lua has changed: {sound!r}"
        return text.replace(sound, broken)

    scripts.read_lua = read_lua


if __name__ == "__main__":
    break_it(sys.argv.pop(1))
    main(prog_name="cmapi-gateway")
