"""A LicenseSpring floating client: both versions of the wire, and a journal of what it was told.

Decided here: how an operation is spelled in either version, what an answer must say to be one, and
what it means to the client: units by its own request, seats by what it held before. A 200 of
version 2 counts only with its signature. Not decided here: what is done (licensespring_mix.py),
what is retried (fleet.py). Source: protocols/licensespring.md 1, 2 and 2.2, SEMANTICS 9.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from gateway.cli.demonstration.fleet import Sending, Strange
from gateway.cli.demonstration.journal import Record
from gateway.cli.demonstration.licensespring_mix import FLOATING, SEATS, UNITS, Act, Deed, acts
from gateway.cli.demonstration.wire import Reply, post
from gateway.core.errors import InvalidInput
from gateway.core.model import Line

PRODUCT: Final = "DEMO"
LICENSE_ID: Final = 1
SDK: Final = "demo 1.0"

NO_SLOT: Final = "floating_not_available"
NO_SEAT: Final = "license_not_found"

_PREFIXES: Final = ("/api/v4/", f"/api/v5/license/{LICENSE_ID}/")
# Behind each of them.
_PATHS: Final[Mapping[Deed, tuple[str, str]]] = {
    Deed.CONSUME: ("add_consumption", "consumption/add"),
    Deed.CONSUME_FEATURE: ("add_feature_consumption", "consumption/feature/add"),
    Deed.REGISTER: ("register", "user/register"),
    Deed.BORROW: ("borrow", "user/borrow"),
    Deed.UNREGISTER: ("unregister", "user/unregister"),
    Deed.TAKE_FEATURE: ("featureRegister", "feature/register"),
    Deed.RELEASE_FEATURE: ("featureRelease", "feature/release"),
}
# What each may be refused with; to give back never is.
_REFUSALS: Final[Mapping[Deed, tuple[str, ...]]] = {
    Deed.CONSUME: ("license_not_enough_consumptions",),
    Deed.CONSUME_FEATURE: ("feature_not_enough_consumptions",),
    Deed.REGISTER: (NO_SLOT,),
    Deed.BORROW: (NO_SLOT,),
    Deed.TAKE_FEATURE: (NO_SLOT, NO_SEAT),
}
_CONSUMES: Final = frozenset({Deed.CONSUME, Deed.CONSUME_FEATURE})
_RELEASED: Final = {Deed.UNREGISTER: "user_unregistered", Deed.RELEASE_FEATURE: "feature_released"}

Verify = Callable[[bytes, str], bool]  # the bytes of a body and its LicenseSignature


class Told(msgspec.Struct, frozen=True):
    """What a client reads of an answer; each has some of it."""

    total_consumptions: int | None = None
    floating_in_use: int | None = None
    borrowed_until: str | None = None


class Refused(msgspec.Struct, frozen=True):
    """A refusal."""

    status: int
    code: str
    message: str


_read_told: Final = msgspec.json.Decoder(Told).decode
_read_refused: Final = msgspec.json.Decoder(Refused).decode
_read_text: Final = msgspec.json.Decoder(str).decode


def verifier(chain: bytes) -> Verify:
    """Give what verifies signatures by a chain's first certificate. Raises InvalidInput."""
    key = x509.load_pem_x509_certificates(chain)[0].public_key()
    if not isinstance(key, rsa.RSAPublicKey):
        raise InvalidInput("The first certificate of the chain is not of an RSA key")

    def verify(body: bytes, signature: str) -> bool:
        try:
            given = base64.b64decode(signature, validate=True)
            key.verify(given, body, padding.PKCS1v15(), hashes.SHA256())
        except (ValueError, InvalidSignature):
            return False
        return True

    return verify


