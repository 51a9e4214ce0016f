"""What a declaration changes: merged into the catalogue in force, and put in words.

Decided here: what an instance may become, that a line is retired and never deleted, which number it
has for good, that users and keys which came another way are left alone. Not decided here: which
files are valid (provisioning.py), how a catalogue is written (store/). Source: INTERFACE 3,
SEMANTICS 4, protocols/cmapi.md 3.4.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from gateway.core.errors import InvalidInput
from gateway.core.intervals import spell_duration
from gateway.core.keys import load_public, thumbprint
from gateway.core.model import (
    LINES_MAX,
    RS256_KEYS_MAX,
    Attachment,
    Catalogue,
    FloatingLicense,
    Key,
    Line,
    Product,
    User,
)
from gateway.core.moments import iso
from gateway.core.pulling import kept_limits, reset_epoch

_IN_FILE: Final = {
    "undo_ms": "undo_interval",
    "borrow_ms": "borrow_interval",
    "borrow_max_ms": "borrow_interval_max",
    "starts_ms": "starts",
    "expires_ms": "expires",
    "until_ms": "until",
}
# Not told of: what the label says already, what has a line of its own, what follows from the rest.
_UNTOLD: Final[dict[Any, set[str]]] = {
    Catalogue: {"id", "version", "lines", "keys", "upstreams", "users"},
    Line: {"id", "capacity", "reset_epoch", "retired", "number"},
    Key: {"kid"},
    Attachment: {"name"},
    User: {"name", "password_hash", "since_s"},
}


def next_catalogue(current: Catalogue, declared: Catalogue) -> Catalogue:
    """Merge a declaration into the catalogue in force (version 0: there is none yet).

    The result keeps the version of `current` and equals it when nothing changes. Lines that the
    file does not name are retired, users and keys that came another way are left alone, limits
    that were pulled from a cloud stay in force while that one is attached. Raises InvalidInput for
    what a line or an instance cannot become.
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
    attached = {each.name for each in declared.upstreams}
    for line in declared.lines:
        before = known.get(line.id)
        if before is not None and before.model is not line.model:
            problems.append(
                f"{where}, line {line.id}: model cannot change from {before.model} to"
                f" {line.model}; declare a line of another id"
            )
        if before is not None and before.feature != line.feature:
            problems.append(
                f"{where}, line {line.id}: feature cannot change from {before.feature} to"
                f" {line.feature}, whose usage it has counted; declare a line of another id"
            )
        kept = kept_limits(before, line, attached)
        lines[line.id] = replace(kept, reset_epoch=reset_epoch(before, kept, current.version + 1))
    if len(lines) > LINES_MAX:
        problems.append(f"{where}: {len(lines)} lines, retired ones included; at most {LINES_MAX}")
    keys = _merged_keys(where, current.keys, declared.keys, problems)
    if problems:
        raise InvalidInput(*problems)
    # In one order, whatever the file's, so that the same content is the same catalogue.
    return replace(
        declared,
        version=current.version,
        lines=tuple(sorted(_numbered(current, declared, lines), key=lambda line: line.id)),
        keys=tuple(sorted(keys, key=lambda key: key.kid)),
        upstreams=tuple(sorted(declared.upstreams, key=lambda upstream: upstream.name)),
        users=current.users,  # no file declares them
    )


def difference(current: Catalogue, new: Catalogue) -> list[str]:
    """Put in words what becomes of an instance: + added, ~ changed old -> new, - retired."""
    return [
        *_told(new.id, "instance", [current] if current.version else [], [new], "id"),
        *_told(new.id, "line", _live(current.lines), _live(new.lines), "id"),
        *_told(new.id, "key", current.keys, new.keys, "kid"),
        *_told(new.id, "upstream", current.upstreams, new.upstreams, "name"),
        *_told(new.id, "user", current.users, new.users, "name"),
    ]


def not_in_force(current: Catalogue, declared: Catalogue) -> list[str]:
    """Put in words what a declaration says of limits that the cloud decides: = what and why."""
    known = {line.id: line for line in current.lines}
    attached = {each.name for each in declared.upstreams}
    told = []
    for line in declared.lines:
        kept = kept_limits(known.get(line.id), line, attached)
        changes = _changes(line, replace(kept, pulled=line.pulled))
        if changes:
            told.append(
                f"= instance {declared.id}, line {line.id}: the cloud decides, not this file:"
                f" {', '.join(changes)}"
            )
    return told


