"""Outcome -> bytes of a CMAPI answer, the same bytes for the same outcome and catalogue.

Decided here: members, their order and wording (SEMANTICS 8, protocols/cmapi.md 5), and the echo:
how a request is remembered beside its outcome, so that a replay is answered as the first was,
whatever the spelling of the repeat. Not decided here: what was granted (the ledger), signing
(tokens.py).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import msgspec

from gateway.core.catalogue import CatalogueIndex, candidates
from gateway.core.intervals import renew_interval_s, server_renew_interval_s
from gateway.core.model import AccessRequest, Host, Line, Outcome, Preview, Shortfall, Want
from gateway.core.moments import iso
from gateway.core.versions import ANY_VERSION, version_key

PERMANENT: Final = "permanent"
UNCOUNTED: Final = "uncounted"
TEMPLATES_MAX: Final = 4096  # entries kept per catalogue; dropped all at once when full
_FOR_EVER: Final = 1 << 62

EntryKey = tuple[str, tuple[int, ...]]  # feature name, line version

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
    served: dict[EntryKey, list[tuple[Line, int, int]]] = {}
    for grant in outcome.grants:
        line = index.line[grant.line]
        served.setdefault(_entry_key(line), []).append((line, grant.units, 0))
    for held in outcome.held:
        line = index.line[held.line]
        served.setdefault(_entry_key(line), []).append((line, held.count, held.lapses_ms))
    entries = []
    for key in _in_order(request, served):
        parts = served[key]
        template = _template(index, request, [line for line, _, _ in parts], outcome.at_ms)
        lapses = [lapses_ms for _, _, lapses_ms in parts if lapses_ms]
        count = sum(units for _, units, _ in parts)
        entries.append(template.fill(count, min(lapses) if lapses else 0, served=count != 0))
    renew = b',"serverLicenseRenewInterval":%d' % server_renew_interval_s(index.catalogue)
    return _answer(request, entries, outcome.shortfalls, renew)


def encode_preview(index: CatalogueIndex, request: AccessRequest, preview: Preview) -> bytes:
    """Write the answer to a preview: per feature and line version what the host could get now."""
    offered: dict[EntryKey, dict[str, tuple[Line, int]]] = {}
    for offer in preview.offers:
        line = index.line[offer.line]
        # Two versions asked of one name may be offered the same line: it counts once.
        offered.setdefault(_entry_key(line), {})[line.id] = (line, offer.available + offer.held)
    entries = []
    for key in _in_order(request, offered):
        lines = [line for line, _ in offered[key].values()]
        count: int | str = sum(units for _, units in offered[key].values())
        if any(line.unlimited for line in lines):
            count = UNCOUNTED
        template = _template(index, request, lines, preview.at_ms)
        entries.append(template.fill(count, 0, served=True))
    # Without a list nothing was asked for, so nothing that was is missing.
    shortfalls = preview.shortfalls if request.wants else []
    return _answer(request, entries, shortfalls, b"")


def _answer(
    request: AccessRequest, entries: list[bytes], shortfalls: list[Shortfall], renew: bytes
) -> bytes:
    """Put an answer together; `renew` is the member that previews do not have."""
    return b"".join(
        (
            b'{"requestHostId":',
            _encode(request.host),
            b',"features":[',
            b",".join(entries),
            b"]",
            renew,
            b',"statusList":',
            _encode(_status_list(request, shortfalls)),
            b"}",
        )
    )


class _Template(msgspec.Struct, frozen=True):
    """An entry of `features[]` but for its count and its lapse, good from one moment to another.

    What it says changes only when a line of its feature starts or expires.
    """

    head: bytes  # name and version
    max_count: bytes
    expires: bytes  # when nothing lapses
    tail: bytes
    line_items: bytes
    from_ms: int
    until_ms: int

    def fill(self, count: int | str, lapses_ms: int, *, served: bool) -> bytes:
        """Give the entry. `lapses_ms` 0: it does not lapse. Not `served`: no line is listed."""
        expires = b',"expires":"%b"' % iso(lapses_ms).encode() if lapses_ms else self.expires
        line_items = self.line_items if served else b"[]}"
        return b"".join((self.head, _encode(count), self.max_count, expires, self.tail, line_items))


def _template(
    index: CatalogueIndex, request: AccessRequest, lines: list[Line], at_ms: int
) -> _Template:
    """Give the template of an entry that these lines serve, made once and kept by the catalogue."""
    feature = lines[0].feature
    asked = [want.version for want in request.wants if want.name == feature]
    lowest = asked[0] if len(asked) == 1 else min(asked, key=version_key, default=ANY_VERSION)
    selectors = tuple(sorted(request.selectors.items())) if request.selectors else ()
    memo_key = (tuple([line.id for line in lines]), lowest, selectors, request.interval_s)
    template: _Template | None = index.kept.get(memo_key)
    if template is None or not template.from_ms <= at_ms < template.until_ms:
        template = _make_template(index, request, lines, lowest, at_ms)
        if len(index.kept) >= TEMPLATES_MAX:
            index.kept.clear()
        index.kept[memo_key] = template
    return template


def _make_template(
    index: CatalogueIndex, request: AccessRequest, lines: list[Line], lowest: str, at_ms: int
) -> _Template:
    first = lines[0]
    expiries = [line.expires_ms for line in lines if line.expires_ms is not None]
    final = iso(min(expiries)) if expiries else PERMANENT
    capacity = _max_count(index, request, first, lowest, at_ms)
    texts = {
        "vendorString": first.vendor_string,
        "serialNumber": first.serial_number,
        "issuer": first.issuer,
        "notice": first.notice,
    }
    tail: dict[str, Any] = {
        "finalExpiry": final,
        "entitlementExpiry": final,
        **{member: text for member, text in texts.items() if text},
        "renewInterval": min(
            renew_interval_s(line, index.catalogue, request.interval_s) for line in lines
        ),
    }
    items = [
        {
            "productName": line.product.name,
            "productVersion": line.product.version,
            "activationId": line.product.activation_id,
            "entitlementId": line.product.entitlement_id,
        }
        for line in lines
    ]
    moments = [
        moment
        for line in index.lines_of(first.feature)
        for moment in (line.starts_ms, line.expires_ms)
        if moment is not None
    ]
    head = {"name": first.feature, "version": first.version}
    return _Template(
        head=_encode(head)[:-1] + b',"count":',
        max_count=b"" if capacity is None else b',"maxCount":%d' % capacity,
        expires=b',"expires":"%b"' % final.encode() if expiries else b"",
        tail=b"," + _encode(tail)[1:-1] + b',"lineItemsInfo":',
        line_items=_encode(items) + b"}",
        from_ms=max((moment for moment in moments if moment <= at_ms), default=0),
        until_ms=min((moment for moment in moments if moment > at_ms), default=_FOR_EVER),
    )


def _max_count(
    index: CatalogueIndex, request: AccessRequest, line: Line, lowest: str, at_ms: int
) -> int | None:
    """Give the capacity over the candidate lines of this line's version; None: unlimited."""
    rows, _ = candidates(index.lines_of(line.feature), lowest, request.selectors, at_ms)
    own = version_key(line.version)
    same = [row for row in rows if version_key(row.version) == own]
    return None if any(row.unlimited for row in same) else sum(row.capacity for row in same)


def _entry_key(line: Line) -> EntryKey:
    return (line.feature, version_key(line.version))


def _in_order(request: AccessRequest, entries: Collection[EntryKey]) -> Collection[EntryKey]:
    """Order entries as features were asked for; without a list by name and version."""
    if len(entries) < 2:
        return entries
    if not request.wants:
        return sorted(entries)
    # As the ledger gives them, but where what is consumed and what is held are asked for in turn.
    if [name for name, _ in entries] == list(dict.fromkeys(want.name for want in request.wants)):
        return entries
    place: dict[str, int] = {}
    for at, want in enumerate(request.wants):
        place.setdefault(want.name, at)
    return sorted(entries, key=lambda key: place.get(key[0], len(place)))


def _status_list(request: AccessRequest, shortfalls: list[Shortfall]) -> list[dict[str, str]]:
    status: list[dict[str, str]] = []
    if not shortfalls:
        return status
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
