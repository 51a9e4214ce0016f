"""The settings: every one, its default, what it may be, and who may be told of it.

Decided here: sections and members. Not decided here: where values come from (config.py) and who
uses a setting (wiring.py). Secrets are in files that settings name, or in `redis.url`, which is
never shown whole. Source: INTERFACE 2.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta

from gateway.core.intervals import parse_duration_ms
from gateway.core.keys import ALGORITHMS
from gateway.core.model import INTERVAL_DAYS_MAX

_PORT: Final = "(?:6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[0-9]{1,4})"
_HOST: Final = r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)"


def _like(pattern: str, expected: str) -> Meta:
    return Meta(pattern=rf"\A(?:{pattern})\Z", description=expected)


def _one_of(*words: str) -> Meta:
    return _like("|".join(words), f"one of {', '.join(words)}")


def _between(low: float, high: float) -> Meta:
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
# Percent-encoded: a raw ? or # of a password would end the host, and be looked up as a part of it.
_USER: Final = r"(?:[^@/?#\s]*@)?"
_QUERY: Final = r"(?:\?[^#\s]*)?"
_HOSTS: Final = rf"{_HOST}(?::{_PORT})?(?:,{_HOST}(?::{_PORT})?)*"
StoreUrl: TypeAlias = Annotated[
    str,
    _like(
        "|".join(
            (
                "embedded",
                rf"rediss?://{_USER}{_HOST}(?::{_PORT})?(?:/[0-9]{{0,5}})?{_QUERY}",
                rf"unix://{_USER}/[^?#\s]+{_QUERY}",
                rf"rediss?\+sentinel://{_USER}{_HOSTS}/[A-Za-z0-9._-]+{_QUERY}",
                rf"rediss?\+cluster://{_USER}{_HOSTS}/?{_QUERY}",
            )
        ),
        "embedded, redis://HOST:PORT, unix:///PATH, redis+sentinel://HOST:PORT,HOST:PORT/NAME or"
        " redis+cluster://HOST:PORT,HOST:PORT; rediss for redis is over TLS",
    ),
]
UpstreamUrl: TypeAlias = Annotated[
    str,
    _like(
        rf"https?://{_HOST}(?::{_PORT})?(?:/[^\s?#@]*)?",
        "http:// or https://, a host and a path, without user, password and query",
    ),
]
Ack: TypeAlias = Annotated[str, _one_of("memory", "written", "local", "replica", "replica_fsync")]
Name: TypeAlias = Annotated[str, _like(r"[A-Za-z0-9._-]{1,64}", "1 to 64 of A-Z a-z 0-9 . _ -")]
NameOrNone: TypeAlias = Annotated[
    str, _like(r"[A-Za-z0-9._-]{0,64}", 'up to 64 of A-Z a-z 0-9 . _ -, or "" for none')
]
Months: TypeAlias = Annotated[str, _like("[1-9][0-9]{0,2}mo", "months, such as 25mo")]
FileName: TypeAlias = Annotated[str, _like(r"[^\x00]+", "the path of a file")]
FileNameOrNone: TypeAlias = Annotated[str, _like(r"[^\x00]*", 'the path of a file, or "" for none')]
HardwareId: TypeAlias = Annotated[
    str, _like(r"[!-~]{1,128}", "1 to 128 visible ASCII characters, such as gateway-1")
]
DirectoryName: TypeAlias = Annotated[str, _like(r"[^\x00]+", "the path of a directory")]
Seconds: TypeAlias = Annotated[float, _between(0.1, 600)]


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
    drain_s: Annotated[float, _between(0, 60)] = 3

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

    @property
    def retention_ms(self) -> int:
        return _ms(self.retention)


class Limits(Section, frozen=True):
    connections: Annotated[int, _between(1, 1_000_000)] = 10_000
    requests_per_key_per_s: Annotated[int, _between(0, 1_000_000)] = 0
    lane_queue: Annotated[int, _between(1, 1_000_000)] = 4_096


class Report(Section, frozen=True):
    retention: Months = "25mo"

    @property
    def retention_months(self) -> int:
        return int(self.retention.removesuffix("mo"))


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

    @property
    def blocked_retry_ms(self) -> int:
        return _ms(self.blocked_retry)


class Licensespring(Section, frozen=True):
    """The doors of LicenseSpring clients. An `instance` of "" is none: they are closed."""

    instance: NameOrNone = ""
    auth: bool = False
    v2: bool = True
    key_file: FileNameOrNone = ""
    chain_file: FileNameOrNone = ""


class Ui(Section, frozen=True):
    enabled: bool = True


class Log(Section, frozen=True):
    level: Annotated[str, _one_of("debug", "info", "warning", "error")] = "info"
    format: Annotated[str, _one_of("console", "json")] = "console"
    access: bool = False


class _Upstream(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    """What all kinds have. An `interval` of "" is `forward.interval`."""

    name: Name
    interval: Duration = ""

    @property
    def interval_ms(self) -> int | None:
        return _ms(self.interval) if self.interval else None


class _HttpUpstream(_Upstream, frozen=True, kw_only=True):
    """What the kinds over HTTP have. Unless `dedupe_horizon` says for how long, the upstream is not
    relied upon to remember ids.
    """

    url: UpstreamUrl
    dedupe_horizon: DurationOrZero = "0"

    @property
    def dedupe_horizon_ms(self) -> int:
        return _ms(self.dedupe_horizon)


class CmapiUpstream(_HttpUpstream, frozen=True, kw_only=True, tag="cmapi"):
    """A parent that speaks CMAPI. A `kid` of "" is the key's thumbprint, a `host` of "" the
    instance's id.
    """

    key_file: FileName
    kid: str = ""
    host: str = ""


class CloudeventsUpstream(_HttpUpstream, frozen=True, kw_only=True, tag="cloudevents"):
    """A collector of usage events. A `token_file` of "" is none: events go without a token."""

    token_file: FileNameOrNone = ""


class LicensespringUpstream(_HttpUpstream, frozen=True, kw_only=True, tag="licensespring"):
    """The cloud of LicenseSpring, or what speaks its License API v4; `url` is without `/api/v4/`.

    Its `dedupe_horizon` is 0 whatever is set: it remembers no ids. A `verify_key_file` of "" is
    none: answers are then taken without their signature being looked at.
    """

    api_key_file: FileName
    shared_key_file: FileName
    hardware_id: HardwareId
    verify_key_file: FileNameOrNone = ""


class SpoolUpstream(_Upstream, frozen=True, kw_only=True, tag="spool"):
    """A directory of files that a person carries to where usage is counted."""

    dir: DirectoryName


Upstream: TypeAlias = CmapiUpstream | CloudeventsUpstream | LicensespringUpstream | SpoolUpstream
UPSTREAM_KINDS: Final[Mapping[str, type[Upstream]]] = {
    "cmapi": CmapiUpstream,
    "cloudevents": CloudeventsUpstream,
    "licensespring": LicensespringUpstream,
    "spool": SpoolUpstream,
}


def shown_url(url: str) -> str:
    """Give a URL without what may be secret in it: user, password and query."""
    url = re.sub(r"(?s)\A([a-z0-9+.-]+://)?.*@", r"\1***@", url)
    return re.sub(r"(?s)[?#].*", "?***", url)


def _ms(duration: str) -> int:
    """Give a duration that has been checked in milliseconds."""
    return parse_duration_ms(duration) or 0
