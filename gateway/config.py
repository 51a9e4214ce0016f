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
from typing import Annotated, Any, Final, NamedTuple, TypeAlias, get_type_hints

import msgspec
from msgspec import Meta
from msgspec.structs import fields

from gateway.core.errors import InvalidInput
from gateway.core.intervals import parse_duration_ms
from gateway.core.keys import ALGORITHMS
from gateway.core.model import INTERVAL_DAYS_MAX

FILE_BYTES_MAX: Final = 2**20
UPSTREAMS_MAX: Final = 64
SHOWN_MAX: Final = 80  # characters of a wrong value that are repeated

_PREFIX: Final = "GATEWAY_"
# What Kubernetes puts into every container for a service whose name begins with "gateway".
_SERVICE_LINK: Final = re.compile(
    r"GATEWAY_([A-Z0-9_]+_)?(SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)|PORT(_[0-9]+_(TCP|UDP)(_[A-Z]+)?)?)"
)
_PORT: Final = "(?:6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[0-9]{1,4})"
_HOST: Final = r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)"


def _like(pattern: str, expected: str) -> Meta:
    return Meta(pattern=rf"\A(?:{pattern})\Z", description=expected)


def _one_of(*words: str, because: str = "") -> Meta:
    return _like("|".join(words), f"one of {', '.join(words)}{because}")


def _between(low: int, high: int) -> Meta:
    return Meta(ge=low, le=high, description=f"a number from {low} to {high}")


_SPAN: Final = f"a duration up to {INTERVAL_DAYS_MAX}d, such as 30s, 1h or 7d"
Duration: TypeAlias = Annotated[
    str, Meta(description=f"{_SPAN}, at least 1s", extra={"least_ms": 1_000})
]
DurationOrZero: TypeAlias = Annotated[
    str, Meta(description=f"{_SPAN}, or 0", extra={"least_ms": 0})
]
Bind: TypeAlias = Annotated[
    str, _like(f"{_HOST}:{_PORT}", "HOST:PORT, such as 127.0.0.1:7070 or [::1]:0")
]
StoreUrl: TypeAlias = Annotated[
    str,
    _like(
        rf"embedded|rediss?://(?:[^@/\s]*@)?{_HOST}(?::{_PORT})?(?:[/?]\S*)?|unix://(?:[^@/\s]*@)?/\S+",
        "embedded, redis://HOST:PORT, rediss://HOST:PORT or unix:///PATH"
        " (redis+sentinel:// and redis+cluster:// are not supported yet)",
    ),
]
UpstreamUrl: TypeAlias = Annotated[
    str,
    _like(
        rf"https?://{_HOST}(?::{_PORT})?(?:/[^\s?#@]*)?",
        "http:// or https://, a host and a path, without user, password and query",
    ),
]
Ack: TypeAlias = Annotated[
    str,
    _one_of(
        "memory",
        "written",
        "local",
        because=" (replica and replica_fsync need more than one store server,"
        " which is not supported yet)",
    ),
]
Name: TypeAlias = Annotated[str, _like(r"[A-Za-z0-9._-]{1,64}", "1 to 64 of A-Z a-z 0-9 . _ -")]
Months: TypeAlias = Annotated[str, _like("[1-9][0-9]{0,2}mo", "months, such as 25mo")]
FileName: TypeAlias = Annotated[str, _like(r"[^\x00]+", "the path of a file")]
Seconds: TypeAlias = Annotated[float, _between(0, 600)]


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """A table of the file; every member has a default."""


class Server(Section, frozen=True):
    bind: Bind = "127.0.0.1:7070"
    workers: Annotated[int, _between(1, 256)] = 1
    tls_cert: str = ""
    tls_key: str = ""
    trusted_proxies: tuple[str, ...] = ()
    max_body_bytes: Annotated[int, _between(1_024, 2**20)] = 65_536
    header_timeout_s: Seconds = 10
    body_timeout_s: Seconds = 5
    drain_s: Seconds = 3

    @property
    def address(self) -> tuple[str, int]:
        """Host, without brackets, and port; port 0 is any that is free."""
        host, _, port = self.bind.rpartition(":")
        return host.strip("[]"), int(port)


class Redis(Section, frozen=True):
    url: StoreUrl = "embedded"
    partitions: Annotated[int, _between(1, 999)] = 256
    ack: Ack = "written"
    ack_replicas: Annotated[int, _between(1, 16)] = 1
    deadline_ms: Annotated[int, _between(10, 60_000)] = 2_000

    def __repr__(self) -> str:
        return f"Redis(url={shown_url(self.url)!r}, partitions={self.partitions}, ack={self.ack!r})"


