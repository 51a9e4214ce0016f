"""Outcome -> bytes of a CMAPI answer, the same bytes for the same outcome and catalogue.

Decided here: members, their order and wording (SEMANTICS 8, protocols/cmapi.md 5), and the echo:
how a request is remembered beside its outcome, so that a replay is answered as the first was,
whatever the spelling of the repeat. Not decided here: what was granted (the ledger), signing
(tokens.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from gateway.core.catalogue import CatalogueIndex, candidates
from gateway.core.intervals import renew_interval_s, server_renew_interval_s
from gateway.core.model import AccessRequest, Host, Line, Outcome, Preview, Shortfall, Want
from gateway.core.moments import iso
from gateway.core.versions import ANY_VERSION, version_key

PERMANENT: Final = "permanent"
UNCOUNTED: Final = "uncounted"

_encode: Final = msgspec.json.Encoder().encode

_MESSAGES: Final = {
    "FEATURE_NOT_FOUND": "There is no feature {name}",
    "VERSION_TOO_HIGH": "No line of {name} has version {version} or higher",
    "LICENSE_NOT_YET_VALID": "{name} has not started yet",
    "LICENSE_LAPSED": "{name} has expired",
    "DENIED_BY_POLICY": "No line of {name} fits the selectors",
    "FEATURE_COUNT_INSUFFICIENT": "Too few counts of {name}",
    "CONSUMED_NOT_RETURNABLE": "What is consumed of {name} cannot be returned",
    "RETURN_TOO_LARGE": "The host holds less of {name} than it returns",
    "UNDO_WINDOW_CLOSED": "The host consumed less of {name} inside its undo interval",
}


class _Echo(msgspec.Struct, array_like=True):
    """What of a request its answer depends on, as first sent."""

    type: str
    value: str
    wants: tuple[Want, ...]
    interval_s: int
    selectors: dict[str, str]


_echo_decoder: Final = msgspec.json.Decoder(_Echo)


def write_echo(request: AccessRequest) -> str:
    """Write down what a later replay's answer needs of the request as first sent."""
    host = request.host
    echo = _Echo(host.type, host.value, request.wants, request.interval_s, request.selectors)
    return _encode(echo).decode()


def read_echo(echo: str) -> AccessRequest:
    """Give back the request, as far as an answer depends on it, from `write_echo`'s text."""
    said = _echo_decoder.decode(echo)
    return AccessRequest(
        host=Host(said.type, said.value),
        wants=said.wants,
        interval_s=said.interval_s,
        selectors=said.selectors,
    )


def encode_access(index: CatalogueIndex, request: AccessRequest, outcome: Outcome) -> bytes:
    """Write the answer to an access request. Lines are described as the catalogue has them now."""
    parts: dict[tuple[str, tuple[int, ...]], list[tuple[Line, int, int]]] = {}
    for grant in outcome.grants:
        line = index.line[grant.line]
        parts.setdefault(_entry_key(line), []).append((line, grant.units, 0))
    for held in outcome.held:
        line = index.line[held.line]
        parts.setdefault(_entry_key(line), []).append((line, held.count, held.lapses_ms))
    features = []
    for key in _in_order(request, parts):
        served = parts[key]
        count = sum(units for _, units, _ in served)
        lapses = [lapses_ms for _, _, lapses_ms in served if lapses_ms]
        entry = _describe(index, request, [line for line, _, _ in served], outcome.at_ms, lapses)
        features.append({**_head(served[0][0]), "count": count, **entry})
        if not count:  # no line served
            features[-1]["lineItemsInfo"] = []
    return _encode(
        {
            "requestHostId": request.host,
            "features": features,
            "serverLicenseRenewInterval": server_renew_interval_s(index.catalogue),
            "statusList": _status_list(request, outcome.shortfalls),
        }
    )


