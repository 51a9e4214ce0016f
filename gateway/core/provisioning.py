"""The provisioning file: what an operator declares of instances, and what that changes.

Decided here: which files are valid, with all that is wrong told at once; how a declaration is
merged into the catalogue in force; how the change is put in words. A line is never deleted: one
that vanishes is retired. Not decided here: how files are read and catalogues written (cli/, store/),
which lines serve a request (catalogue.py). Source: INTERFACE 3, SEMANTICS 1, 3, 4, 7 and 10.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, NewType, TypeVar
from zoneinfo import ZoneInfo

import msgspec
from msgspec.structs import replace

from gateway.core.errors import InvalidInput
from gateway.core.fingerprint import visible_ascii
from gateway.core.intervals import parse_duration_ms
from gateway.core.keys import ALGORITHMS, algorithm_of, load_public, public_der, thumbprint
from gateway.core.model import (
    INTERVAL_DAYS_MAX,
    LINES_MAX,
    LINES_PER_FEATURE_MAX,
    RS256_KEYS_MAX,
    UNITS_MAX,
    Attachment,
    Catalogue,
    FloatingLicense,
    Key,
    Line,
    Model,
    Product,
    Reset,
)
from gateway.core.moments import iso
from gateway.core.periods import expires_ms, starts_ms, zone
from gateway.core.versions import VERSION_BYTES_MAX, is_version

TEXT_BYTES_MAX: Final = 256
FEATURE_BYTES_MAX: Final = 128
SELECTORS_MAX: Final = 64
SHOWN_MAX: Final = 64  # characters of a wrong value that are repeated
ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")

Declared = NewType("Declared", Catalogue)
"""An instance as a file declares it: a catalogue of version 0, its keys all provisioned."""

T = TypeVar("T")
_FEATURE: Final = re.compile(rf"[A-Za-z0-9._\-:/ ]{{1,{FEATURE_BYTES_MAX}}}")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_PERCENT: Final = re.compile(r"([0-9]{1,9})%")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def read_provisioning(text: str, read_file: Callable[[str], bytes]) -> list[Declared]:
    """Read a provisioning file. `read_file` gives the bytes of a `public_file`, or raises OSError.

    Raises InvalidInput with every problem of the file, each naming instance and line.
    """
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InvalidInput(f"The file is not TOML: {error}") from None
    problems: list[str] = []
    top = _Members(document, "", problems)
    declared = [_instance(members, read_file) for members in top.tables("instance")]
    top.end()
    if not declared and not problems:
        problems.append("The file declares no [[instance]]; add one")
    if sum(each.default for each in declared) > 1:
        problems.append("Two instances say default = true; leave it at one of them")
    problems += _repeated("instance", (each.id for each in declared))
    if problems:
        raise InvalidInput(*problems)
    return [Declared(each) for each in declared]


def next_catalogue(current: Catalogue, declared: Declared) -> Catalogue:
    """Merge a declaration into the catalogue in force (version 0: there is none yet).

    The result keeps the version of `current` and equals it when nothing changes. Lines that the
    file does not name are retired, keys that came another way are left alone. Raises InvalidInput
    for what a line or an instance cannot become.
    """
    problems: list[str] = []
    where = f"instance {declared.id}"
    if current.version and declared.timezone != current.timezone:
        problems.append(
            f"{where}: timezone cannot change from {current.timezone} to {declared.timezone};"
            " an instance that has counted keeps its time zone"
        )
    known = {line.id: line for line in current.lines}
    lines = {line.id: replace(line, retired=True) for line in current.lines}
    for line in declared.lines:
        before = known.get(line.id)
        if before is not None and before.model is not line.model:
            problems.append(
                f"{where}, line {line.id}: model cannot change from {before.model} to"
                f" {line.model}; declare a line of another id"
            )
        lines[line.id] = replace(line, reset_epoch=_reset_epoch(before, line, current.version + 1))
    if len(lines) > LINES_MAX:
        problems.append(f"{where}: {len(lines)} lines, retired ones included; at most {LINES_MAX}")
    keys = _merged_keys(where, current.keys, declared.keys, problems)
    if problems:
        raise InvalidInput(*problems)
    # In one order, whatever the file's, so that the same content is the same catalogue.
    return replace(
        declared,
        version=current.version,
        lines=tuple(sorted(lines.values(), key=lambda line: line.id)),
        keys=tuple(sorted(keys, key=lambda key: key.kid)),
        upstreams=tuple(sorted(declared.upstreams, key=lambda upstream: upstream.name)),
    )


def difference(current: Catalogue, new: Catalogue) -> list[str]:
    """Put in words what becomes of an instance: + added, ~ changed old -> new, - retired."""
    return [
        *_told(new.id, "instance", [current] if current.version else [], [new], "id"),
        *_told(new.id, "line", _live(current.lines), _live(new.lines), "id"),
        *_told(new.id, "key", current.keys, new.keys, "kid"),
        *_told(new.id, "upstream", current.upstreams, new.upstreams, "name"),
    ]


class _Members:
    """One table of the file, read member by member; what is wrong with it goes to `problems`."""

    def __init__(self, table: dict[str, Any], where: str, problems: list[str]) -> None:
        self._table = table
        self._known: set[str] = set()
        self.where = where
        self.problems = problems

    def refuse(self, problem: str) -> None:
        self.problems.append(f"{self.where}: {problem}" if self.where else problem)

    def get(self, name: str, read: Callable[[Any], T], default: T, *, required: bool = False) -> T:
        """Read a member; the default when it is absent, and when it is wrong, which is noted."""
        self._known.add(name)
        if name not in self._table:
            if required:
                self.refuse(f"{name} is missing; add it")
            return default
        value = self._table[name]
        try:
            return read(value)
        except InvalidInput as error:
            self.refuse(f"{name}: {error.message}")
        except ValueError as error:
            self.refuse(f"{name} must be {error}, not {repr(value)[:SHOWN_MAX]}")
        return default

    def tables(self, name: str, id_member: str = "id") -> list[_Members]:
        """Give the tables of an array, each labelled by its id or else by its place."""
        self._known.add(name)
        entries = self._table.get(name, [])
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            self.refuse(f"{name} must be tables; write them as [[{name}]]")
            return []
        before = f"{self.where}, " if self.where else ""
        found = []
        for place, entry in enumerate(entries, 1):
            label = entry.get(id_member)
            if not isinstance(label, str) or not ID.fullmatch(label):
                label = f"#{place}"
            found.append(_Members(entry, f"{before}{name} {label}", self.problems))
        return found

    def table(self, name: str) -> _Members | None:
        """Give an inner table; None when it is absent or no table, which is noted."""
        inner = self.get(name, _table, None)
        return None if inner is None else _Members(inner, f"{self.where}, {name}", self.problems)

    def end(self) -> None:
        """Refuse the members that nobody asked for."""
        for name in self._table.keys() - self._known:
            self.refuse(
                f"{repr(name)[:SHOWN_MAX]} is not a member; expected {', '.join(sorted(self._known))}"
            )


def _instance(members: _Members, read_file: Callable[[str], bytes]) -> Catalogue:
    timezone = members.get("timezone", _zone_name, "UTC")
    tz = zone(timezone)
    lines = tuple(_line(each, tz) for each in members.tables("line"))
    keys = tuple(_key(each, read_file) for each in members.tables("key", "kid"))
    upstreams = tuple(_attachment(each) for each in members.tables("upstream", "name"))
    instance = Catalogue(
        id=members.get("id", _id, "", required=True),
        name=members.get("name", _text, ""),
        default=members.get("default", _flag, False),
        timezone=timezone,
        require_signed_payload=members.get("require_signed_payload", _flag, False),
        require_exp=members.get("require_exp", _flag, True),
        borrow_ms=members.get("borrow_interval", _span_ms, Catalogue(id="").borrow_ms),
        borrow_max_ms=members.get("borrow_interval_max", _span_ms, Catalogue(id="").borrow_max_ms),
        lines=lines,
        keys=keys,
        upstreams=upstreams,
    )
    members.end()
    for kind, names in (
        ("line", [line.id for line in lines]),
        ("key", [key.kid for key in keys]),
        ("upstream", [upstream.name for upstream in upstreams]),
    ):
        for problem in _repeated(kind, names):
            members.refuse(problem)
    _judge_lines(members, lines)
    return instance