class Dedupe(Section, frozen=True):
    retention: Duration = "1h"
    forwarder_retention: Duration = "30d"

    @property
    def retention_ms(self) -> int:
        return _ms(self.retention)

    @property
    def forwarder_retention_ms(self) -> int:
        return _ms(self.forwarder_retention)


class Explain(Section, frozen=True):
    retention: DurationOrZero = "0"


class Limits(Section, frozen=True):
    connections: Annotated[int, _between(1, 1_000_000)] = 10_000
    requests_per_key_per_s: Annotated[int, _between(0, 1_000_000)] = 0
    lane_queue: Annotated[int, _between(1, 1_000_000)] = 4_096


class Report(Section, frozen=True):
    retention: Months = "25mo"


class Token(Section, frozen=True):
    clock_skew_s: Annotated[int, _between(0, 3_600)] = 60
    payload_max_age_s: Annotated[int, _between(1, 86_400)] = 300


class Signing(Section, frozen=True):
    alg: Annotated[str, _one_of(*ALGORITHMS)] = "EdDSA"
    key_file: str = ""


class Forward(Section, frozen=True):
    interval: Duration = "1h"
    timeout_s: Annotated[float, _between(1, 600)] = 30
    blocked_retry: Duration = "1h"

    @property
    def interval_ms(self) -> int:
        return _ms(self.interval)


class Licensespring(Section, frozen=True):
    instance: str = ""
    auth: bool = False
    v2: bool = True
    key_file: str = ""
    chain_file: str = ""


class Ui(Section, frozen=True):
    enabled: bool = True


class Log(Section, frozen=True):
    level: Annotated[str, _one_of("debug", "info", "warning", "error")] = "info"
    format: Annotated[str, _one_of("console", "json")] = "console"


class CmapiUpstream(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="cmapi"):
    """A parent that speaks CMAPI. A `kid` of "" is the key's thumbprint, a `host` of "" the
    instance's id, an `interval` of "" `forward.interval`. Unless `dedupe_horizon` says for how
    long, it is not relied upon to remember ids.
    """

    name: Name
    url: UpstreamUrl
    key_file: FileName
    kid: str = ""
    host: str = ""
    dedupe_horizon: DurationOrZero = "0"
    interval: Duration = ""

    @property
    def dedupe_horizon_ms(self) -> int:
        return _ms(self.dedupe_horizon)

    @property
    def interval_ms(self) -> int | None:
        return _ms(self.interval) if self.interval else None


Upstream: TypeAlias = CmapiUpstream  # a further kind is one more struct of this union
UPSTREAM_KINDS: Final[Mapping[str, type[Upstream]]] = {"cmapi": CmapiUpstream}


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
# Accepted, since the format of the file is fixed, but without effect yet.
NOT_IN_FORCE: Final = (
    *("server.tls_cert", "server.tls_key", "server.trusted_proxies", "redis.ack_replicas"),
    *("explain.retention", "limits.connections", "limits.requests_per_key_per_s"),
    *("report.retention", "forward.blocked_retry"),
    *(name for name in SETTINGS if name.startswith(("licensespring.", "ui."))),
)


def warnings_for(config: Config) -> list[str]:
    """Name each setting that was changed from its default and does nothing yet."""
    warnings = []
    for name in NOT_IN_FORCE:
        section, member = name.split(".")
        if getattr(getattr(config, section), member) != getattr(_SECTIONS[section](), member):
            warnings.append(f"{name} is set, but has no effect yet")
    return warnings


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


def shown_url(url: str) -> str:
    """Give a URL without what may be secret in it: user, password and query."""
    url = re.sub(r"(?s)\A([a-z0-9+.-]+://)?.*@", r"\1***@", url)
    return re.sub(r"(?s)[?#].*", "?***", url)


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
        if len(data) > FILE_BYTES_MAX:
            raise InvalidInput(f"The configuration {path} is over {FILE_BYTES_MAX} bytes")
        tables: dict[str, Any] = msgspec.toml.decode(data)
    except OSError as error:
        raise InvalidInput(f"The configuration {path} cannot be read: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
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
            kinds = " or ".join(UPSTREAM_KINDS)
            problems.append(f"{prefix}kind is {_shown('', word)}; only {kinds} is built so far")
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
    shown = shown_url(value) if member == "url" and isinstance(value, str) else value
    return repr(shown)[:SHOWN_MAX]


def _unknown(given: Mapping[str, _Given], known: Collection[str]) -> list[str]:
    # Never with its value: that may be a secret under a misspelt name.
    return [
        f"{given[name].variable or name}: not a setting; remove it or correct its name"
        for name in given
        if name not in known
    ]


def _ms(duration: str) -> int:
    """Give a duration that has been checked in milliseconds."""
    return parse_duration_ms(duration) or 0
