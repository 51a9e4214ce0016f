"""The provisioning file as types: what its JSON Schema is made from.

Decided here: names, bounds and words of every member, as far as a schema can say them. Not decided
here: what is read; that is provisioning.py, by hand, so that everything wrong is told at once, and
a test holds these types to it. What no schema of ours says: dates are TOML's own, not text; time
zones exist; lengths are of bytes; what members together may not be. Source: INTERFACE 3.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gateway.core.fingerprint import ID_BYTES_MAX
from gateway.core.model import (
    INTERVAL_DAYS_MAX,
    LINES_MAX,
    UNITS_MAX,
    Model,
    Reset,
)
from gateway.core.provisioning_values import FEATURE_BYTES_MAX, SELECTORS_MAX, TEXT_BYTES_MAX
from gateway.core.versions import VERSION_BYTES_MAX

_DATE: Final = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME: Final = "[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})?"
_MOMENT: Final = f"{_DATE}([Tt ]{_TIME})?"
_SPAN: Final = f"A duration such as `30s`, `1h` or `1w`, up to `{INTERVAL_DAYS_MAX}d`"

Id: TypeAlias = Annotated[str, Meta(pattern="^[A-Za-z0-9._-]{1,64}$")]
Text: TypeAlias = Annotated[
    str, Meta(pattern=r"^[^\x00-\x1f\x7f-\x9f]*$", max_length=TEXT_BYTES_MAX)
]
Selector: TypeAlias = Annotated[str, Meta(max_length=TEXT_BYTES_MAX)]
Zone: TypeAlias = Annotated[str, Meta(description="An IANA time zone.", examples=["Europe/Paris"])]
Units: TypeAlias = Annotated[int, Meta(ge=0, le=UNITS_MAX)]
Span: TypeAlias = Annotated[
    str, Meta(pattern="^0*[1-9][0-9]*[smhdw]?$", description=f"{_SPAN}, at least 1 s.")
]
SpanOrZero: TypeAlias = Annotated[
    str, Meta(pattern="^[0-9]+[smhdw]?$", description=f"{_SPAN}; 0: none.")
]


class Product(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What the line was sold as; shown in answers."""

    name: Text | UnsetType = UNSET
    version: Text | UnsetType = UNSET
    activation_id: Text | UnsetType = UNSET
    entitlement_id: Text | UnsetType = UNSET


class FloatingLicense(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What the line is to LicenseSpring clients: a part of a licence."""

    license_id: Annotated[
        Annotated[int, Meta(ge=1, le=UNITS_MAX)] | UnsetType,
        Meta(
            description="Lines of one id are one licence. Without it those of one product are; its"
            " id is then the least of its lines' numbers."
        ),
    ] = UNSET
    product: Annotated[Text, Meta(description="The product code; one licence has one.")] = ""
    feature: Annotated[
        Text,
        Meta(
            description="A feature code, once a licence. Without it: the licence itself, of a"
            " metered line its consumption, of a concurrent one its seats."
        ),
    ] = ""
    license_key: Annotated[Text, Meta(description="For the cloud upstream.")] = ""


class Line(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An entitlement line. Several may serve one feature; all of one name have the same model."""

    id: Id
    feature: Annotated[
        str, Meta(pattern="^[A-Za-z0-9._:/ -]+$", min_length=1, max_length=FEATURE_BYTES_MAX)
    ]
    version: Annotated[
        str,
        Meta(
            pattern="^[0-9]+([.][0-9]+)*$",
            max_length=VERSION_BYTES_MAX,
            description="Serves requests for this version and lower ones.",
        ),
    ]
    count: Units | Literal["uncounted"]
    model: Annotated[Model, Meta(description="Consumed, consumed but returnable, or held.")]
    overdraft: Annotated[
        Units | Annotated[str, Meta(pattern="^([0-9]{1,9}%|unlimited)$")],
        Meta(description="Beyond `count`: units, a percentage of it, or `unlimited`."),
    ] = 0
    undo_interval: Annotated[
        SpanOrZero, Meta(description="How long consumption can be undone; metered lines only.")
    ] = "0"
    reset: Annotated[
        Reset, Meta(description="When what is used starts at 0 again; metered lines only.")
    ] = Reset.NONE
    reset_timezone: Zone = "UTC"
    starts: Annotated[
        Annotated[str, Meta(pattern=f"^{_MOMENT}$")] | UnsetType,
        Meta(description="A TOML date or date-time. A date: the midnight that begins the day."),
    ] = UNSET
    expires: Annotated[
        str,
        Meta(
            pattern=f"^(permanent|{_MOMENT})$",
            description="`permanent`, or a TOML date or date-time. A date: the midnight that ends"
            " the day.",
        ),
    ] = "permanent"
    borrow_interval: Annotated[
        Span | UnsetType, Meta(description="How long a grant is held; else the instance's.")
    ] = UNSET
    renew_percent: Annotated[
        int, Meta(ge=0, le=100, description="Of the interval, after which to renew.")
    ] = 15
    vendor_string: Text = ""
    serial_number: Text = ""
    issuer: Text = ""
    notice: Text = ""
    selectors: Annotated[
        dict[Selector, Selector],
        Meta(max_length=SELECTORS_MAX, description="What a request must bring to be served."),
    ] = {}
    product: Product | UnsetType = UNSET
    licensespring: FloatingLicense | UnsetType = UNSET
    allow_negative_consumptions: bool = False
    client_overages: bool = False


class Key(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A client key of the instance."""

    kid: Annotated[
        Annotated[str, Meta(pattern="^[!-~]+$", max_length=ID_BYTES_MAX)] | UnsetType,
        Meta(description="Its RFC 7638 thumbprint when absent."),
    ] = UNSET
    alg: Annotated[
        Literal["RS256", "ES256", "EdDSA"] | UnsetType,
        Meta(description="What the key is for; told by the key when absent."),
    ] = UNSET
    public_file: Annotated[
        str, Meta(pattern=r"^[^\x00]+$", description="PEM or DER, relative to this file.")
    ]


class Attachment(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An upstream of the configuration that the usage goes to."""

    name: Id
    by_host: Annotated[bool, Meta(description="Whether usage is told apart by host.")] = False


class Instance(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One licence server as clients see it."""

    id: Id
    name: Text = ""
    default: Annotated[bool, Meta(description="What `~` means; at most one instance.")] = False
    timezone: Annotated[
        Zone, Meta(description="Where days begin; fixed once usage is counted.")
    ] = "UTC"
    require_signed_payload: Annotated[
        bool, Meta(description="Whether capability tokens are refused.")
    ] = False
    require_exp: Annotated[bool, Meta(description="Whether tokens must expire.")] = True
    borrow_interval: Annotated[Span, Meta(description="How long a grant is held.")] = "1w"
    borrow_interval_max: Annotated[Span, Meta(description="The longest of all.")] = "365d"
    line: Annotated[list[Line], Meta(max_length=LINES_MAX)] = []
    key: list[Key] = []
    upstream: Annotated[
        list[Attachment], Meta(description="None: usage is counted, nothing is forwarded.")
    ] = []


class ProvisioningFile(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What `cmapi-gateway apply` takes: one or more instances with their lines, keys and
    upstreams.
    """

    instance: Annotated[list[Instance], Meta(min_length=1)]
