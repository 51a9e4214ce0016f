"""The configuration: one frozen value, read once from a file, the environment and the flags.

Decided here: every setting, its default, what it may be, and whether it acts yet. All that is wrong
is told at once. Not decided here: instances, lines and keys (core/provisioning.py) and who uses a
setting (wiring.py). Secrets are in files that settings name, or in `redis.url`, which is never
shown whole. Source: INTERFACE 2.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, get_type_hints

import msgspec
from msgspec import Meta
from msgspec.structs import fields

from gateway.core.errors import InvalidInput
from gateway.core.intervals import parse_duration_ms
from gateway.settings import (
    UPSTREAM_KINDS,
    Dedupe,
    Explain,
    Forward,
    Licensespring,
    Limits,
    Log,
    Redis,
    Report,
    Section,
    Server,
    Signing,
    Token,
    Ui,
    Upstream,
    shown_url,
)

FILE_BYTES_MAX: Final = 2**20
UPSTREAMS_MAX: Final = 64
SHOWN_MAX: Final = 80  # characters of a wrong value that are repeated

_PREFIX: Final = "GATEWAY_"
# What Kubernetes puts into every container for a service whose name begins with "gateway".
_SERVICE_LINK: Final = re.compile(
    r"GATEWAY_([A-Z0-9_]+_)?(SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)|PORT(_[0-9]+_(TCP|UDP)(_[A-Z]+)?)?)"
)


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """All settings. `base` is where relative paths in the file start: the directory it is in."""

    server: Server = Server()
    redis: Redis = Redis()
    dedupe: Dedupe = Dedupe()
    explain: Explain = Explain()
    limits: Limits = Limits()
    report: Report = Report()
    token: Token = Token()
    signing: Signing = Signing()
    forward: Forward = Forward()
    licensespring: Licensespring = Licensespring()
    ui: Ui = Ui()
    log: Log = Log()
    upstreams: tuple[Upstream, ...] = ()
    data_dir: Path = Path("var")
    base: Path = Path()

    def path(self, name: str) -> Path:
        """Find a file that a setting names."""
        return self.base / name


_SECTIONS: Final[Mapping[str, type[Section]]] = {
    field.name: field.type for field in fields(Config) if isinstance(field.default, Section)
}
SETTINGS: Final = tuple(
    f"{section}.{field.name}" for section, kind in _SECTIONS.items() for field in fields(kind)
)


class _Given(NamedTuple):
    value: Any
    variable: str = ""  # set when it came from the environment: its text is then converted


def load_config(
    path: Path | None, environ: Mapping[str, str], overrides: Mapping[str, object]
) -> Config:
    """Read the file (None: there is none), then `GATEWAY_SECTION__KEY`, then the flags.

    `overrides` is by `section.key` or `data_dir`; None in it is a flag that was not given. The
    later wins, and only the winner is judged. Raises InvalidInput with all problems, a line each.
    """
    problems: list[str] = []
    tables = {} if path is None else _read(path)
    upstreams = _upstreams(tables.pop("upstream", []), problems)
    given: dict[str, _Given] = {}
    for section, table in tables.items():
        if section in _SECTIONS and isinstance(table, dict):
            given |= {f"{section}.{name}": _Given(value) for name, value in table.items()}
        else:
            problems.append(f"{section}: not a section; expected [{'], ['.join(_SECTIONS)}]")
    given |= _from_environment(environ)
    given |= {name: _Given(value) for name, value in overrides.items() if value is not None}
    data_dir = given.pop("data_dir", _Given("var")).value
    sections: dict[str, Any] = {
        section: kind(**_members(f"{section}.", kind, given, problems))
        for section, kind in _SECTIONS.items()
    }
    problems += _unknown(given, SETTINGS)
    if problems:
        raise InvalidInput(*problems)
    base = Path() if path is None else path.parent
    return Config(**sections, upstreams=upstreams, data_dir=Path(data_dir), base=base)


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
        if len(data) > FILE_BYTES_MAX:
            raise InvalidInput(f"The configuration {path} is over {FILE_BYTES_MAX} bytes")
        tables: dict[str, Any] = msgspec.toml.decode(data)
    except OSError as error:
        raise InvalidInput(f"The configuration {path} cannot be read: {error.strerror}") from None
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"The configuration {path} is not TOML: {error}") from None
    return tables


def _from_environment(environ: Mapping[str, str]) -> dict[str, _Given]:
    given = {}
    for variable, text in sorted(environ.items()):
        if variable.startswith(_PREFIX) and not _SERVICE_LINK.fullmatch(variable):
            name = variable.removeprefix(_PREFIX).lower().replace("__", ".", 1)
            given[name] = _Given(text, variable)
    return given


def _upstreams(tables: object, problems: list[str]) -> tuple[Upstream, ...]:
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        problems.append("upstream: not a list of tables; expected [[upstream]]")
        return ()
    if len(tables) > UPSTREAMS_MAX:
        problems.append(f"upstream: {len(tables)} of them; expected at most {UPSTREAMS_MAX}")
    found: dict[str, Upstream] = {}
    for number, table in enumerate(tables[:UPSTREAMS_MAX], 1):
        prefix = f"upstream {_shown('', table.get('name', number))}: "
        word = table.pop("kind", None)
        kind = UPSTREAM_KINDS.get(word) if isinstance(word, str) else None
        if kind is None:
            kinds = ", ".join(UPSTREAM_KINDS)
            problems.append(f"{prefix}kind is {_shown('', word)}; expected one of {kinds}")
            continue
        given = {prefix + member: _Given(value) for member, value in table.items()}
        members = _members(prefix, kind, given, problems)
        problems += _unknown(given, [prefix + field.name for field in fields(kind)])
        if members.get("name") in found:
            problems.append(f"{prefix}the name is given twice; expected another one")
        elif all(field.name in members for field in fields(kind) if field.required):
            found[members["name"]] = kind(**members)
    return tuple(found.values())


def _members(
    prefix: str, kind: type[msgspec.Struct], given: Mapping[str, _Given], problems: list[str]
) -> dict[str, Any]:
    """Convert what was given for the members of `kind`, telling of each that does not fit."""
    hints = get_type_hints(kind, include_extras=True)
    members = {}
    for field in fields(kind):
        name, hint = prefix + field.name, hints[field.name]
        if name not in given:
            if field.required:
                problems.append(f"{name} is missing; expected {_expected(hint)}")
            continue
        try:
            members[field.name] = _converted(given[name], hint)
        except (msgspec.ValidationError, ValueError):
            shown = _shown(field.name, given[name].value)
            problems.append(
                f"{given[name].variable or name} is {shown}; expected {_expected(hint)}"
            )
    return members


def _converted(given: _Given, hint: Any) -> Any:
    value = given.value
    if given.variable and hint == tuple[str, ...]:
        value = [part.strip() for part in value.split(",") if part.strip()]
    converted = msgspec.convert(value, hint, strict=not given.variable)
    least_ms = next((meta.extra["least_ms"] for meta in _metas(hint) if meta.extra), None)
    if least_ms is not None:
        span_ms = parse_duration_ms(converted)
        if span_ms is None or span_ms < least_ms:
            raise ValueError
    if converted != converted:  # not a number, which every bound lets pass
        raise ValueError
    return converted


def _metas(hint: Any) -> tuple[Meta, ...]:
    return getattr(hint, "__metadata__", ())


def _expected(hint: Any) -> str:
    words = {bool: "true or false", str: "a string", tuple[str, ...]: "a list of strings"}
    metas = _metas(hint)
    return str(metas[0].description) if metas else words[hint]


def _shown(member: str, value: object) -> str:
    try:
        return repr(shown_url(str(value)) if member == "url" else value)[:SHOWN_MAX]
    except ValueError:  # Python writes no number of over 4,300 digits
        return "a number of thousands of digits"


def _unknown(given: Mapping[str, _Given], known: Collection[str]) -> list[str]:
    # Never with its value: that may be a secret under a misspelt name.
    return [
        f"{given[name].variable or name}: not a setting; remove it or correct its name"
        for name in given
        if name not in known
    ]
