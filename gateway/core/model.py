"""The glossary as types: what a catalogue, a request and an outcome are.

Decided here: names, shapes, units and bounds that every floor shares. Not decided here: what a
request means (ledger.py), how it looks on a wire (protocols/), where it is kept (store/). Moments
are integer milliseconds UTC (`…_at_ms`, `…_ms`), counts are integers. Source: SEMANTICS 1 to 4.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

import msgspec

# exact in Lua's doubles, in JSON and in Redis; also what "unlimited" means
UNITS_MAX: Final = 2**53 - 1
COUNT_MAX: Final = 10**12  # of one feature in one request
FEATURES_MAX: Final = 64  # in one request
LINES_PER_FEATURE_MAX: Final = 64
LINES_MAX: Final = 10_000  # in one instance
INTERVAL_DAYS_MAX: Final = 3660
RS256_KEYS_MAX: Final = 4  # of one instance, in force at once
USERS_MAX: Final = 256  # of one instance


_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_USER_NAME: Final = re.compile(r"[A-Za-z0-9._@-]{1,64}")


def is_instance_id(text: str) -> bool:
    """Say whether a text can name an instance; ids of lines and upstreams have the same form.

    An id is part of keys and fields of the store: nothing else may become one.
    """
    return _ID.fullmatch(text) is not None


def is_user_name(text: str) -> bool:
    """Say whether a text can name an administrator."""
    return _USER_NAME.fullmatch(text) is not None


class Role(StrEnum):
    """What an administrator may do. None implies another: an endpoint names what it asks for."""

    READ = "ROLE_READ"
    RESERVATIONS = "ROLE_RESERVATIONS"
    DROPCLIENT = "ROLE_DROPCLIENT"
    ADMIN = "ROLE_ADMIN"
    PRODUCER = "ROLE_PRODUCER"


class Model(StrEnum):
    """What the counts of a line mean."""

    METERED = "metered"
    METERED_REUSABLE = "metered-reusable"
    CONCURRENT = "concurrent"

    @property
    def reusable(self) -> bool:
        return self is not Model.METERED

    @property
    def metered(self) -> bool:
        """Whether consumption of such a line is usage: counted in days and forwarded upstream."""
        return self is not Model.CONCURRENT


class Reset(StrEnum):
    """In which calendar period a metered line's used starts at 0 again."""

    NONE = "none"
    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"
    ANNUALLY = "annually"


class Code(StrEnum):
    """Why a feature was not fully served; the first five are in the order of the filters."""

    FEATURE_NOT_FOUND = "FEATURE_NOT_FOUND"
    VERSION_TOO_HIGH = "VERSION_TOO_HIGH"
    LICENSE_NOT_YET_VALID = "LICENSE_NOT_YET_VALID"
    LICENSE_LAPSED = "LICENSE_LAPSED"
    DENIED_BY_POLICY = "DENIED_BY_POLICY"
    FEATURE_COUNT_INSUFFICIENT = "FEATURE_COUNT_INSUFFICIENT"
    CONSUMED_NOT_RETURNABLE = "CONSUMED_NOT_RETURNABLE"
    RETURN_TOO_LARGE = "RETURN_TOO_LARGE"
    UNDO_WINDOW_CLOSED = "UNDO_WINDOW_CLOSED"
    NOT_HELD = "NOT_HELD"  # what the request presupposes; asked for by floating clients only


