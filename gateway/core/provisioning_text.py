"""A catalogue as the provisioning file that declares it, for people who want to change a little.

Decided here: that the text reads back as what is in force, that client keys are left out (they stay
as they are), and that a license key is written as a stand-in, which tells keys apart and says none.
Not decided here: what a file may say (provisioning.py), what it changes (provisioning_change.py).
Pure. Source: INTERFACE 3.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from msgspec.structs import asdict, replace

from gateway.core.errors import InvalidInput
from gateway.core.floating import problems_of
from gateway.core.intervals import spell_duration
from gateway.core.model import Catalogue, FloatingLicense, Line
from gateway.core.periods import expires_ms, local_day, starts_ms, zone
from gateway.core.toml_text import Value, write_table

STAND_IN: Final = "***"
# What somebody without a manual has to know to add a line.
EXAMPLE: Final = """
# To add a line, put one like this here, each row without its first sign:
#  [[instance.line]]
#  id = "L9"              # a name of its own
#  feature = "sessions"   # what clients ask for
#  version = "1.0"        # the highest that it serves
#  model = "metered"      # or "concurrent" (seats), or "metered-reusable"
#  count = 100            # or "uncounted"
#  overdraft = "10%"      # or a number, or "unlimited"
#  reset = "monthly"      # or "daily", "weekly", "annually"; of metered lines only
#  expires = 2099-12-31   # its last day, or "permanent"
"""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_INSTANCE: Final = Catalogue(id="")


def write_provisioning(catalogue: Catalogue) -> str:
    """Write what a file would declare of an instance; retired lines are not in it.

    Raises ValueError for texts of an earlier release that no file can say.
    """
    spans = {"borrow_interval": "borrow_ms", "borrow_interval_max": "borrow_max_ms"}
    instance: dict[str, Any] = {"id": catalogue.id, "name": catalogue.name}
    if catalogue.default:
        instance["default"] = True
    instance["timezone"] = catalogue.timezone
    for name in ("require_signed_payload", "require_exp"):
        if getattr(catalogue, name) != getattr(_INSTANCE, name):
            instance[name] = getattr(catalogue, name)
    instance |= {name: spell_duration(getattr(catalogue, spans[name])) for name in spans}
    instance["upstream"] = [
        {"name": each.name} | ({"by_host": True} if each.by_host else {})
        for each in catalogue.upstreams
    ]
    tz = zone(catalogue.timezone)
    instance["line"] = [_line(line, tz) for line in catalogue.lines if not line.retired]
    return write_table({"instance": [instance]})


def with_license_keys(declared: Catalogue, current: Catalogue) -> Catalogue:
    """Put the license keys of the catalogue in force where a declaration has their stand-ins.

    Raises InvalidInput for a stand-in of no key here, and for what the keys then say of the lines.
    """
    keys = {each.license_key for line in current.lines if (each := line.licensespring)}
    known = {_stand_in(key): key for key in keys if key}
    problems, lines = [], []
    for line in declared.lines:
        said = "" if line.licensespring is None else line.licensespring.license_key
        if not said.startswith(STAND_IN) or line.licensespring is None:
            lines.append(line)
        elif said in known:
            floating = replace(line.licensespring, license_key=known[said])
            lines.append(replace(line, licensespring=floating))
        else:
            problems.append(f"line {line.id}: {said} stands for no license_key here; give the key")
    # Two lines may say the same key, one of them by its stand-in.
    problems += [] if problems or lines == list(declared.lines) else problems_of(lines)
    if problems:
        raise InvalidInput(*problems)
    return replace(declared, lines=tuple(lines))


def _stand_in(license_key: str) -> str:
    return STAND_IN + hashlib.sha256(license_key.encode()).hexdigest()[:12]


def _line(line: Line, tz: ZoneInfo) -> dict[str, Value]:
    """Give the members of a line that are not at their default, and those that all lines have."""
    said: dict[str, Value] = {
        "id": line.id,
        "feature": line.feature,
        "version": line.version,
        "model": line.model.value,
        "count": "uncounted" if line.count is None else line.count,
    }
    if line.overdraft != "0":
        said["overdraft"] = int(line.overdraft) if line.overdraft.isdecimal() else line.overdraft
    if line.undo_ms:
        said["undo_interval"] = spell_duration(line.undo_ms)
    if line.reset != "none":
        said["reset"] = line.reset.value
    if line.reset_timezone != "UTC":
        said["reset_timezone"] = line.reset_timezone
    if line.starts_ms is not None:
        said["starts"] = _moment(line.starts_ms, line.starts_ms, tz, starts_ms)
    if line.expires_ms is not None:
        said["expires"] = _moment(line.expires_ms, line.expires_ms - 1, tz, expires_ms)
    if line.borrow_ms is not None:
        said["borrow_interval"] = spell_duration(line.borrow_ms)
    if line.renew_percent != 15:
        said["renew_percent"] = line.renew_percent
    for name in ("vendor_string", "serial_number", "issuer", "notice"):
        if text := getattr(line, name):
            said[name] = text
    if line.selectors:
        said["selectors"] = line.selectors
    if product := {name: text for name, text in asdict(line.product).items() if text is not None}:
        said["product"] = product
    if line.licensespring is not None:
        said["licensespring"] = _floating(line.licensespring)
    for name in ("allow_negative_consumptions", "client_overages"):
        if getattr(line, name):
            said[name] = True
    return said


def _floating(floating: FloatingLicense) -> dict[str, Value]:
    said = {name: value for name, value in asdict(floating).items() if value not in (None, "")}
    if floating.license_key:
        said["license_key"] = _stand_in(floating.license_key)
    return said


def _moment(
    at_ms: int, within_ms: int, tz: ZoneInfo, of_day: Callable[[date, ZoneInfo], int]
) -> date:
    """Give the day that a file says for a moment, where there is one, else the moment itself."""
    try:
        day = local_day(within_ms, tz)
        if of_day(day, tz) == at_ms:
            return day
    except InvalidInput:
        pass
    return _EPOCH + timedelta(milliseconds=at_ms)
