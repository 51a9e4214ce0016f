"""From what LicenseSpring clients send to what they ask for, of both versions.

Decided here: which members each call has, under which names and misspellings, and how a licence is
named: by product and id in the body of v1, by id in the path of v2. Not decided here: how a member
is read (licensespring_members.py), what becomes of it (core/floating_asks.py). Pure.
Source: protocols/licensespring.md 1, 1.1, 2 and 9.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final
from urllib.parse import unquote_to_bytes

import msgspec

from gateway.core.errors import BadRequest, UserAuthFailed
from gateway.core.floating import Refusal
from gateway.core.floating_asks import Asking, Operation
from gateway.core.passwords import PASSWORD_BYTES_MAX
from gateway.protocols.cmapi_admin import USER_BYTES_MAX
from gateway.protocols.licensespring_members import Members, read_members
from gateway.protocols.licensespring_problem import FloatingRefused
from gateway.protocols.queries import QUERY_BYTES_MAX, read_query

_ID: Final = re.compile(r"[0-9]{1,16}")
_BASIC: Final = "basic "
_OVERAGES: Final = ("allow_overages", "allowOverages", "Allowe_overages")
_USER_V1: Final = ("user",)
_USER_V2: Final = ("username", "Username")
_UNTIL: Final = ("borrowed_until", "borrow_until")
_CONSUMING: Final = (Operation.CONSUME, Operation.CONSUME_FEATURE)
_OF_FEATURES: Final = (
    Operation.CONSUME_FEATURE,
    Operation.REGISTER_FEATURE,
    Operation.RELEASE_FEATURE,
)
_UNTIL_ASKED: Final = (Operation.BORROW, Operation.REGISTER_FEATURE)


class Basic(msgspec.Struct, frozen=True):
    """A name and a password. Its repr does not hold the password."""

    user: str
    password: str

    def __repr__(self) -> str:
        return f"Basic(user={self.user!r})"


class Added(msgspec.Struct, frozen=True):
    """A licence that somebody wants to be there. Its repr does not hold the key."""

    product: str
    license_key: str

    def __repr__(self) -> str:
        return f"Added(product={self.product!r})"


def read_v1(operation: Operation, body: bytes) -> Asking:
    """Read a call of v1. Raises FloatingRefused."""
    members = read_members(body)
    product = members.text("product")
    return _asking(operation, members, product, _v1_id(members), _USER_V1)


def read_v2(operation: Operation, license_id: str, body: bytes) -> Asking:
    """Read a call of v2 on a licence, named as in the path. Raises FloatingRefused."""
    return _asking(operation, read_members(body), None, read_id(license_id), _USER_V2)


def read_id(text: str) -> int:
    """Read a licence's id in a path, where a client that knows none says `None`.

    Raises FloatingRefused.
    """
    if not _ID.fullmatch(text):
        raise FloatingRefused(Refusal.LICENSE_NOT_FOUND)
    return int(text)


def read_choice(query: bytes) -> tuple[str, int | None]:
    """Read the product, and the id if there is one, that a read of v1 is about.

    Raises FloatingRefused; BadRequest.
    """
    found = read_query(query, ("product", "license_id"))
    members = Members(dict(found))
    return members.text("product"), _v1_id(members)


def read_filter(query: bytes) -> str | None:
    """Read the product of v2's list, `?product=PROD` or the bare `?PROD`; None: all of them.

    Raises FloatingRefused; BadRequest.
    """
    if b"=" not in query:
        if len(query) > QUERY_BYTES_MAX:
            raise BadRequest("The query cannot be read", "query")
        bare = unquote_to_bytes(query.replace(b"+", b" ")).decode("utf-8", "replace")
        return Members({"product": bare}).optional_text("product") or None
    return Members(dict(read_query(query, ("product",)))).optional_text("product") or None


def read_feature(body: bytes) -> str:
    """Read the feature that is released for everybody; "": each of them. Raises FloatingRefused."""
    return read_members(body).optional_text("feature")


def read_added_v1(query: bytes) -> Added:
    """Read v1's `addProduct`: by key; by user name and password there is none to be found.

    Raises FloatingRefused; BadRequest.
    """
    members = Members(dict(read_query(query, ("product", "licenseKey", "username", "password"))))
    product = members.text("product")
    key = members.optional_text("licenseKey")
    if not key and not members.optional_text("username"):
        raise FloatingRefused(Refusal.MISSING, "licenseKey is required")
    return Added(product, key)


def read_added_v2(body: bytes) -> Added:
    """Read v2's POST of a licence. Raises FloatingRefused."""
    members = read_members(body)
    return Added(members.text("product"), members.text("license_key"))


def read_login(body: bytes) -> Basic:
    """Read the log-in of v2. Raises FloatingRefused; its words hold no password."""
    members = read_members(body)
    return Basic(members.text(*_USER_V2), members.password("password", "Password"))


def read_basic(authorization: str | None) -> Basic:
    """Read `Authorization: Basic`, the log-in of v1. Raises UserAuthFailed."""
    text = authorization or ""
    try:
        if text[: len(_BASIC)].lower() != _BASIC:
            raise ValueError
        decoded = base64.b64decode(text[len(_BASIC) :].strip(), validate=True).decode("utf-8")
    except (ValueError, binascii.Error):
        raise UserAuthFailed("") from None
    user, _, password = decoded.partition(":")
    if not 0 < len(user.encode()) <= USER_BYTES_MAX:
        raise UserAuthFailed("")
    if not 0 < len(password.encode()) <= PASSWORD_BYTES_MAX:
        raise UserAuthFailed("")
    return Basic(user, password)


def _v1_id(members: Members) -> int | None:
    return members.whole("license_id") or None  # 0 is what clients say where they mean none


def _asking(
    operation: Operation,
    members: Members,
    product: str | None,
    license_id: int | None,
    user_names: tuple[str, ...],
) -> Asking:
    consuming = operation in _CONSUMING
    overages = operation is Operation.CONSUME
    most = members.whole("max_overages") if overages else None
    if most is not None and most < 0:
        raise FloatingRefused(Refusal.VALIDATION, "max_overages: must not be negative")
    return Asking(
        operation=operation,
        product=product,
        license_id=license_id,
        # Consumption may be nobody's: documentation asks for enough units only.
        user=members.optional_text(*user_names) if consuming else members.text(*user_names),
        feature=members.text("feature") if operation in _OF_FEATURES else "",
        units=members.units("consumptions") if consuming else 0,
        until_ms=members.moment_ms(*_UNTIL) if operation in _UNTIL_ASKED else None,
        allow_overages=members.flag(*_OVERAGES) if overages else None,
        max_overages=most,
    )
