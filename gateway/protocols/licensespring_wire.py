"""What LicenseSpring clients are answered, as types: both versions, members in the order sent.

Decided here: members, types and words; no text is ever at the top level of `user`, `company`,
`customer` or `product_details`, which clients take for objects, and no key looks like a number,
which their writers would move. Not decided here: values (licensespring_answers.py).
Source: protocols/licensespring.md 1.3 to 1.5, 2.1 to 2.3 and 9.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

_Units: TypeAlias = Annotated[int, Meta(description="Of this and other servers, signed.")]
_Most: TypeAlias = Annotated[int, Meta(ge=0)]
_Period: TypeAlias = Literal["daily", "weekly", "monthly", "annually"] | None
_Moment: TypeAlias = Annotated[
    str, Meta(description="RFC 3339, UTC.", examples=["2029-05-06T00:00:00Z"])
]
_Minutes: TypeAlias = Annotated[int, Meta(ge=0, description="Minutes.")]
_Signature: TypeAlias = Annotated[
    Literal[""], Meta(description="Always empty: the header `LicenseSignature` is what counts.")
]
_LicenseJson: TypeAlias = Annotated[
    str, Meta(description="The licence object once more, as JSON in a text.")
]


class Consumption(msgspec.Struct, frozen=True):
    """What is consumed of a licence, right after the request."""

    id: int
    max_consumptions: _Most
    total_consumptions: _Units
    allow_unlimited_consumptions: bool
    allow_negative_consumptions: bool
    allow_overages: bool
    max_overages: _Most
    reset_consumption: bool
    consumption_period: _Period


class SignedConsumption(Consumption, frozen=True):
    """The same, of version 2."""

    license_signature: _Signature = ""


class FeatureConsumption(msgspec.Struct, frozen=True):
    """What is consumed of a feature, right after the request; its maximum under both its names."""

    id: int
    license_id: int
    max_consumption: _Most
    max_consumptions: _Most
    total_consumptions: _Units
    allow_unlimited_consumptions: bool
    allow_negative_consumptions: bool
    allow_overages: bool
    max_overages: _Most
    reset_consumption: bool
    consumption_period: _Period


class SignedFeatureConsumption(SignedConsumption, frozen=True, kw_only=True):
    """What is consumed of a feature, of version 2."""

    is_floating_cloud: bool = False
    is_floating: bool = False
    floating_timeout: _Minutes = 0
    floating_users: _Most = 0


class ConsumptionFeature(msgspec.Struct, frozen=True, tag="consumption", tag_field="feature_type"):
    """A feature that is consumed, as a part of its licence."""

    id: int
    code: str
    max_consumption: _Most
    total_consumptions: _Units
    allow_unlimited_consumptions: bool
    allow_negative_consumptions: bool
    allow_overages: bool
    max_overages: _Most
    reset_consumption: bool
    consumption_period: _Period


class FloatingFeature(msgspec.Struct, frozen=True, tag="activation", tag_field="feature_type"):
    """A feature that is held, as a part of its licence."""

    id: int
    code: str
    is_floating: bool
    is_floating_cloud: bool
    floating_timeout: _Minutes
    floating_users: _Most
    floating_in_use: _Most


Feature: TypeAlias = ConsumptionFeature | FloatingFeature


class License(msgspec.Struct, frozen=True):
    """A licence, as clients of version 1 see it."""

    id: int
    license_type: Literal["consumption", "perpetual", "time-limited"]
    product: str
    is_floating: bool
    is_floating_cloud: bool
    floating_timeout: _Minutes
    floating_users: _Most
    floating_in_use: _Most
    validity_period: _Moment | None
    max_consumptions: _Most
    total_consumptions: _Units
    allow_unlimited_consumptions: bool
    allow_negative_consumptions: bool
    allow_overages: bool
    max_overages: _Most
    reset_consumption: bool
    consumption_period: _Period
    product_features: list[Feature]


class SignedLicense(License, frozen=True):
    """A licence, as clients of version 2 see it: each has its own name for the features."""

    license_features: list[Feature]
    license_signature: _Signature = ""


class Registered(msgspec.Struct, frozen=True):
    """A registration of version 1; some read one counter, some the other."""

    license_id: int
    floating_slots_in_use: _Most
    floating_in_use: _Most
    max_consumptions: _Most
    total_consumptions: _Units
    license_json: _LicenseJson


class Borrowed(msgspec.Struct, frozen=True):
    """A borrow of version 1."""

    license_id: int
    borrowed_until: _Moment
    floating_slots_in_use: _Most
    floating_in_use: _Most
    license_json: _LicenseJson


class SignedBorrow(msgspec.Struct, frozen=True):
    """A borrow of version 2, with what clients of version 1 read as well."""

    license_id: int
    device_id: int
    borrowed_until: _Moment
    license_signature: _Signature
    max_borrow_time: Annotated[int, Meta(ge=0, description="Hours.")]
    floating_slots_in_use: _Most
    floating_in_use: _Most
    license_json: _LicenseJson


class FeatureRegistered(msgspec.Struct, frozen=True):
    """A registration of a feature, of version 1."""

    id: int
    license_id: int
    code: str
    feature_type: Literal["activation"]
    is_floating: bool
    floating_timeout: _Minutes
    floating_users: _Most
    floating_in_use: _Most


class SignedFeatureRegistered(msgspec.Struct, frozen=True):
    """A registration of a feature, of version 2."""

    id: int
    code: str
    feature_type: Literal["activation"]
    is_floating: bool
    is_floating_cloud: bool
    floating_timeout: _Minutes
    floating_users: _Most
    license_signature: _Signature = ""


class Registration(msgspec.Struct, frozen=True):
    """A registered user."""

    username: str
    email: None
    license_id: int
    product: str
    product_id: Annotated[int, Meta(description="The least number of the product's lines.")]
    floating_amount: _Most
    floating_end_time: _Moment | None
    created_at: _Moment
    last_check: _Moment
    is_borrowed: bool


class AddedLicense(msgspec.Struct, frozen=True):
    """A licence that is there."""

    license_id: int
    product: str
    message: str


class AddedLicenseV2(msgspec.Struct, frozen=True):
    """A licence that is there, of version 2."""

    status: Literal["ok"]
    message: str
    product: str
    license_id: int


class Unregistered(msgspec.Struct, frozen=True):
    """Nobody is registered any more."""

    status: Literal["ok"]
    message: str
    license_id: int


class Pong(msgspec.Struct, frozen=True):
    """What tells clients that version 2 is spoken; each looks at another member."""

    message: Literal["pong"]
    version: Literal["v5"]


class Online(msgspec.Struct, frozen=True):
    """The server is there."""

    status: Literal["ok"]


class BasicLogin(msgspec.Struct, frozen=True):
    """A log-in of version 1. The token is a JWT with the claims `role` and `username`."""

    message: str
    token: str


class LoginV2(msgspec.Struct, frozen=True):
    """A log-in of version 2."""

    token: str
    expires_at: _Moment
    expires_in: Annotated[int, Meta(ge=0, description="Seconds.")]


class Refreshed(msgspec.Struct, frozen=True):
    """A token that lasts longer."""

    token: str


class Me(msgspec.Struct, frozen=True):
    """Who is logged in."""

    id: int
    username: str
    role: Literal["admin", "user"]


class FloatingError(msgspec.Struct, frozen=True, omit_defaults=True):
    """The one shape of refusals under LicenseSpring's paths. `error`: below `/api/v5/auth` only."""

    status: int
    code: Annotated[str, Meta(pattern="^[a-z_]+$", description="Which refusal: for programs.")]
    message: Annotated[str, Meta(description="Why: for people.")]
    error: str = ""
