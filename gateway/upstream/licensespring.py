"""The LicenseSpring cloud as an upstream: a batch as one added consumption, and whose it is. Pure.

Decided here: that one call is about one line, whose open rows are summed to one delta; what such a
call says; and which licence a line stands for. The sealed bytes name line, feature and units; the
licence's key, a secret, joins them as they are sent. The cloud remembers no ids: nothing is sent
again before its own total has told what became of it (licensespring_cloud.py). Not decided here:
what answers mean (licensespring_answers.py). Source: DESIGN 5, protocols/licensespring.md 3.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

import msgspec

from gateway.core.model import Line
from gateway.core.ports import Reconciler, Route, Sender, Sync
from gateway.core.usage import Batch, Choice
from gateway.upstream.licensespring_signing import DATE_GOOD_MS

API: Final = "/api/v4/"
# How the cloud's activity log names what a floating server brings.
EVENT: Final = "offline_floating_consumptions_sync"
# Past this after its Date no call is taken any more, whatever became of it on its way.
WINDOW_MS: Final = DATE_GOOD_MS + 60_000


class LicensespringUpstream(msgspec.Struct, frozen=True, kw_only=True):
    """The cloud, as configured; its keys are not in here.

    `url` is without `/api/v4/`. `hardware_id` is what licences are activated for. After `window_ms`
    a call that has not arrived never will.
    """

    name: str
    url: str
    hardware_id: str
    interval_s: float
    timeout_s: float = 30.0
    window_ms: int = WINDOW_MS

    def address(self, call: str, query: Mapping[str, str] | None = None) -> str:
        """Give the address of a call."""
        asked = f"?{urlencode(query)}" if query else ""
        return f"{self.url.rstrip('/')}{API}{call}{asked}"


class Identity(msgspec.Struct, frozen=True):
    """Which licence a line stands for at the cloud, and which of its features ("": itself)."""

    product: str
    license_key: str
    feature: str
    hardware_id: str

    def __repr__(self) -> str:
        return f"Identity(product={self.product!r}, feature={self.feature!r})"  # no key in a log

    @property
    def members(self) -> dict[str, str]:
        """How every call names the licence."""
        return {
            "product": self.product,
            "hardware_id": self.hardware_id,
            "license_key": self.license_key,
        }

    @property
    def tag(self) -> str:
        """Tell identities apart without saying the key."""
        said = "\x1f".join((*self.members.values(), self.feature))
        return hashlib.sha256(said.encode()).hexdigest()[:32]


def route(
    upstream: LicensespringUpstream, sender: Sender, reconciler: Reconciler, sync: Sync
) -> Route:
    """Give the forwarder's view of this upstream."""
    return Route(
        name=upstream.name,
        sender=sender,
        encode=lambda choice, _instance, _batch, lines: encode(choice, lines),
        interval_s=upstream.interval_s,
        horizon_ms=0,  # it remembers no ids, whatever is configured
        features_max=1,
        by_line=True,
        reconciler=reconciler,
        sync=sync,
    )


def encode(choice: Choice, lines: Mapping[str, Line]) -> bytes:
    """Write a choice of one line as what is added to it; the order of members is fixed."""
    line = lines[choice.rows[0].line]
    floating = line.licensespring
    return msgspec.json.encode(
        {
            "line": line.id,
            "feature": floating.feature if floating else "",
            "consumptions": sum(row.units for row in choice.rows),
        }
    )


def identity(upstream: LicensespringUpstream, line: Line) -> Identity | None:
    """Say which licence a line stands for; None: without key or product the cloud has none."""
    floating = line.licensespring
    if floating is None or not floating.license_key or not floating.product:
        return None
    return Identity(floating.product, floating.license_key, floating.feature, upstream.hardware_id)


def call_of(batch: Batch, who: Identity, overages: str | None) -> tuple[str, bytes]:
    """Give the name of the call that delivers a batch, and its body.

    `overages`: a setting, spelt as an overdraft, that a client changed and the cloud has not heard
    of; a call about a feature has no place for it.
    """
    said: dict[str, Any] = {**who.members, "consumptions": batch.units, "event": [EVENT]}
    if who.feature:
        return "add_feature_consumption", msgspec.json.encode({**said, "feature": who.feature})
    if overages is not None:
        said["allow_overages"] = overages != "0"
        said["max_overages"] = 0 if overages == "unlimited" else int(overages)
    return "add_consumption", msgspec.json.encode(said)
