"""The examples of what administrators read: the plant after the requests of openapi_examples.py.

Decided here: the values; the same test that sends those requests holds the answers to these.
"""

from __future__ import annotations

from typing import Any, Final

from gateway.protocols.openapi_parts import Example
from gateway.protocols.openapi_plant import INSTANCE_ID, MOMENT, USAGE_ID

CLIENT_ID: Final = 2668502237658272  # follows from the host: someone@example.com


def _feature(**members: Any) -> dict[str, Any]:
    """Give a line; all that is not said is as lines are by default."""
    named = {
        "id": 0,
        "featureId": "",
        "featureName": "",
        "featureVersion": "1.0",
        "type": "METERED",
        "featureKind": "NORMAL_FEATURE",
        "vendor": "",
        "issuer": "",
        "issued": "",
        "starts": "",
        "notice": "",
        "expiry": "permanent",
        "receivedTime": MOMENT,
        "featureCount": 0,
        "used": 0,
        "sharedUsed": members["used"],
        "reserved": 0,
        "assignedReserved": 0,
        "unassignedReserved": 0,
        "overdraftCount": 0,
        "overdraftUsedCount": 0,
        "uncappedOverdraft": False,
        "metered": True,
        "meteredReusable": False,
        "meteredUndoInterval": 0,
        "concurrent": False,
        "uncounted": False,
        "borrowInterval": 604800,
        "renewInterval": 0,
    }
    return named | members


def _client(id: int, kind: str, value: str, expiry: str) -> dict[str, Any]:
    host = {"hostidType": kind, "hostidValue": value}
    return {
        "id": id,
        "serverHostid": {"hostidType": "STRING", "hostidValue": INSTANCE_ID},
        "requestHostid": host,
        "hostid": host,
        "hostType": "CLIENT",
        "machineType": "UNKNOWN",
        "correlationId": "",
        "collectedHostIds": [],
        "trusted": True,
        "requestOperation": "REQUEST",
        "servedStatus": "NORMAL",
        "updateTime": MOMENT,
        "expiry": expiry,
    }


def _totals(count: int, used: int, overdraft: int = 0) -> dict[str, int]:
    return {
        "totalCount": count,
        "totalUsed": used,
        "totalOverdraftCount": overdraft,
        "totalAvailable": count + overdraft - used,
    }


def _explained(name: str, asked: int, line: str, capacity: int, **ends: str) -> dict[str, Any]:
    """Give a feature of which all was granted, from a line that nobody had used."""
    return {
        "name": name,
        "model": "metered",
        "wants": [
            {
                "version": "1.0",
                "asked": asked,
                "granted": asked,
                "code": None,
                "why": "All of it was granted",
                "candidates": [line],
            }
        ],
        "lines": [
            {
                "featureId": line,
                "version": "1.0",
                "excludedBy": None,
                "capacity": capacity,
                "used": 0,
                "elsewhere": 0,
                "held": 0,
                "available": capacity,
                "undoable": None,
                "starts": None,
                "expires": ends.get("expires"),
                "change": asked,
            }
        ],
        "linesOmitted": 0,
    }


_SESSIONS: Final = _feature(
    id=1,
    featureId="L1",
    featureName="sessions",
    issuer="gateway",
    expiry="2026-12-31",
    featureCount=1000,
    used=42,
)
_USERS: Final = _feature(
    id=2,
    featureId="L2",
    featureName="users",
    featureCount=50,
    used=7,
    overdraftCount=5,
    meteredUndoInterval=3600,
)
_DESIGNER: Final = _feature(
    id=3,
    featureId="L3",
    featureName="designer",
    featureVersion="2.0",
    type="CONCURRENT",
    featureCount=2,
    used=2,
    metered=False,
    concurrent=True,
    borrowInterval=3600,
    renewInterval=540,
)
_PLANT: Final = _client(2462642257891638, "STRING", "plant-7-gateway", MOMENT)
_SOMEONE: Final = _client(CLIENT_ID, "USER", "someone@example.com", "2026-03-01T10:30:00.000Z")

FEATURES: Final = Example("features", "Three lines", [_SESSIONS, _USERS, _DESIGNER])
FEATURE: Final = Example("feature", "One that is consumed", _SESSIONS)
SUMMARIES: Final = Example(
    "summaries",
    "One version of each",
    {
        "sessions": {"1.0": _totals(1000, 42)},
        "users": {"1.0": _totals(50, 7, overdraft=5)},
        "designer": {"2.0": _totals(2, 2)},
    },
)
FEATURE_CLIENTS: Final = Example(
    "clients",
    "Two seats, held by one host",
    [
        {
            "id": 3832320406596560,
            "useCount": 2,
            "usageKind": "CONCURRENT",
            "reservedCount": 0,
            "client": _SOMEONE,
        }
    ],
)
CLIENTS: Final = Example("clients", "One that consumed, one that holds", [_PLANT, _SOMEONE])
DROPPED: Final = Example(
    "dropped",
    "Two seats came back",
    {
        "client": _SOMEONE,
        "returned": [
            {"featureId": "L3", "featureName": "designer", "featureVersion": "2.0", "count": 2}
        ],
    },
)
EXPLAINED: Final = Example(
    "granted",
    "All of it was granted, and from which lines",
    {
        "id": USAGE_ID,
        "instanceId": INSTANCE_ID,
        "transactionTime": MOMENT,
        "catalogueVersion": 1,
        "request": {
            "hostId": {"type": "string", "value": "plant-7-gateway"},
            "incremental": True,
            "partial": True,
            "borrowIntervalSeconds": 0,
            "selectorsDictionary": {"region": "EU"},
        },
        "features": [
            _explained("sessions", 42, "L1", 1000, expires="2027-01-01T00:00:00.000Z"),
            _explained("users", 7, "L2", 55),
        ],
        "heldBefore": {},
        "heldAfter": {},
        "released": {},
    },
)
NO_GROUPS: Final = Example("none", "None", [])

_POLICIES: Final[dict[str, Any]] = {
    "licensing.borrowInterval": "1w",
    "licensing.borrowIntervalMax": "365d",
    "licensing.renewInterval": 15,
    "licensing.defaultBorrowGranularity": "SECOND",
    "licensing.allowVirtualClients": True,
    "licensing.allowVirtualServer": True,
    "licensing.allowDuplicateClients": False,
    "licensing.trackDeniedRequests": True,
    "security.enabled": True,
    "security.anonymous": False,
    "security.token.duration": "1d",
    "gateway.requireSignedPayload": False,
    "gateway.requireExp": True,
}
_CHANGE: Final[dict[str, Any]] = {"licensing.borrowIntervalMax": "30d", "gateway.requireExp": False}
POLICIES: Final = Example("policies", "As provisioned", _POLICIES)
POLICY_CHANGE: Final = Example("change", "Shorter grants, tokens without an end", _CHANGE)
POLICIES_CHANGED: Final = Example("change", "As they are now", _POLICIES | _CHANGE)
