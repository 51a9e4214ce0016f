"""The LicenseSpring clients of a nemesis, of both versions of their protocol, under ids of theirs.

Decided here: what they do, from a seed: register, which is their heartbeat too, borrow, unregister,
consume, take back, hold a feature; and what an answer to it says. A 200 of version 2 counts only
with its signature, a refusal is an answer. Not decided here: what must agree (nemesis_books.py).
Source: protocols/licensespring.md 1, 2, 2.2 and 9.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec

from tests.faults.fleet_requests import Ask, Refusal, Told
from tests.faults.nemesis_clients import Client
from tests.faults.nemesis_seats import Held
from tests.licensespring.signatures import Rsa

PRODUCT, LICENSE_ID = "NEMESIS", 7
UNITS, PAGES, SEATS, VIEWER = "f-units", "f-pages", "f-seats", "f-viewer"  # lines, and features
LINES = f"""
[[instance.line]]
id = "{UNITS}"
feature = "{UNITS}"
version = "1.0"
model = "metered"
count = 1_000_000_000
licensespring = {{ license_id = {LICENSE_ID}, product = "{PRODUCT}" }}
[[instance.line]]
id = "{PAGES}"
feature = "{PAGES}"
version = "1.0"
model = "metered"
count = 1_000_000_000
undo_interval = "1h"
allow_negative_consumptions = true
licensespring = {{ license_id = {LICENSE_ID}, product = "{PRODUCT}", feature = "{PAGES}" }}
[[instance.line]]
id = "{SEATS}"
feature = "{SEATS}"
version = "1.0"
model = "concurrent"
count = 3
borrow_interval = "1h"
licensespring = {{ license_id = {LICENSE_ID}, product = "{PRODUCT}" }}
[[instance.line]]
id = "{VIEWER}"
feature = "{VIEWER}"
version = "1.0"
model = "concurrent"
count = 2
borrow_interval = "1h"
licensespring = {{ license_id = {LICENSE_ID}, product = "{PRODUCT}", feature = "{VIEWER}" }}
"""
CAPACITY = {UNITS: 10**9, PAGES: 10**9, SEATS: 3, VIEWER: 2}


@dataclass(frozen=True)
class Act:
    """What may be done, under the path of each version, and how often. `line`: whose units."""

    weight: int
    paths: tuple[str, str]
    line: str = ""
    feature: str = ""
    undoes: bool = False
    # What the user holds of lines once it is granted.
    holds: Mapping[str, int] | None = None


_SEAT, _NO_SEAT = {SEATS: 1}, {SEATS: 0, VIEWER: 0}
_ADD_FEATURE = ("add_feature_consumption", "consumption/feature/add")
BORROW = ("borrow", "user/borrow")
ACTS = (
    Act(30, ("add_consumption", "consumption/add"), UNITS),
    Act(15, _ADD_FEATURE, PAGES, PAGES),
    Act(8, _ADD_FEATURE, PAGES, PAGES, undoes=True),
    Act(15, ("register", "user/register"), holds=_SEAT),
    Act(5, BORROW, holds=_SEAT),
    Act(9, ("featureRegister", "feature/register"), feature=VIEWER, holds={VIEWER: 1}),
    Act(5, ("featureRelease", "feature/release"), feature=VIEWER, holds={VIEWER: 0}),
)
LEAVE = Act(10, ("unregister", "user/unregister"), holds=_NO_SEAT)
# What nobody holds more of may be refused; and what is undone may be more than was consumed.
SHORT = {"floating_not_available", "license_not_found", "negative_consumptions_not_allowed"}
UNITS_MAX = 9
BORROW_H = (2, 72)
HOUR_MS = 3_600_000


@dataclass(eq=False)
class FloatAsk(Ask):
    """An operation of a user; `said` is its body."""

    act: Act = LEAVE
    said: Mapping[str, Any] = field(default_factory=dict)


class Floaters(Client):
    """Users of one licence in one `version`; with `leaf`, the key that version 2 is signed by."""

    def __init__(self, *of: Any, version: int, leaf: Rsa) -> None:
        super().__init__(*of)
        self._version, self._leaf = version, leaf

    async def leave_all(self) -> None:
        for host in sorted({each.host for each in self.held}):
            ask = self._make(host, LEAVE, {})
            for number in itertools.count():
                await self.attempt(ask, self.urls[number % len(self.urls)])
                if ask.told is not None:
                    break

    async def _turn(self, host: str, dice: random.Random) -> None:
        (act,) = dice.choices((*ACTS, LEAVE), [each.weight for each in (*ACTS, LEAVE)])
        units = dice.randint(1, UNITS_MAX) * (-1 if act.undoes else 1)
        said: dict[str, Any] = {}
        if act.line:
            said["consumptions"] = units if units % 2 else str(units)
        if act.paths == BORROW:
            until = datetime.now(UTC) + timedelta(hours=dice.randint(*BORROW_H))
            said["borrowed_until"] = f"{until:%Y-%m-%dT%H:%M:%SZ}"
        ask = self._make(host, act, said, {act.line: units} if act.line else {})
        await self.ask(ask, first=dice.randrange(len(self.urls)))

    def _make(
        self, host: str, act: Act, said: dict[str, Any], asked: Mapping[str, int] | None = None
    ) -> FloatAsk:
        made = self.make(host, asked or {})
        if self._version == 1:
            who = {"product": PRODUCT, "user": host, "license_id": LICENSE_ID}
        else:
            who = {"username": host}
        if act.feature:
            who["feature"] = act.feature
        machine = {"os_hostname": "wks", "ip_local": None, "user_info": None, "sdk_ver": "test 1.0"}
        return FloatAsk(made.id, host, made.asked, act=act, said={**machine, **who, **said})

    def _sealed(self, ask: Ask) -> tuple[str, dict[str, str], bytes]:
        assert isinstance(ask, FloatAsk)
        base = ("/api/v4", f"/api/v5/license/{LICENSE_ID}")[self._version - 1]
        headers = {"Content-Type": "application/json", "Idempotency-Key": ask.id}
        path = f"{base}/{ask.act.paths[self._version - 1]}"
        return path, headers, msgspec.json.encode(ask.said)

    def _hear(self, ask: Ask, answer: httpx.Response, known_ms: int, replica: str) -> str:
        assert isinstance(ask, FloatAsk)
        if answer.status_code not in (200, 400):
            return self._refused(ask, Refusal(answer.status_code, "", answer.text), replica)
        digest = hashlib.sha256(answer.content).hexdigest()
        if answer.status_code == 400:
            code = answer.json()["code"]
            if code not in SHORT:
                return self._refused(ask, Refusal(400, code, answer.json()["message"]), replica)
            # It tells neither its moment nor that it is told again.
            at_ms = ask.told.at_ms if ask.told else known_ms
            told = Told({}, at_ms, ask.told is not None, digest)
            return self._granted(ask, told, ask.host, at_ms, replica, status=400)
        self._look(ask, answer)
        moment = datetime.fromisoformat(answer.headers["gateway-transaction-time"])
        at_ms = round(moment.timestamp() * 1000)
        replayed = answer.headers.get("idempotency-replayed") == "true"
        if ask.told is None:
            for line, count in (ask.act.holds or {}).items():
                lapses_ms = at_ms + HOUR_MS
                self.held.append(Held(self.instance, line, ask.host, at_ms, count, lapses_ms))
        told = Told(dict(ask.asked), at_ms, replayed, digest)
        return self._granted(ask, told, ask.host, known_ms, replica)

    def _look(self, ask: FloatAsk, answer: httpx.Response) -> None:
        """See that an answer is one that a client can work with."""
        members = answer.json()
        if self._version == 2 and ask.act.paths[1] not in (LEAVE.paths[1], "feature/release"):
            signature = base64.b64decode(answer.headers.get("licensesignature", ""))
            if not self._leaf.verifies(signature, answer.content):
                self.oddities.append(f"{ask.id}: the signature is not of its answer")
        if ask.act.line:
            total = members["total_consumptions"]
            if total > CAPACITY[ask.act.line]:
                self.oddities.append(f"{ask.id}: {total} consumed of {CAPACITY[ask.act.line]}")
        in_use = members.get("floating_in_use", 0) if isinstance(members, dict) else 0
        if in_use > CAPACITY[SEATS]:
            self.oddities.append(f"{ask.id}: {in_use} in use of {CAPACITY[SEATS]}")
