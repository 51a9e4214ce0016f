"""What answers of the LicenseSpring cloud say: totals, limits, and codes. Pure.

Decided here: which 200 is read as an answer at all, what its members come to, and what each error
code means in the words of DESIGN 5. All refusals are HTTP 400; what is not named here is about the
content, which a person has to look at. Not decided here: what is then done
(licensespring_cloud.py).
Source: protocols/licensespring.md 3.2 to 3.5, 4 and 10.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Annotated, Final

import msgspec

from gateway.core.errors import InvalidInput
from gateway.core.model import UNITS_MAX, Reset
from gateway.core.periods import expires_ms, zone
from gateway.core.ports import Answer, Verdict
from gateway.core.pulling import Limits
from gateway.upstream.answers import WHY_CHARS_MAX, judge_failure

DEVICE_NOT_FOUND: Final = "device_not_found"
# Credential, clock or address: no other content would fare better.
STOPPING: Final = frozenset(
    {
        "authorization_invalid_headers",
        "authorization_missing_params",
        "date_header_diff",
        "hmac_required",
        "invalid_api_key",
        "missing_headers",
        "oauth_token_expired",
        "oauth_token_malformed",
        "read_only_api_key",
        "revoked_api_key",
        "signature_mismatch",
    }
)
# Taken perhaps later, or, of what was given back, only against later use.
REFUSING: Final = frozenset(
    {
        "feature_not_enough_consumptions",
        "license_not_enough_consumptions",
        "negative_consumptions_not_allowed",
    }
)
_CODE_CHARS_MAX: Final = 64


class Told(msgspec.Struct, frozen=True):
    """What the cloud says of a licence or of one of its features. `total` None: it counts none."""

    total: int | None
    limits: Limits


class Licence(msgspec.Struct, frozen=True):
    """What it says of a licence as a whole; features by their code."""

    itself: Told
    features: Mapping[str, Told]

    def of(self, feature: str) -> Told | None:
        """Give what is said of a feature, or of the licence itself for ""; None: it has no such."""
        return self.features.get(feature) if feature else self.itself


# What no counter of ours can hold is not understood, rather than rounded.
_Units = Annotated[int, msgspec.Meta(ge=-UNITS_MAX, le=UNITS_MAX)]


class _Terms(msgspec.Struct):
    total_consumptions: _Units | None = None
    max_consumptions: int | None = None
    max_consumption: int | None = None  # so is it spelt of a feature inside a licence
    allow_unlimited_consumptions: bool | None = None
    allow_negative_consumptions: bool | None = None
    allow_overages: bool | None = None
    max_overages: int | None = None
    reset_consumption: bool | None = None
    consumption_period: str | None = None
    validity_period: str | None = None
    is_floating: bool | None = None
    floating_users: int | None = None


class _Feature(_Terms):
    code: str = ""


class _Licence(_Terms, kw_only=True):
    id: int
    product_features: list[_Feature] | None = None


class _Added(_Terms, kw_only=True):
    id: int
    total_consumptions: _Units


class _Problem(msgspec.Struct):
    code: str = ""
    message: str = ""


# Lax: numbers may come as strings, as they do in the other direction.
_licence: Final = msgspec.json.Decoder(_Licence, strict=False).decode
_added: Final = msgspec.json.Decoder(_Added, strict=False).decode
_problem: Final = msgspec.json.Decoder(_Problem).decode


def read_licence(body: bytes) -> Licence | None:
    """Read a licence object; None for what is none."""
    try:
        found = _licence(body)
        features = {
            each.code: _told(each, found.validity_period)
            for each in found.product_features or ()
            if each.code
        }
        return Licence(_told(found, found.validity_period), features)
    except (ValueError, RecursionError, OverflowError, InvalidInput):
        return None


def read_added(body: bytes) -> Told | None:
    """Read the answer to an add; None for what is none."""
    try:
        found = _added(body)
        return _told(found, found.validity_period)
    except (ValueError, RecursionError, OverflowError, InvalidInput):
        return None


def judge_refusal(status: int, headers: Mapping[str, str], body: bytes) -> Verdict:
    """Say what an answer means that is no 200; header names are lower case. Never raises."""
    code, said = problem_of(body)
    if status != 400 or not code:
        return judge_failure(status, headers, body)
    why = f"{code}: {said}"[:WHY_CHARS_MAX]
    if code in STOPPING:
        return Verdict(Answer.STOPPED, why)
    if code == DEVICE_NOT_FOUND:
        return Verdict(Answer.NOT_APPLIED, why)
    return Verdict(Answer.REFUSED if code in REFUSING else Answer.INVALID, why)


def problem_of(body: bytes) -> tuple[str, str]:
    """Give code and message of an error; "" for a code that is no plain word."""
    try:
        found = _problem(body)
    except (ValueError, RecursionError):
        return "", ""
    plain = found.code.replace("_", "").isalnum() and found.code.isascii()
    code = found.code if plain and len(found.code) <= _CODE_CHARS_MAX else ""
    return code, "".join(sign for sign in found.message if sign.isprintable())[:WHY_CHARS_MAX]


def _told(terms: _Terms, validity: str | None) -> Told:
    most = terms.max_consumption if terms.max_consumptions is None else terms.max_consumptions
    unlimited = bool(terms.allow_unlimited_consumptions)
    reset = Reset.NONE
    if terms.reset_consumption and terms.consumption_period:
        reset = Reset(terms.consumption_period)
    limits = Limits(
        # What no counter can reach is no limit.
        count=None if unlimited or (most or 0) > UNITS_MAX else max(0, most or 0),
        overdraft=_overdraft(terms),
        reset=reset,
        expires_ms=_moment_ms(validity),
        allow_negative=bool(terms.allow_negative_consumptions),
        seats=max(0, terms.floating_users or 0) if terms.is_floating else None,
    )
    return Told(terms.total_consumptions, limits)


def _overdraft(terms: _Terms) -> str:
    """Spell overages as a line does: an allowance without a maximum is unlimited."""
    if not terms.allow_overages:
        return "0"
    most = max(0, terms.max_overages or 0)
    return str(most) if 0 < most <= UNITS_MAX else "unlimited"


def _moment_ms(text: str | None) -> int | None:
    """Read an expiry; a day without a time ends with its midnight, a time without zone is UTC."""
    if not text:
        return None
    if len(text) == len("2026-01-01"):
        return expires_ms(date.fromisoformat(text), zone("UTC"))
    moment = datetime.fromisoformat(text)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(1, int(moment.timestamp() * 1_000))
