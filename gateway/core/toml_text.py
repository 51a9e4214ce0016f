"""Writing TOML: the few kinds of values that a provisioning file has, and no more.

Decided here: how each value is spelled so that it reads back as itself. Not decided here: what is
written (importing.py), what a file may say (provisioning.py). Source: TOML 1.0, INTERFACE 3.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Final, TypeAlias

Value: TypeAlias = "str | bool | int | date | Mapping[str, Value]"
Table: TypeAlias = "Mapping[str, Value | Sequence[Table]]"

INDENT: Final = "  "

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPED: Final = re.compile(r'["\\\x00-\x1f\x7f]')


def write_table(table: Table, path: str = "") -> str:
    """Write a table: its values first, then each sequence as an array of tables, a level deeper.

    A mapping is written inline, a moment with an offset in UTC. `path` is where the table is, such
    as `instance`; "" is the document. Raises ValueError for text that is no Unicode (a surrogate
    by itself).
    """
    indent = INDENT * path.count(".")
    written: list[str] = []
    arrays: list[tuple[str, Sequence[Table]]] = []
    for name, value in table.items():
        if isinstance(value, str | int | date | Mapping):
            written.append(f"{indent}{_key(name)} = {write_value(value)}\n")
        else:
            arrays.append((f"{path}.{_key(name)}" if path else _key(name), value))
    for inner, tables in arrays:
        header = f"{INDENT * inner.count('.')}[[{inner}]]\n"
        for each in tables:
            written += "\n" if written else "", header, write_table(each, inner)
    return "".join(written)


def write_value(value: Value) -> str:
    """Write one value on one line."""
    match value:
        case str():
            return _quoted(value)
        case bool():  # before int, which it is too
            return "true" if value else "false"
        case int():
            return str(value)
        case datetime():
            # An offset of seconds has no spelling in TOML; every moment has one in UTC.
            moment = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
            return moment.isoformat() + ("Z" if value.tzinfo else "")
        case date():
            return value.isoformat()
        case _:
            pairs = (f"{_key(name)} = {write_value(inner)}" for name, inner in value.items())
            return f"{{ {', '.join(pairs)} }}" if value else "{}"


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else _quoted(name)


def _quoted(text: str) -> str:
    if not text.isascii() and any("\ud800" <= sign <= "\udfff" for sign in text):
        raise ValueError("text with a surrogate by itself cannot be written")
    return '"' + _ESCAPED.sub(_escape, text) + '"'


def _escape(sign: re.Match[str]) -> str:
    return "\\" + sign[0] if sign[0] in '"\\' else f"\\u{ord(sign[0]):04x}"
