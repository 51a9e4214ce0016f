"""What LicenseSpring's operations ask of the ledger: tables of one line, units and flags.

Decided here: that a registration is a held seat, a heartbeat the same request again, a borrow a
seat held for longer, a feature registration one that a seat is presupposed for; what a request
means for SEMANTICS 9; and which word a shortfall is told with. Not decided here: how requests are
spelled (protocols/), what the ledger does (trial.py). Pure.
Source: protocols/licensespring.md 1.1, 4, 9 and 10.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

from gateway.core.calls import INCREMENTAL, LATER, RESTOCK, SET, TELL
from gateway.core.catalogue import CatalogueIndex, ResolvedWant
from gateway.core.floating import (
    License,
    Refusal,
    overdraft_asked,
    user_host,
    with_overdraft,
)
from gateway.core.model import AccessRequest, Code, Line, Model, Outcome, Want
from gateway.core.versions import ANY_VERSION

ASKED: Final = "licensespring"  # under which a request's meaning names the operation


class Operation(StrEnum):
    """What a client may do to a licence."""

    REGISTER = "register"
    UNREGISTER = "unregister"
    BORROW = "borrow"
    CONSUME = "add_consumption"
    CONSUME_FEATURE = "add_feature_consumption"
    REGISTER_FEATURE = "feature_register"
    RELEASE_FEATURE = "feature_release"


class Asking(msgspec.Struct, frozen=True, kw_only=True):
    """One operation as a client asked for it, at whichever version of the protocol.

    `user` "": nobody said. `until_ms`: when a borrow is to end; None: as late as may be, or it is
    no borrow. `allow_overages` and `max_overages` None: not given.
    """

    operation: Operation
    product: str | None = None
    license_id: int | None = None
    user: str = ""
    feature: str = ""
    units: int = 0
    until_ms: int | None = None
    allow_overages: bool | None = None
    max_overages: int | None = None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What an operation comes to for the ledger.

    `index` is of the catalogue that the request would make, version not yet counted; None: it
    changes no setting. `echo` says the same as an access request, for those who ask why.
    """

    wants: list[ResolvedWant]
    flags: int
    echo: AccessRequest
    index: CatalogueIndex | None = None


# By the place of a want, the word for too little of it. What is given back is never too little.
_SHORT: Final[Mapping[Operation, tuple[Refusal, ...]]] = {
    Operation.REGISTER: (Refusal.NO_SLOT,),
    Operation.BORROW: (Refusal.NO_SLOT,),
    Operation.REGISTER_FEATURE: (Refusal.LICENSE_NOT_FOUND, Refusal.NO_SLOT),
    Operation.CONSUME: (Refusal.LICENSE_NOT_ENOUGH,),
    Operation.CONSUME_FEATURE: (Refusal.FEATURE_NOT_ENOUGH,),
}


class Refused(msgspec.Struct, frozen=True):
    """An operation that the ledger need not be asked about; `message` "" is the code's own."""

    refusal: Refusal
    message: str = ""


def plan(index: CatalogueIndex, license_: License, asking: Asking) -> Plan | Refused:
    """Say what an operation on a licence asks of the ledger, or why it is refused without it."""
    match asking.operation:
        case Operation.REGISTER:
            return _register(index, license_, asking)
        case Operation.BORROW:
            return _borrow(index, license_, asking)
        case Operation.UNREGISTER:
            held = [line for line in license_.lines if line.model is Model.CONCURRENT]
            # With nothing to release the ledger is asked all the same: it remembers the request.
            return release(index, asking.user, held, told=() if held else license_.lines[:1])
        case Operation.REGISTER_FEATURE:
            return _register_feature(index, license_, asking)
        case Operation.RELEASE_FEATURE:
            line = license_.feature(asking.feature)
            if line is None or line.model is not Model.CONCURRENT:
                return Refused(Refusal.UNSUPPORTED_FEATURE)
            return release(index, asking.user, [line])
        case Operation.CONSUME:
            if license_.units is None:
                return Refused(Refusal.LICENSE_NOT_CONSUMPTION)
            return _consume(index, license_.units, asking)
        case Operation.CONSUME_FEATURE:
            line = license_.feature(asking.feature)
            if line is None or line.model is not Model.METERED:
                return Refused(Refusal.UNSUPPORTED_FEATURE)
            return _consume(index, line, asking)


def meaning(asking: Asking) -> AccessRequest:
    """Say what a request means: equal for requests of the same meaning, whatever they resolve to.

    The licence is named as the client named it: which one is the newest may change meanwhile.
    """
    said: dict[str, str | int] = {ASKED: asking.operation.value}
    for name in ("product", "license_id", "until_ms", "allow_overages", "max_overages"):
        if (value := getattr(asking, name)) is not None:
            said[name] = value
    want = Want(asking.feature, ANY_VERSION, asking.units)
    return AccessRequest(host=user_host(asking.user), wants=(want,), incremental=True, vendor=said)


