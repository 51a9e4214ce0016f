"""What our fake LicenseSpring cloud knows: licences, and every unit that it counted, on disk.

Decided here: the rules of totals, limits, resets and activations as protocols/licensespring.md 3
and 4 has them. Not decided here: the wire (cloud_server.py). `licences.json` is what an
administrator says, and may be replaced at any time; `counted.ndjson` is append-only, written before
anything is answered, and read again at a start. Standard library only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

LICENCES = "licences.json"
COUNTED = "counted.ndjson"
DEFAULTS: Mapping[str, Any] = {
    "max_consumptions": 100,
    "allow_unlimited_consumptions": False,
    "allow_negative_consumptions": False,
    "allow_overages": False,
    "max_overages": 0,
    "reset_consumption": False,
    "consumption_period": None,
}


@dataclass(frozen=True)
class Counted:
    """An event: units that were added, an activation (0 units), or an administrator's reset."""

    kind: str  # add | activate | reset
    key: str
    feature: str = ""
    units: int = 0
    hardware_id: str = ""
    at_ms: int = 0


class Refused(Exception):
    """An error answer: its status, code and message."""

    def __init__(self, code: str, message: str = "", status: int = 400) -> None:
        super().__init__(code)
        self.status, self.code, self.message = status, code, message or code


class Books:
    """Licences and what was counted. A licence is found by its key; "" is the licence itself."""

    def __init__(self, directory: Path) -> None:
        self._licences = directory / LICENCES
        self._file = os.open(directory / COUNTED, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self.counted = read_counted(directory)

    def count(self, event: Counted) -> None:
        line = json.dumps(asdict(event)).encode() + b"\n"
        assert os.write(self._file, line) == len(line)
        self.counted.append(event)

    def licence(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Find the licence that a call names, activated for the hardware id that it names."""
        found = self.known(asked)
        mine = [each for each in self.counted if each.key == asked["license_key"]]
        hardware_id = asked.get("hardware_id", "")
        if not any(each.kind == "activate" and each.hardware_id == hardware_id for each in mine):
            raise Refused("device_not_found", "An active device matching the hardware_id not found")
        return found

    def known(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Find the licence that a call names."""
        for name in ("product", "hardware_id", "license_key"):
            if not asked.get(name):
                raise Refused("missing_parameters", f"{name} is required")
        for licence in json.loads(self._licences.read_bytes()):
            if licence["key"] == asked["license_key"]:
                if licence["product"] != asked["product"]:
                    raise Refused("unknown_product", "Provided product was not found")
                if not licence.get("enabled", True):
                    raise Refused("license_not_enabled", "The license is not enabled")
                return dict(licence)
        raise Refused("license_not_found", "License with the provided license user not found")

    def terms(self, licence: Mapping[str, Any], feature: str) -> dict[str, Any]:
        """Give the members of a licence, or of a feature of it, that limit its consumption."""
        where = licence
        if feature:
            where = licence.get("features", {}).get(feature)
            if where is None:
                raise Refused("unsupported_product_feature")
        return {name: where.get(name, value) for name, value in DEFAULTS.items()}

    def total(self, key: str, feature: str, terms: Mapping[str, Any], now_ms: int) -> int:
        """Add up what counts now: since the period began and since the last reset."""
        since_ms = period_start_ms(terms, now_ms)
        units = 0
        for event in self.counted:
            if event.key != key or event.at_ms < since_ms:
                continue
            if event.kind == "reset":
                units = 0
            elif event.feature == feature:
                units += event.units
        return units

    def add(self, asked: Mapping[str, Any], feature: str, now_ms: int) -> dict[str, Any]:
        """Add to a total, all or nothing, and give the answer."""
        licence = self.licence(asked)
        terms = self.terms(licence, feature)
        if not feature and ("allow_overages" in asked or "max_overages" in asked):
            self._set_overages(licence["key"], asked)
            terms = self.terms(self.known(asked), feature)
        units = asked.get("consumptions", 1)
        if not isinstance(units, int) or isinstance(units, bool):
            raise Refused("validation_error", "consumptions: must be an integer")
        key = licence["key"]
        total = self.total(key, feature, terms, now_ms)
        limit = limit_of(terms)
        prefix = "feature" if feature else "license"
        if units < 0 and not terms["allow_negative_consumptions"]:
            raise Refused("negative_consumptions_not_allowed")
        if units > 0 and limit is not None and total + units > limit:
            raise Refused(f"{prefix}_not_enough_consumptions", "Not enough consumptions left")
        self.count(Counted("add", key, feature, units, asked["hardware_id"], now_ms))
        answer = {"id": licence["id"], **terms, "total_consumptions": total + units}
        return {**answer, "company": {"id": 4}}

    def shown(self, licence: Mapping[str, Any], now_ms: int) -> dict[str, Any]:
        """Give the licence object that check_license and activate_license answer."""
        key = licence["key"]
        terms = self.terms(licence, "")
        features = []
        for number, code in enumerate(licence.get("features", {})):
            each = self.terms(licence, code)
            most = each.pop("max_consumptions")
            features.append(
                {
                    "id": 900 + number,
                    "code": code,
                    "feature_type": "consumption",
                    "max_consumption": most,
                    **each,
                    "total_consumptions": self.total(key, code, each, now_ms),
                }
            )
        return {
            "id": licence["id"],
            "license_type": "consumption",
            "is_floating": licence.get("is_floating", False),
            "floating_users": licence.get("floating_users", 0),
            "validity_period": licence.get("validity_period"),
            **terms,
            "total_consumptions": self.total(key, "", terms, now_ms),
            "product_features": features,
            "license_signature": "",
        }

    def _set_overages(self, key: str, asked: Mapping[str, Any]) -> None:
        licences = json.loads(self._licences.read_bytes())
        for licence in licences:
            if licence["key"] == key:
                names = ("allow_overages", "max_overages")
                licence |= {name: asked[name] for name in names if name in asked}
        write_licences(self._licences.parent, licences)


def limit_of(terms: Mapping[str, Any]) -> int | None:
    """Give the greatest total that is allowed; None: any."""
    if terms["allow_unlimited_consumptions"]:
        return None
    if not terms["allow_overages"]:
        return int(terms["max_consumptions"])
    most = int(terms["max_overages"])
    return int(terms["max_consumptions"]) + most if most else None


def period_start_ms(terms: Mapping[str, Any], now_ms: int) -> int:
    """Give the first moment of the calendar period, in UTC, that is now; 0 without resets."""
    if not terms["reset_consumption"]:
        return 0
    now = datetime.fromtimestamp(now_ms / 1_000, UTC)
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    starts = {
        "daily": day,
        "weekly": day - timedelta(days=day.weekday()),
        "monthly": day.replace(day=1),
        "annually": day.replace(month=1, day=1),
    }
    return int(starts[terms["consumption_period"]].timestamp()) * 1_000


def write_licences(directory: Path, licences: list[dict[str, Any]]) -> None:
    """Put licences in the place of those that were there, in one step."""
    new = directory / f"{LICENCES}.new"
    new.write_text(json.dumps(licences, indent=1))
    os.replace(new, directory / LICENCES)


def read_counted(directory: Path) -> list[Counted]:
    """Read everything that was counted, in order, as far as it has whole lines."""
    file = directory / COUNTED
    text = file.read_bytes() if file.exists() else b""
    return [Counted(**json.loads(line)) for line in text[: text.rfind(b"\n") + 1].splitlines()]
