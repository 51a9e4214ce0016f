"""The vectors as both runners read them: files, catalogues, and when an answer is the expected one.

Decided here: the format (README.md says it in words) and how an answer is compared. Not decided
here: how a step is carried out, which is each runner's. The comparison knows JSON, nothing of the
gateway's own encoders.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec

from gateway.core.calendar import make_calendar
from gateway.core.catalogue import CatalogueIndex, period_rule
from gateway.core.counters import label_of
from gateway.core.model import Catalogue
from gateway.core.provisioning import next_catalogue, read_provisioning

HERE: Final = Path(__file__).parent


class Expect(msgspec.Struct, forbid_unknown_fields=True):
    """What comes back. `whole` is the body, exactly; `has` only what is named of it."""

    status: int = 200
    whole: Any = msgspec.UNSET
    has: Any = msgspec.UNSET
    headers: dict[str, str | None] = {}
    replayed: bool = False
    same_as: str = ""
    signed: bool = False  # by `LicenseSignature`
    request_id: str = ""  # of a signed answer; "": the Gateway-Request-Id


class Then(msgspec.Struct, forbid_unknown_fields=True):
    """All counters that are not 0 after a step."""

    used: dict[str, int] = {}
    held: dict[str, dict[str, int]] = {}
    acked: dict[str, int] | None = None
    rows: dict[str, int] | None = None


class Step(msgspec.Struct, forbid_unknown_fields=True):
    """One request, or with `apply` one change of the catalogue."""

    at_ms: int = 0
    name: str = ""
    apply: str = ""
    method: str = "POST"
    endpoint: str = "access_request"
    path: str = ""  # a whole one, instead of an endpoint of an instance
    instance: str = "own"
    credential: str = "token"
    claims: dict[str, Any] = {}
    headers: dict[str, str] = {}
    body: str = ""
    body_text: str = ""
    pad_to: int = 0
    expect: Expect = msgspec.field(default_factory=Expect)
    then: Then | None = None

    @property
    def body_bytes(self) -> bytes:
        return base64.b64decode(self.body, validate=True).ljust(self.pad_to)

    def header(self, name: str, default: str | None = None) -> str | None:
        return {key.lower(): value for key, value in self.headers.items()}.get(name, default)


class Vector(msgspec.Struct, forbid_unknown_fields=True):
    """One law and the requests that show it."""

    id: str
    says: str
    steps: list[Step]
    given: str = "DEMO"
    start: str = "2026-03-02T10:00:00.000Z"
    after: str = ""
    flags: list[str] = []

    @property
    def start_ms(self) -> int:
        return ms(self.start)


class _File(msgspec.Struct, forbid_unknown_fields=True):
    section: str
    vectors: list[Vector]


@dataclass(frozen=True)
class Played:
    """A step in its place: when it happens, and what is counted once it has."""

    step: Step
    at_ms: int
    then: Then
    own: bool  # of the vector itself; a step of the one it comes after was judged there


@cache
def vectors(directory: Path = HERE) -> dict[str, Vector]:
    """Read the vectors of a directory by id, in the order of the files; an id given twice is an
    error.
    """
    found: dict[str, Vector] = {}
    for path in sorted(directory.glob("*.json")):
        for vector in msgspec.json.decode(path.read_bytes(), type=_File).vectors:
            if vector.id in found:
                raise ValueError(f"{path.name}: the id {vector.id} is taken")
            found[vector.id] = vector
    return found


def chosen(without: str) -> list[Vector]:
    """Give the vectors that do not carry the flag `without`."""
    return [vector for vector in vectors().values() if without not in vector.flags]


def play(vector: Vector) -> Iterator[Played]:
    """Give the steps of a vector after those of the one it comes after, oldest first."""
    chain = [vector]
    while chain[0].after:
        chain.insert(0, vectors()[chain[0].after])
    then = Then()
    for part in chain:
        for step in part.steps:
            then = then if step.then is None else step.then
            yield Played(step, chain[0].start_ms + step.at_ms, then, part is vector)


def given(vector: Vector) -> str:
    """Name the catalogue that a vector begins with: that of the vector it comes after, if any."""
    return given(vectors()[vector.after]) if vector.after else vector.given


@cache
def _declared(name: str) -> Any:
    def no_file(path: str) -> bytes:
        raise FileNotFoundError(path)

    return read_provisioning((HERE / f"{name}.toml").read_text("utf-8"), no_file)[0]


def applied(name: str, instance: str, current: Catalogue | None = None) -> Catalogue:
    """Give the catalogue that applying a file makes, under another instance id."""
    declared = msgspec.structs.replace(_declared(name), id=instance)
    return next_catalogue(current or Catalogue(id=instance), declared)


def ms(moment: str) -> int:
    """Read an ISO-8601 moment with its offset as ms since the epoch."""
    return round(datetime.fromisoformat(moment).timestamp() * 1000)


def current_labels(index: CatalogueIndex, at_ms: int) -> dict[str, str]:
    """Name, per line, the reset period of a moment."""
    context = make_calendar(index, at_ms, at_ms).context
    return {
        line.id: label_of(context, index.rules.index(period_rule(line)), at_ms)[0]
        for line in index.catalogue.lines
    }


def used_now(
    used: Mapping[tuple[str, str], int], labels: Mapping[str, str], expected: Mapping[str, int]
) -> dict[str, int]:
    """Reduce used to the periods that run, and the past ones (`line|label`) that are expected."""
    shown = {line: units for (line, label), units in used.items() if labels[line] == label}
    shown |= {f"{line}|{label}": units for (line, label), units in used.items()
              if f"{line}|{label}" in expected}  # fmt: skip
    return {line: units for line, units in shown.items() if units}


def difference(expected: Any, actual: Any, *, whole: bool, path: str = "$") -> list[str]:
    """List where an answer is not the expected one; `whole`: no member may be there unexpected."""
    if expected == "*" and isinstance(actual, str) and actual:
        return []
    if isinstance(expected, dict) and "$contains" in expected:
        missing = [word for word in expected["$contains"] if word not in str(actual)]
        return [f"{path}: {word!r} is not in {actual!r}" for word in missing]
    if type(expected) is not type(actual):
        return [f"{path}: expected {expected!r}, was {actual!r}"]
    if isinstance(expected, dict):
        found = []
        for name, value in expected.items():
            if value == {"$absent": True}:
                found += [f"{path}.{name}: is there"] if name in actual else []
            elif name not in actual:
                found.append(f"{path}.{name}: is missing")
            else:
                found += difference(value, actual[name], whole=whole, path=f"{path}.{name}")
        extra = sorted(actual.keys() - expected.keys()) if whole else []
        return found + [f"{path}.{name}: is unexpected" for name in extra]
    if isinstance(expected, list):
        if len(expected) != len(actual):
            return [f"{path}: expected {len(expected)} entries, was {actual!r}"]
        return [
            each
            for at, (one, other) in enumerate(zip(expected, actual, strict=True))
            for each in difference(one, other, whole=whole, path=f"{path}[{at}]")
        ]
    return [] if expected == actual else [f"{path}: expected {expected!r}, was {actual!r}"]


def judge_body(expect: Expect, body: bytes) -> list[str]:
    """List what is not as expected in a JSON body."""
    found = []
    if expect.whole is not msgspec.UNSET:
        found += difference(expect.whole, json.loads(body), whole=True)
    if expect.has is not msgspec.UNSET:
        found += difference(expect.has, json.loads(body), whole=False)
    return found


def judge_counters(played: Played, index: CatalogueIndex, seen: Seen) -> list[str]:
    """List what is not as expected in the counters, and where they do not balance."""
    then, found = played.then, []
    used = used_now(seen.used, current_labels(index, played.at_ms), then.used)
    found += difference(then.used, used, whole=True, path="used")
    found += difference(then.held, seen.held, whole=True, path="held")
    metered = {line.id for line in index.catalogue.lines if line.model.metered}
    acked = then.acked
    if acked is None:
        acked = {line: units for line, units in then.used.items() if line in metered}
    found += difference(acked, seen.acked, whole=True, path="acked")
    if then.rows is not None:
        found += difference(then.rows, seen.rows, whole=True, path="rows")
    found += difference(acked, seen.days, whole=True, path="acked by its days")
    if index.catalogue.upstreams:
        found += difference(acked, seen.open, whole=True, path="acked by its rows")
    return found


@dataclass(frozen=True)
class Seen:
    """Counters as a runner found them; nothing that is 0 is in them. `days` and `open` are sums
    per line.
    """

    used: dict[tuple[str, str], int]
    held: dict[str, dict[str, int]]
    acked: dict[str, int]
    days: dict[str, int]
    open: dict[str, int]
    rows: dict[str, int]  # `line@2026-03-02T10` -> units

    @classmethod
    def of(
        cls,
        used: Mapping[tuple[str, str], int],
        held: dict[str, dict[str, int]],
        acked: Mapping[str, int],
        day_units: Mapping[tuple[str, int], int],
        row_units: Mapping[tuple[str, int], int],
    ) -> Seen:
        """Make it from counters per line and period, day (yyyymmdd) and hour since the epoch."""
        rows = {f"{line}@{_hour(hour)}": units for (line, hour), units in row_units.items()}
        return cls(
            _no_zeros(used),
            held,
            _no_zeros(acked),
            _no_zeros(_summed(day_units)),
            _no_zeros(_summed(row_units)),
            _no_zeros(rows),
        )


def _hour(hour: int) -> str:
    return datetime.fromtimestamp(hour * 3600, tz=UTC).strftime("%Y-%m-%dT%H")


def _summed(units: Mapping[tuple[str, int], int]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for (line, _), each in units.items():
        sums[line] = sums.get(line, 0) + each
    return sums


def _no_zeros(units: Mapping[Any, int]) -> dict[Any, int]:
    return {key: each for key, each in units.items() if each}
