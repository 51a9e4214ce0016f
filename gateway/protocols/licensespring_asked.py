"""The bodies that LicenseSpring clients send, as types: what the document tells of them.

Decided here: members, bounds and words of what licensespring_requests.py reads; members that it
lets be are not named. A test sends what these types allow. Source: protocols/licensespring.md 1, 2.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gateway.core.passwords import PASSWORD_BYTES_MAX
from gateway.protocols.licensespring_members import TEXT_BYTES_MAX

_Text: TypeAlias = Annotated[
    str, Meta(pattern=r"^[^\x00-\x1f\x7f-\x9f]+$", min_length=1, max_length=TEXT_BYTES_MAX)
]
_User: TypeAlias = Annotated[_Text, Meta(description="Who asks.")]
_SomeUser: TypeAlias = Annotated[
    _Text | UnsetType | None, Meta(description="Who consumes; nobody in particular without it.")
]
_Digits: TypeAlias = Annotated[str, Meta(pattern="^[+-]?[0-9]{1,19}$")]
_Id: TypeAlias = Annotated[
    Annotated[int, Meta(ge=0)] | _Digits | UnsetType | None,
    Meta(description="Which licence; without it, or 0, the product's that was added last."),
]
_Units: TypeAlias = Annotated[
    int | _Digits | UnsetType | None,
    Meta(description="How much, 1 without it; below 0 where the line allows negative amounts."),
]
_Flag: TypeAlias = Annotated[
    bool | Literal["true", "false"] | UnsetType | None,
    Meta(description="A change of the stored setting, where the line allows clients to."),
]
_Most: TypeAlias = Annotated[
    Annotated[int, Meta(ge=0)] | _Digits | UnsetType | None,
    Meta(description="As `allow_overages`; allowed with 0 is without limit."),
]
_Until: TypeAlias = Annotated[
    str | UnsetType | None,
    Meta(description="RFC 3339; cut at the instance's longest interval, which is also meant"
         " without it."),
]  # fmt: skip
_FeatureUntil: TypeAlias = Annotated[
    str | UnsetType | None, Meta(description="RFC 3339; the floating timeout without it.")
]


class LicenseUser(msgspec.Struct, kw_only=True):
    """A user of a licence, of version 1."""

    product: _Text
    license_id: _Id = UNSET
    user: _User


class LicenseBorrow(LicenseUser, kw_only=True):
    """A borrow, of version 1."""

    borrowed_until: _Until = UNSET


class LicenseUnits(msgspec.Struct, kw_only=True):
    """Consumption of a licence, of version 1."""

    product: _Text
    license_id: _Id = UNSET
    user: _SomeUser = UNSET
    consumptions: _Units = UNSET
    allow_overages: _Flag = UNSET
    max_overages: _Most = UNSET


class FeatureUnits(msgspec.Struct, kw_only=True):
    """Consumption of a feature, of version 1."""

    product: _Text
    license_id: _Id = UNSET
    feature: _Text
    user: _SomeUser = UNSET
    consumptions: _Units = UNSET


class FeatureUser(LicenseUser, kw_only=True):
    """A user of a feature, of version 1."""

    feature: _Text
    borrowed_until: _FeatureUntil = UNSET


class User(msgspec.Struct, kw_only=True):
    """A user; `Username` means the same."""

    username: _User


class Borrow(User, kw_only=True):
    """A borrow."""

    borrowed_until: _Until = UNSET


class Units(msgspec.Struct, kw_only=True):
    """Consumption of a licence."""

    username: _SomeUser = UNSET
    consumptions: _Units = UNSET
    allow_overages: _Flag = UNSET
    max_overages: _Most = UNSET


class UnitsOfFeature(msgspec.Struct, kw_only=True):
    """Consumption of a feature."""

    feature: _Text
    username: _SomeUser = UNSET
    consumptions: _Units = UNSET


class UserOfFeature(User, kw_only=True):
    """A user of a feature."""

    feature: _Text


class BorrowOfFeature(UserOfFeature, kw_only=True):
    """A user of a feature, for the floating timeout or until a moment."""

    borrow_until: _FeatureUntil = UNSET


class Everybody(msgspec.Struct, kw_only=True):
    """Everybody; no member is needed."""


class EverybodyOfFeature(msgspec.Struct, kw_only=True):
    """Everybody who has a feature, or any."""

    feature: _Text | UnsetType | None = UNSET


class LicenseKey(msgspec.Struct, kw_only=True):
    """A licence by its key."""

    product: _Text
    license_key: _Text


class NameAndPassword(msgspec.Struct, kw_only=True):
    """A log-in."""

    username: _User
    password: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=PASSWORD_BYTES_MAX,
            extra_json_schema={"format": "password", "writeOnly": True},
        ),
    ]
