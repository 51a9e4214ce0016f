"""When a gateway syncs with the cloud, as LicenseSpring's administrators read and write it. Pure.

Decided here: members and bounds of GET and POST /api/v5/sync, and the words of their answers. Not
decided here: what a schedule means (core/syncing.py). Source: protocols/licensespring.md 2 and 2.3.
"""

from __future__ import annotations

from typing import Final

import msgspec

from gateway.core.floating import Refusal
from gateway.core.syncing import HOURS_MAX, MINUTES_MAX
from gateway.protocols.licensespring_members import read_members
from gateway.protocols.licensespring_problem import FloatingRefused

SAVED: Final = b'"sync settings saved"'
STARTED: Final = b'"sync started"'


class SyncSettings(msgspec.Struct, frozen=True):
    """When syncs are made; `enabled` false: only when they are asked for."""

    enabled: bool
    hours: int
    minutes: int


class SyncAsked(msgspec.Struct, frozen=True):
    """What an administrator sets; None leaves it as it is."""

    enabled: bool
    hours: int | None
    minutes: int | None


def read_sync(body: bytes) -> SyncAsked:
    """Read new settings. Raises FloatingRefused; a span is a minute at least."""
    members = read_members(body)
    enabled = members.flag("enabled")
    if enabled is None:
        raise FloatingRefused(Refusal.MISSING, "enabled is required")
    hours = members.whole("hours", most=HOURS_MAX)
    minutes = members.whole("minutes", most=MINUTES_MAX)
    if (hours or 0) < 0 or (minutes or 0) < 0:
        raise FloatingRefused(Refusal.VALIDATION, "hours, minutes: must not be negative")
    if (hours is not None or minutes is not None) and not hours and not minutes:
        raise FloatingRefused(Refusal.VALIDATION, "hours, minutes: must be a minute at least")
    if hours is None and minutes is None:
        return SyncAsked(enabled, None, None)
    return SyncAsked(enabled, hours or 0, minutes or 0)  # one without the other is all there is


def encode_sync(settings: SyncSettings) -> bytes:
    """Write settings as a JSON object."""
    return msgspec.json.encode(settings)
