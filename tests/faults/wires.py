"""The two wires of the upstream process: what a request asks to be counted, and its answers. Pure.

Decided here: how an access request and a batch of events are read, strictly, so that whatever is
not as documented is a 400 and shows; and how a grant, a repeat and a refusal are written. Not
decided here: whether it is counted (upstream.py). Written from the documents of the wire alone,
without our own encoders: protocols/cmapi.md 4 and 5, CloudEvents 1.0 (JSON batch), INTERFACE 4.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.faults.ledger import Accepted, Seen

FEATURES_MAX = 64
EVENT_TYPE = "cmapi-gateway.usage.v1"


@dataclass(frozen=True)
class Posting:
    """A request that reads well. `items` are told apart by id and counted each by itself.

    `arrived` is what is to be noted as seen, the bytes of the whole batch among it; `names` holds
    the features and lines in it. `asked` is the decoded access request; None for events.
    """

    kind: str
    batch: str
    items: tuple[Accepted, ...]
    arrived: tuple[Seen, ...]
    names: frozenset[str]
    asked: Mapping[str, Any] | None = None

    @property
    def units(self) -> Counter[str]:
        total: Counter[str] = Counter()
        for item in self.items:
            total.update(item.units)
        return total


def read_access_request(batch: str, body: bytes) -> Posting:
    """Read an access request under its id; raises ValueError for what is none of ours."""
    asked = _object(json.loads(body))
    _demand(batch != "", "no Idempotency-Key")
    _demand(asked.get("incremental") is True, "not incremental")
    _demand(asked.get("partial") is False, "partial")
    host = _object(asked.get("hostId"))
    _demand(all(isinstance(host.get(name), str) for name in ("type", "value")), "no hostId")
    features = asked.get("features")
    if not isinstance(features, list) or not 0 < len(features) <= FEATURES_MAX:
        raise ValueError("features")
    units: Counter[str] = Counter()
    signs = set()
    for feature in map(_object, features):
        count = _count(feature.get("count"))
        signs.add(count > 0)
        units[_text(feature.get("name"))] += count
    _demand(len(signs) == 1, "counts of both signs")
    sha256 = digest(body)
    return Posting(
        kind="cmapi",
        batch=batch,
        items=(Accepted(batch, batch, sha256, dict(units)),),
        arrived=(Seen(batch, sha256),),
        names=frozenset(units),
        asked=asked,
    )


def read_events(body: bytes) -> Posting:
    """Read a batch of usage events; raises ValueError for what is none of ours."""
    events = json.loads(body)
    if not isinstance(events, list) or not events:
        raise ValueError("no events")
    read = [read_event(event) for event in events]
    items = [item for item, _ in read]
    _demand(len({item.id for item in items}) == len(items), "one id twice in a batch")
    source = items[0].id.partition(" ")[0]
    whole = Seen(f"{source} {items[0].batch}", digest(body))
    return Posting(
        kind="events",
        batch=items[0].batch,
        items=tuple(items),
        arrived=(whole, *(Seen(item.id, item.sha256) for item in items)),
        names=frozenset(name for _, names in read for name in names),
    )


def read_event(told: object) -> tuple[Accepted, frozenset[str]]:
    """Read one usage event: what it counts, by line, and the names of its line and feature."""
    event = _object(told)
    data = _object(event.get("data"))
    _demand(event.get("specversion") == "1.0", "specversion")
    _demand(event.get("type") == EVENT_TYPE, "type")
    source, id_ = _text(event.get("source")), _text(event.get("id"))
    _demand(source == f"/instances/{data.get('instance')}", "source")
    batch, slash, row = id_.rpartition("/")
    _demand(slash != "" and batch != "" and row.isdigit(), "id")
    line, feature = _text(data.get("line")), _text(data.get("feature"))
    text = json.dumps(event, sort_keys=True, separators=(",", ":")).encode()
    units = {line: _count(data.get("units"))}
    return Accepted(f"{source} {id_}", batch, digest(text), units), frozenset({line, feature})


def grant(asked: Mapping[str, Any], *, again: bool) -> bytes:
    """Answer an access request in full; a repeat says the same in another order, and more of it."""
    features: list[dict[str, object]] = [
        {"name": each["name"], "version": each.get("version", "0"), "count": each["count"]}
        for each in asked["features"]
    ]
    if not again:
        return _json({"requestHostId": asked["hostId"], "features": features, "statusList": []})
    features = [{"maxCount": 10**12, **each, "notice": "again"} for each in reversed(features)]
    return _json(
        {
            "statusList": [],
            "serverLicenseRenewInterval": 0,
            "features": features,
            "requestHostId": asked["hostId"],
        }
    )


def refusal(asked: Mapping[str, Any], codes: Mapping[str, str]) -> bytes:
    """Deny an access request, naming features with their codes."""
    statuses = [
        {
            "code": codes[each["name"]],
            "message": "",
            "name": each["name"],
            "version": each.get("version", "0"),
        }
        for each in asked["features"]
        if each["name"] in codes
    ]
    return _json({"requestHostId": asked["hostId"], "features": [], "statusList": statuses})


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def events_units(events: Iterable[Accepted]) -> dict[str, int]:
    """Sum the units of events by line."""
    total: Counter[str] = Counter()
    for event in events:
        total.update(event.units)
    return dict(total)


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("not a text")
    return value


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not value:
        raise ValueError("not a count")
    return value


def _demand(holds: bool, why: str) -> None:
    if not holds:
        raise ValueError(why)
