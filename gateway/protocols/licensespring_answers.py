"""From licences and counters to what LicenseSpring clients are answered, as compact JSON.

Decided here: how a line's limits are said in their words, what is in which answer, how moments are
written. One body is written once: those bytes are signed and those bytes are sent. Not decided
here: members and their order (licensespring_wire.py), who is answered what (service/, web/). Pure.
Source: protocols/licensespring.md 1.3 to 1.5, 2, 4 and 10.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from gateway.core.floating import (
    License,
    Licenses,
    code_of,
    overages_of,
    timeout_minutes,
)
from gateway.core.model import UNITS_MAX, Catalogue, Line, Model, Reset
from gateway.core.numbers import client_number
from gateway.protocols import licensespring_wire as wire

UNREGISTERED: Final = "user_unregistered"
RELEASED: Final = "feature_released"
ALL_RELEASED: Final = "features_released"
ADDED: Final = "license added"
ALL_UNREGISTERED: Final = "all users unregistered"
LOGGED_IN: Final = "Login successful"

_HOUR_MS: Final = 3_600_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

encode: Final = msgspec.json.Encoder().encode


class View(msgspec.Struct, frozen=True):
    """A licence as it stands: `totals` by line, what other servers consumed included.

    A line without a total was not looked at; it is left out where lines are listed.
    """

    catalogue: Catalogue
    license: License
    totals: Mapping[str, int]


class Registration(msgspec.Struct, frozen=True):
    """A user that holds seats, by the moments of the store; `lapses_ms` 0: for ever."""

    user: str
    count: int
    lapses_ms: int
    since_ms: int
    checked_ms: int
    borrowed: bool


def license_v1(view: View) -> wire.License:
    """Give a licence as version 1 tells of it."""
    return wire.License(**_license(view))


def license_v2(view: View) -> wire.SignedLicense:
    """Give a licence as version 2 tells of it."""
    members = _license(view)
    return wire.SignedLicense(**members, license_features=members["product_features"])


def features_of(view: View) -> list[wire.Feature]:
    """Give the features of a licence."""
    return [_feature(line, view) for line in view.license.features if line.id in view.totals]


def registered(view: View) -> wire.Registered:
    """Answer a registration of version 1."""
    in_use = _in_use(view)
    limits = _limits_of(view)
    return wire.Registered(
        license_id=view.license.id,
        floating_slots_in_use=in_use,
        floating_in_use=in_use,
        max_consumptions=limits["max_consumptions"],
        total_consumptions=limits["total_consumptions"],
        license_json=_license_json(view),
    )


def borrowed(view: View, until_ms: int) -> wire.Borrowed:
    """Answer a borrow of version 1."""
    in_use = _in_use(view)
    return wire.Borrowed(
        license_id=view.license.id,
        borrowed_until=moment(until_ms),
        floating_slots_in_use=in_use,
        floating_in_use=in_use,
        license_json=_license_json(view),
    )


def signed_borrow(view: View, host: str, until_ms: int) -> wire.SignedBorrow:
    """Answer a borrow of version 2; `host` is who borrows, in canonical form."""
    in_use = _in_use(view)
    return wire.SignedBorrow(
        license_id=view.license.id,
        device_id=client_number(host),
        borrowed_until=moment(until_ms),
        license_signature="",
        max_borrow_time=view.catalogue.borrow_max_ms // _HOUR_MS,
        floating_slots_in_use=in_use,
        floating_in_use=in_use,
        license_json=_license_json(view),
    )


def consumption_v1(view: View, line: Line) -> wire.Consumption:
    """Answer consumption of a licence, of version 1."""
    return wire.Consumption(id=view.license.id, **_limits(line, view.totals.get(line.id, 0)))


def consumption_v2(view: View, line: Line) -> wire.SignedConsumption:
    """Answer consumption of a licence, of version 2."""
    return wire.SignedConsumption(id=view.license.id, **_limits(line, view.totals.get(line.id, 0)))


def feature_consumption_v1(view: View, line: Line) -> wire.FeatureConsumption:
    """Answer consumption of a feature, of version 1."""
    limits = _limits(line, view.totals.get(line.id, 0))
    return wire.FeatureConsumption(
        id=line.number,
        license_id=view.license.id,
        max_consumption=limits["max_consumptions"],
        **limits,
    )


def feature_consumption_v2(view: View, line: Line) -> wire.SignedFeatureConsumption:
    """Answer consumption of a feature, of version 2."""
    limits = _limits(line, view.totals.get(line.id, 0))
    return wire.SignedFeatureConsumption(id=line.number, **limits)


def feature_registered_v1(view: View, line: Line) -> wire.FeatureRegistered:
    """Answer the registration of a feature, of version 1."""
    return wire.FeatureRegistered(
        id=line.number,
        license_id=view.license.id,
        code=code_of(line),
        feature_type="activation",
        is_floating=True,
        floating_timeout=timeout_minutes(line, view.catalogue),
        floating_users=_seats(line),
        floating_in_use=max(0, view.totals.get(line.id, 0)),
    )


def feature_registered_v2(view: View, line: Line) -> wire.SignedFeatureRegistered:
    """Answer the registration of a feature, of version 2."""
    return wire.SignedFeatureRegistered(
        id=line.number,
        code=code_of(line),
        feature_type="activation",
        is_floating=True,
        is_floating_cloud=False,
        floating_timeout=timeout_minutes(line, view.catalogue),
        floating_users=_seats(line),
    )


def registration(licenses: Licenses, license_: License, of: Registration) -> wire.Registration:
    """Tell of a registered user."""
    return wire.Registration(
        username=of.user,
        email=None,
        license_id=license_.id,
        product=license_.product,
        product_id=min(
            (each.number for each in licenses.of_product(license_.product)),
            default=license_.number,
        ),
        floating_amount=of.count,
        floating_end_time=moment(of.lapses_ms) if of.lapses_ms else None,
        created_at=moment(of.since_ms or of.checked_ms),
        last_check=moment(of.checked_ms),
        is_borrowed=of.borrowed,
    )


def added_v1(license_: License) -> wire.AddedLicense:
    """Answer `addProduct`: the licence is there."""
    return wire.AddedLicense(license_.id, license_.product, ADDED)


def added_v2(license_: License) -> wire.AddedLicenseV2:
    """Answer the POST of a licence: it is there."""
    return wire.AddedLicenseV2("ok", ADDED, license_.product, license_.id)


def all_unregistered(license_: License) -> wire.Unregistered:
    """Answer that nobody is registered any more."""
    return wire.Unregistered("ok", ALL_UNREGISTERED, license_.id)


def moment(at_ms: int) -> str:
    """Write a moment in whole seconds, never a later one: `2029-05-06T00:00:00Z`."""
    return f"{_EPOCH + timedelta(seconds=at_ms // 1000):%Y-%m-%dT%H:%M:%SZ}"


def _license(view: View) -> dict[str, Any]:
    own, catalogue = view.license, view.catalogue
    kind = "perpetual" if own.expires_ms is None else "time-limited"
    return {
        "id": own.id,
        "license_type": "consumption" if own.units is not None else kind,
        "product": own.product,
        "is_floating": True,
        "is_floating_cloud": False,
        "floating_timeout": 0 if own.seats is None else timeout_minutes(own.seats, catalogue),
        "floating_users": 0 if own.seats is None else _seats(own.seats),
        "floating_in_use": _in_use(view),
        "validity_period": None if own.expires_ms is None else moment(own.expires_ms),
        **_limits_of(view),
        "product_features": features_of(view),
    }


def _license_json(view: View) -> str:
    return encode(license_v1(view)).decode()


def _feature(line: Line, view: View) -> wire.Feature:
    total = view.totals[line.id]
    if line.model is Model.CONCURRENT:
        return wire.FloatingFeature(
            id=line.number,
            code=code_of(line),
            is_floating=True,
            is_floating_cloud=False,
            floating_timeout=timeout_minutes(line, view.catalogue),
            floating_users=_seats(line),
            floating_in_use=max(0, total),
        )
    limits = _limits(line, total)
    limits["max_consumption"] = limits.pop("max_consumptions")
    return wire.ConsumptionFeature(id=line.number, code=code_of(line), **limits)


def _limits_of(view: View) -> dict[str, Any]:
    """Give the limits of the licence itself; nothing is allowed where nothing can be consumed."""
    units = view.license.units
    if units is not None:
        return _limits(units, view.totals.get(units.id, 0))
    return {
        "max_consumptions": 0,
        "total_consumptions": 0,
        "allow_unlimited_consumptions": False,
        "allow_negative_consumptions": False,
        "allow_overages": False,
        "max_overages": 0,
        "reset_consumption": False,
        "consumption_period": None,
    }


def _limits(line: Line, total: int) -> dict[str, Any]:
    overages = overages_of(line)
    reset = line.reset is not Reset.NONE
    return {
        "max_consumptions": line.count or 0,
        "total_consumptions": total,
        "allow_unlimited_consumptions": line.count is None,
        "allow_negative_consumptions": line.allow_negative_consumptions,
        "allow_overages": overages.allow,
        "max_overages": overages.most,
        "reset_consumption": reset,
        "consumption_period": line.reset.value if reset else None,
    }


def _in_use(view: View) -> int:
    seats = view.license.seats
    return 0 if seats is None else max(0, view.totals.get(seats.id, 0))


def _seats(line: Line) -> int:
    return UNITS_MAX if line.count is None else line.count