@dataclass(slots=True)
class FloatingJournal(Record):
    """The journal of one user."""

    totals: dict[str, int] = field(default_factory=dict)  # as last told, by feature name

    def record(self, act: Act, told: Told | None, code: str = "") -> None:
        """Enter what an operation came to: what was `told`, or the `code` that refused it."""
        if act.deed in _CONSUMES:
            granted = 0 if told is None else act.units
            self.moved(act.feature, act.units, granted)
            if told is not None:
                self._total(act, told)
            return
        match act.deed:
            case Deed.REGISTER | Deed.BORROW:
                self._hold(SEATS, 1, granted=told is not None)
            case Deed.TAKE_FEATURE:
                seat = self.held.get(SEATS, 0)
                # Refused for want of a seat is who has none, and nobody else.
                if bool(seat) == (code == NO_SEAT):
                    self.odd(f"{FLOATING}: answered {code or 'yes'}, holding {seat} seats")
                self._hold(FLOATING, 1, granted=told is not None)
            case Deed.UNREGISTER:
                self._hold(SEATS, 0)
                self._hold(FLOATING, 0)
            case Deed.RELEASE_FEATURE:
                self._hold(FLOATING, 0)
        in_use = told.floating_in_use if told is not None else None
        if in_use is not None and not 1 <= in_use <= self.lines[act.feature].capacity:
            self.odd(f"{act.feature}: {in_use} in use after one was granted")

    def _hold(self, name: str, wanted: int, *, granted: bool = True) -> None:
        before = self.held.get(name, 0)
        if before >= wanted and not granted:
            self.odd(f"{name}: refused what it held")
        after = wanted if granted else before
        self.held[name] = after
        self.moved(name, wanted - before, after - before)

    def _total(self, act: Act, told: Told) -> None:
        total, before, line = told.total_consumptions, self.totals.get(act.feature, 0), act.feature
        if total is None:
            self.odd(f"{line}: no total in the answer to {act.units} more")
            return
        # What was undone meanwhile is gone from a total; of a line without undo nothing ever is.
        least = act.units if self.lines[line].undo_ms else before + act.units
        if not least <= total <= self.lines[line].capacity:
            self.odd(f"{line}: total {before}, then {act.units} more, answered {total}")
        self.totals[line] = total


class FloatingSpeaker:
    """One user. `verify` is for version 2, whose answers are signed."""

    def __init__(
        self, *, number: int, seed: int, version: int, verify: Verify, lines: Mapping[str, Line]
    ) -> None:
        self.name = f"demo-user-{number:03d}"
        self.seed = f"{seed}-ls-{number:03d}"
        self.statuses = frozenset({200, 400})
        self.journal = FloatingJournal(lines)
        self._version, self._verify = version, verify
        self._acts = acts(seed, number)
        self._sent = 0

    def sendings(self) -> Iterator[Sending]:
        """Do what the mix says, without end."""
        return map(self._sending, self._acts)

    def last(self) -> None:
        """Leave without a word, as clients do: seats stay held."""

    def _sending(self, act: Act) -> Sending:
        self._sent += 1
        said = self._said(act)
        at = self._version - 1
        path = _PREFIXES[at] + _PATHS[act.deed][at]
        headers = (
            f"Idempotency-Key: demo-{self.seed}-{self._sent:06d}\r\n"
            "Content-Type: application/json\r\nAccept: application/json\r\n"
        )
        request = post(path, headers, msgspec.json.encode(said))
        hear = partial(self._hear, act, said.get("borrowed_until"))
        return Sending(request, hear, act.reset_after_s, act.repeats)

    def _said(self, act: Act) -> dict[str, Any]:
        said: dict[str, Any] = {"sdk_ver": SDK}
        if self._version == 1:
            said |= {"product": PRODUCT, "user": self.name, "license_id": LICENSE_ID}
        else:
            said |= {"username": self.name}
        if act.deed in _CONSUMES:
            # The documentation has texts where clients send numbers.
            said["consumptions"] = act.units if act.units % 2 else str(act.units)
        else:
            said |= {"os_hostname": "demo", "ip_local": None, "user_info": None}
        if act.feature not in (UNITS, SEATS):
            said["feature"] = act.feature
        if act.deed is Deed.BORROW:
            until = datetime.fromtimestamp(int(time.time()), UTC) + timedelta(hours=act.hours)
            said["borrowed_until"] = f"{until:%Y-%m-%dT%H:%M:%SZ}"
        return said

    def _hear(self, act: Act, until: str | None, reply: Reply) -> bool:
        """Enter an answer. Raises Strange, also for a signature that is not of these bytes."""
        try:
            if reply.status != 200:
                code = _read_refused(reply.body).code
                if code not in _REFUSALS.get(act.deed, ()):
                    raise Strange(f"HTTP 400 {code} to {act.deed}")
                self.journal.record(act, None, code)
                return True
            if (text := _RELEASED.get(act.deed)) is not None:
                if _read_text(reply.body) != text:
                    raise Strange(f"another text than {text} to {act.deed}")
                self.journal.record(act, Told())
                return False
            told = _read_told(reply.body)
        except msgspec.DecodeError:
            raise Strange(f"an answer to {act.deed} that cannot be read") from None
        if self._version == 2 and not self._verify(reply.body, reply.signature):
            raise Strange(f"an answer to {act.deed} without its signature")
        if told.borrowed_until != until:
            self.journal.odd(f"borrowed until {until}, answered {told.borrowed_until}")
        self.journal.record(act, told)
        return False