def encode_preview(index: CatalogueIndex, request: AccessRequest, preview: Preview) -> bytes:
    """Write the answer to a preview: per feature and line version what the host could get now."""
    parts: dict[tuple[str, tuple[int, ...]], dict[str, tuple[Line, int]]] = {}
    for offer in preview.offers:
        line = index.line[offer.line]
        # Two versions asked of one name may be offered the same line: it counts once.
        parts.setdefault(_entry_key(line), {})[line.id] = (line, offer.available + offer.held)
    features = []
    for key in _in_order(request, parts):
        lines = [line for line, _ in parts[key].values()]
        count: int | str = sum(units for _, units in parts[key].values())
        if any(line.unlimited for line in lines):
            count = UNCOUNTED
        entry = _describe(index, request, lines, preview.at_ms, [])
        features.append({**_head(lines[0]), "count": count, **entry})
    return _encode(
        {
            "requestHostId": request.host,
            "features": features,
            # Without a list nothing was asked for, so nothing that was is missing.
            "statusList": _status_list(request, preview.shortfalls if request.wants else []),
        }
    )


def _entry_key(line: Line) -> tuple[str, tuple[int, ...]]:
    return (line.feature, version_key(line.version))


def _in_order(
    request: AccessRequest, parts: Iterable[tuple[str, tuple[int, ...]]]
) -> list[tuple[str, tuple[int, ...]]]:
    """Order entries as features were asked for; without a list by name and version."""
    if not request.wants:
        return sorted(parts)
    place: dict[str, int] = {}
    for at, want in enumerate(request.wants):
        place.setdefault(want.name, at)
    return sorted(parts, key=lambda key: place.get(key[0], len(place)))


def _head(line: Line) -> dict[str, Any]:
    return {"name": line.feature, "version": line.version}


def _describe(
    index: CatalogueIndex,
    request: AccessRequest,
    lines: list[Line],
    at_ms: int,
    lapses: list[int],
) -> dict[str, Any]:
    """Give all members of an entry but name, version and count, in the order of the answer."""
    first = lines[0]
    entry: dict[str, Any] = {}
    capacity = _max_count(index, request, first, at_ms)
    if capacity is not None:
        entry["maxCount"] = capacity
    expiries = [line.expires_ms for line in lines if line.expires_ms is not None]
    final = iso(min(expiries)) if expiries else PERMANENT
    if lapses:
        entry["expires"] = iso(min(lapses))
    elif expiries:
        entry["expires"] = final
    entry["finalExpiry"] = final
    entry["entitlementExpiry"] = final
    texts = {
        "vendorString": first.vendor_string,
        "serialNumber": first.serial_number,
        "issuer": first.issuer,
        "notice": first.notice,
    }
    entry.update({member: text for member, text in texts.items() if text})
    entry["renewInterval"] = min(
        renew_interval_s(line, index.catalogue, request.interval_s) for line in lines
    )
    entry["lineItemsInfo"] = [
        {
            "productName": line.product.name,
            "productVersion": line.product.version,
            "activationId": line.product.activation_id,
            "entitlementId": line.product.entitlement_id,
        }
        for line in lines
    ]
    return entry


def _max_count(index: CatalogueIndex, request: AccessRequest, line: Line, at_ms: int) -> int | None:
    """Give the capacity over the candidate lines of this line's version; None: unlimited."""
    asked = [want.version for want in request.wants if want.name == line.feature]
    lowest = min(asked, key=version_key, default=ANY_VERSION)
    rows, _ = candidates(index.lines_of(line.feature), lowest, request.selectors, at_ms)
    own = version_key(line.version)
    same = [row for row in rows if version_key(row.version) == own]
    return None if any(row.unlimited for row in same) else sum(row.capacity for row in same)


def _status_list(request: AccessRequest, shortfalls: list[Shortfall]) -> list[dict[str, str]]:
    status = []
    for short in sorted(shortfalls, key=lambda each: each.want):
        want = request.wants[short.want]
        said = _MESSAGES[short.code].format(name=want.name, version=want.version)
        status.append(
            {
                "code": short.code,
                "message": f"{said}: asked {short.asked}, available {short.available}",
                "name": want.name,
                "version": want.version,
            }
        )
    return status