class Product(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a line was sold as; echoed in `lineItemsInfo`, null where unknown."""

    name: str | None = None
    version: str | None = None
    activation_id: str | None = None
    entitlement_id: str | None = None


class FloatingLicense(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a line is to LicenseSpring clients; kept with the catalogue, read by that protocol."""

    license_id: int | None = None
    product: str = ""
    feature: str = ""
    license_key: str = ""


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One entitlement line. `capacity` is count + overdraft, UNITS_MAX when either is unlimited."""

    id: str
    feature: str
    version: str
    model: Model
    count: int | None  # None: uncounted
    overdraft: str = "0"  # as provisioned: "N", "N%" or "unlimited"
    capacity: int
    undo_ms: int = 0  # 0: no undo interval
    reset: Reset = Reset.NONE
    reset_timezone: str = "UTC"
    # catalogue version of the last change of `reset`; part of the period's label
    reset_epoch: int = 0
    starts_ms: int | None = None
    expires_ms: int | None = None  # None: permanent
    borrow_ms: int | None = None  # None: the instance's default
    renew_percent: int = 15
    vendor_string: str = ""
    serial_number: str = ""
    issuer: str = ""
    notice: str = ""
    selectors: dict[str, str] = {}
    product: Product = Product()
    licensespring: FloatingLicense | None = None
    allow_negative_consumptions: bool = False
    client_overages: bool = False
    pulled: str = ""  # the upstream that sells it: its limits hold, not a file's; "": none
    retired: bool = False
    # its id in CMAPI's reads, given when it is first applied and never again in its instance;
    # 0: not given yet
    number: int = 0

    @property
    def unlimited(self) -> bool:
        return self.capacity >= UNITS_MAX


class Key(msgspec.Struct, frozen=True, omit_defaults=True):
    """A client key of an instance: verifies exactly one algorithm. `public` is DER
    SubjectPublicKeyInfo.
    """

    kid: str
    alg: str  # RS256 | ES256 | EdDSA
    public: bytes
    forwarder: bool = False  # a gateway below: its idempotency ids are remembered for longer
    provisioned: bool = False  # declared in a provisioning file, as opposed to `keys add`
    uploaded: bool = False  # came by the licensing-key endpoint; the next upload replaces it
    until_ms: int | None = None  # not in force from this moment on; None: until it is removed


class User(msgspec.Struct, frozen=True, omit_defaults=True):
    """An administrator of an instance. `roles` are texts, so that one which a later version knows
    is kept by this one.
    """

    name: str
    password_hash: str  # core/passwords.py
    roles: tuple[str, ...] = (Role.READ.value,)
    since_s: int = 0  # an older session is of another user of that name, or of another password

    def __repr__(self) -> str:
        return f"User(name={self.name!r}, roles={self.roles!r})"  # a hash is for no log


class Attachment(msgspec.Struct, frozen=True, omit_defaults=True):
    """An upstream that this instance's usage goes to; its address is configuration."""

    name: str
    by_host: bool = False


class Catalogue(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that is provisioned of one instance: the versioned blob. `version` counts from 1."""

    id: str
    version: int = 0
    name: str = ""
    default: bool = False
    timezone: str = "UTC"
    require_signed_payload: bool = False
    require_exp: bool = True
    borrow_ms: int = 7 * 86_400_000
    borrow_max_ms: int = 365 * 86_400_000
    lines: tuple[Line, ...] = ()
    keys: tuple[Key, ...] = ()
    upstreams: tuple[Attachment, ...] = ()
    users: tuple[User, ...] = ()


class Host(msgspec.Struct, frozen=True):
    """Who asks. `type` as sent; compared without case. `value` compared exactly."""

    type: str
    value: str

    @property
    def canonical(self) -> str:
        return f"{self.type.upper()}:{self.value}"


class Want(msgspec.Struct, frozen=True, array_like=True):
    """One feature of a request after summing: `version` as asked first, `count` may be negative."""

    name: str
    version: str
    count: int


class AccessRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request normalised by SEMANTICS 2. `interval_s` 0 is no preference; `wants` in order of
    asking.
    """

    host: Host
    wants: tuple[Want, ...] = ()
    incremental: bool = False
    partial: bool = False
    interval_s: int = 0
    selectors: dict[str, str] = {}
    vendor: dict[str, str | int] = {}
    correlation_id: str | None = None


class Shortfall(msgspec.Struct, frozen=True, array_like=True):
    """A want not fully served: `want` is its place in the request, `available` what there was."""

    want: int
    code: str
    asked: int
    available: int


class Grant(msgspec.Struct, frozen=True, array_like=True):
    """Units of a metered, non-reusable line that this request added; negative for an undo."""

    line: str
    units: int


class Held(msgspec.Struct, frozen=True, array_like=True):
    """What the host holds of a reusable line after a request; `lapses_ms` 0: it does not lapse."""

    line: str
    count: int
    lapses_ms: int


class Holding(Held, frozen=True, array_like=True):
    """What a host holds of a line, as it is kept: `since_ms` is when it began to hold some of it, 0
    where that is not known. `borrowed` says that its lapse was set to last, not to be renewed.
    """

    model: int
    since_ms: int = 0
    borrowed: bool = False


class Told(msgspec.Struct, frozen=True, array_like=True):
    """A line's counters right after a request: `used` of the current period, and `elsewhere`, which
    another server consumed in it.
    """

    line: str
    used: int
    elsewhere: int


class Outcome(msgspec.Struct, frozen=True, array_like=True):
    """What a request came to; remembered under its idempotency id. `at_ms` is the transaction
    time; `told` is empty unless the request asked to be told.
    """

    at_ms: int
    shortfalls: list[Shortfall]
    grants: list[Grant]
    held: list[Held]
    told: list[Told] = []


class Offer(msgspec.Struct, frozen=True, array_like=True):
    """A preview of one candidate line for the want at place `want`: what is free and what the host
    holds.
    """

    want: int
    line: str
    available: int
    held: int


class Preview(msgspec.Struct, frozen=True, array_like=True):
    """What a host could get at `at_ms`; nothing was changed."""

    at_ms: int
    shortfalls: list[Shortfall]
    offers: list[Offer]