def _numbered(current: Catalogue, declared: Catalogue, lines: dict[str, Line]) -> Iterable[Line]:
    """Give the lines with their numbers: those they have, and the next ones in the file's order.

    Lines of a catalogue that an earlier version wrote have none; retired ones come last then.
    """
    given = {line.id: line.number for line in current.lines if line.number}
    highest = max(given.values(), default=0)
    for name in dict.fromkeys((*(line.id for line in declared.lines), *lines)):
        if name not in given:
            highest += 1
            given[name] = highest
        yield replace(lines[name], number=given[name])


def _merged_keys(
    where: str, current: tuple[Key, ...], declared: tuple[Key, ...], problems: list[str]
) -> list[Key]:
    """Put the file's keys in the place of those an earlier file declared, beside all others."""
    declared_here = {(key.kid, key.public) for key in declared}
    # One that an upload lets run out, and that the file now declares, is the file's from here on.
    keys = [
        key
        for key in current
        if not key.provisioned
        and not (key.until_ms is not None and (key.kid, key.public) in declared_here)
    ]
    for key in declared:
        same_kid = next((other for other in keys if other.kid == key.kid), None)
        same_public = next((other for other in keys if other.public == key.public), None)
        if same_kid is None and same_public is None:
            keys.append(key)
        elif same_kid is not same_public:
            other = same_kid or same_public or key
            what = "kid" if same_kid else f"public key (as {other.kid})"
            problems.append(
                f"{where}, key {key.kid}: its {what} is given twice; remove it or revoke the other"
            )
        # Otherwise it is here already, added another way, and stays as it was added.
    if sum(key.alg == "RS256" for key in keys) > RS256_KEYS_MAX:
        problems.append(f"{where}: over {RS256_KEYS_MAX} RS256 keys; remove or revoke some")
    return keys


def _live(lines: Iterable[Line]) -> list[Line]:
    return [line for line in lines if not line.retired]


def _told(
    instance: str, kind: str, before: Iterable[Any], after: Iterable[Any], id_member: str
) -> list[str]:
    prefix = "" if kind == "instance" else f"instance {instance}, "
    old = {getattr(item, id_member): item for item in before}
    new = {getattr(item, id_member): item for item in after}
    told = []
    for name, item in new.items():
        changes = _changes(old.get(name), item)
        if name in old and kind == "user" and old[name].password_hash != item.password_hash:
            changes.append("another password")
        if name not in old or changes:
            told.append(
                f"{'~' if name in old else '+'} {prefix}{kind} {name}: {', '.join(changes)}"
            )
    end = ": retired, its history stays" if kind == "line" else ""
    told += (f"- {prefix}{kind} {name}{end}" for name in old if name not in new)
    return [line.removesuffix(": ") for line in told]


def _changes(old: Any | None, new: Any) -> list[str]:
    """Name the members that differ, or of something new those that are not at their default."""
    changes = []
    for field in msgspec.structs.fields(type(new)):
        after = getattr(new, field.name)
        before = _default(field) if old is None else getattr(old, field.name)
        if field.name in _UNTOLD[type(new)] or before == after:
            continue
        name = _IN_FILE.get(field.name, field.name)
        change = "" if old is None else f"{_told_value(name, before)} -> "
        changes.append(f"{name} {change}{_told_value(name, after)}")
    return changes


def _default(field: msgspec.structs.FieldInfo) -> Any:
    has_factory = field.default_factory is not msgspec.NODEFAULT
    return field.default_factory() if has_factory else field.default


def _told_value(name: str, value: Any) -> str:
    match value:
        case None:
            return {"count": "uncounted", "expires": "permanent"}.get(name, "none")
        case bool():
            return "true" if value else "false"
        case bytes():
            return thumbprint(load_public(value))
        case FloatingLicense():
            shown = replace(value, license_key="***") if value.license_key else value
            return msgspec.json.encode(shown).decode()
        case dict() | Product():
            return msgspec.json.encode(value).decode()
        case int() if name in ("starts", "expires", "until"):
            return iso(value)
        case int() if name.endswith(("interval", "interval_max")):
            return spell_duration(value)
    return str(value) or '""'