def refusal_of(asking: Asking, outcome: Outcome) -> Refusal | None:
    """Say with which word an outcome is refused; None: it was granted."""
    if not outcome.shortfalls:
        return None
    first = outcome.shortfalls[0]
    match first.code:
        case Code.LICENSE_LAPSED if asking.until_ms is not None and (
            asking.until_ms <= outcome.at_ms
        ):
            return Refusal.BORROW_UNTIL
        case Code.LICENSE_LAPSED | Code.LICENSE_NOT_YET_VALID:
            return Refusal.LICENSE_NOT_ACTIVE
        case Code.NOT_HELD | Code.FEATURE_NOT_FOUND:
            return Refusal.LICENSE_NOT_FOUND
        case Code.RETURN_TOO_LARGE:
            return Refusal.VALIDATION
        case _:
            return _SHORT[asking.operation][first.want]


def line_of(asking: Asking, outcome: Outcome) -> str:
    """Give the id of the line that an operation was about: the first that is told of, but a feature
    that was registered comes after the seat that it presupposes.
    """
    return outcome.told[1 if asking.operation is Operation.REGISTER_FEATURE else 0].line


def release(
    index: CatalogueIndex, user: str, lines: list[Line], told: tuple[Line, ...] = ()
) -> Plan:
    """Give back all that a user holds of some concurrent lines; nothing held is no fault."""
    return _plan(index, user, [(line, 0) for line in lines], SET | TELL, told=told)


def _register(index: CatalogueIndex, license_: License, asking: Asking) -> Plan | Refused:
    seats = license_.seats
    if seats is None:
        return Refused(Refusal.NO_SLOT)
    # A heartbeat does not shorten a borrow.
    flags = SET | LATER | TELL
    return _plan(index, asking.user, [(seats, 1)], flags, told=license_.lines)


def _borrow(index: CatalogueIndex, license_: License, asking: Asking) -> Plan | Refused:
    seats = license_.seats
    if seats is None:
        return Refused(Refusal.BORROW_NOT_ALLOWED)
    resolved = index.resolve_line(
        seats, interval_ms=index.catalogue.borrow_max_ms, until_ms=asking.until_ms
    )
    wants: list[ResolvedWant] = [(resolved, [(1, 0)])]
    wants += [(index.resolve_line(line), []) for line in license_.lines if line is not seats]
    return Plan(
        wants=wants,
        flags=INCREMENTAL | SET | TELL,
        echo=_echo(asking.user, [(seats, 1)]),
    )


def _register_feature(index: CatalogueIndex, license_: License, asking: Asking) -> Plan | Refused:
    line = license_.feature(asking.feature)
    if line is None or line.model is not Model.CONCURRENT:
        return Refused(Refusal.UNSUPPORTED_FEATURE)
    if license_.seats is None:
        return Refused(Refusal.LICENSE_NOT_FOUND)
    if asking.until_ms is None:
        resolved, flags = index.resolve_line(line), SET | LATER | TELL
    else:
        most_ms = index.catalogue.borrow_max_ms
        resolved = index.resolve_line(line, interval_ms=most_ms, until_ms=asking.until_ms)
        flags = SET | TELL
    return Plan(
        wants=[(index.resolve_line(license_.seats), [(-1, 0)]), (resolved, [(1, 1)])],
        flags=INCREMENTAL | flags,
        echo=_echo(asking.user, [(license_.seats, 0), (line, 1)]),
    )


def _consume(index: CatalogueIndex, line: Line, asking: Asking) -> Plan | Refused:
    if asking.units < 0 and not line.allow_negative_consumptions:
        return Refused(Refusal.NEGATIVE)
    overdraft = overdraft_asked(line, asking.allow_overages, asking.max_overages)
    changed = None
    if overdraft is not None:
        if not line.client_overages:
            return Refused(
                Refusal.VALIDATION,
                "overages of this licence are changed by its provider only, unless its line says"
                " client_overages",
            )
        changed = CatalogueIndex(with_overdraft(index.catalogue, line.id, overdraft))
        index, line = changed, changed.line[line.id]
    made = _plan(index, asking.user, [(line, asking.units)], RESTOCK | TELL)
    return made if changed is None else msgspec.structs.replace(made, index=changed)


def _plan(
    index: CatalogueIndex,
    user: str,
    asked: list[tuple[Line, int]],
    flags: int,
    *,
    told: tuple[Line, ...] = (),
) -> Plan:
    wants: list[ResolvedWant] = [
        (index.resolve_line(line), [(units, place)]) for place, (line, units) in enumerate(asked)
    ]
    known = {line.id for line, _ in asked}
    wants += [(index.resolve_line(line), []) for line in told if line.id not in known]
    return Plan(wants=wants, flags=INCREMENTAL | flags, echo=_echo(user, asked))


def _echo(user: str, asked: list[tuple[Line, int]]) -> AccessRequest:
    wants = tuple(Want(line.feature, line.version, units) for line, units in asked)
    return AccessRequest(host=user_host(user), wants=wants, incremental=True)
