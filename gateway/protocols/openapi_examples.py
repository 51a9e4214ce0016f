"""The examples of access requests and log-ins: what the gateway of a plant is asked, and answers.

Decided here: the values; the plant is openapi_plant.py's. An answer that depends on the requests
before it says so in its summary.
"""

from __future__ import annotations

import json
from typing import Any, Final

from gateway.protocols.openapi_parts import Example
from gateway.protocols.openapi_plant import USAGE_ID

_PLANT: Final = {"type": "string", "value": "plant-7-gateway"}
_SOMEONE: Final = {"type": "user", "value": "someone@example.com"}
_UNKNOWN: Final[dict[str, Any]] = {
    "productName": None,
    "productVersion": None,
    "activationId": None,
    "entitlementId": None,
}
_SUITE: Final = {
    "productName": "Plant Suite",
    "productVersion": "1.0",
    "activationId": "act-0001",
    "entitlementId": None,
}
_SESSIONS: Final[dict[str, Any]] = {
    "name": "sessions",
    "version": "1.0",
    "count": 42,
    "maxCount": 1000,
    "expires": "2027-01-01T00:00:00.000Z",
    "finalExpiry": "2027-01-01T00:00:00.000Z",
    "entitlementExpiry": "2027-01-01T00:00:00.000Z",
    "vendorString": "tier=gold",
    "serialNumber": "SN-11",
    "issuer": "gateway",
    "renewInterval": 0,
    "lineItemsInfo": [_SUITE],
}
_USERS: Final[dict[str, Any]] = {
    "name": "users",
    "version": "1.0",
    "count": 7,
    "maxCount": 55,
    "finalExpiry": "permanent",
    "entitlementExpiry": "permanent",
    "renewInterval": 0,
    "lineItemsInfo": [_UNKNOWN],
}

ACCESS: Final = (
    Example(
        "usage",
        "Usage is posted; each request adds up",
        {
            "hostId": _PLANT,
            "incremental": True,
            "partial": True,
            "borrow-interval": "0d",
            "features": [
                {"name": "sessions", "version": "1.0", "count": 42},
                {"name": "users", "version": "1.0", "count": 7},
            ],
            "selectorsDictionary": {"region": "EU"},
            "vendorDictionary": {"site": "Lyon", "batch": 118},
            "correlationId": USAGE_ID,
        },
    ),
    Example(
        "checkOut",
        "Two seats for half an hour; the list is the whole set",
        {
            "hostId": _SOMEONE,
            "incremental": False,
            "partial": False,
            "borrow-interval": "30m",
            "features": [{"name": "designer", "version": "2.0", "count": 2}],
        },
    ),
    Example(
        "tooMany",
        "All or nothing, of a feature that has less",
        {"hostId": _PLANT, "incremental": True, "features": [{"name": "users", "count": 60}]},
    ),
    Example(
        "returnOne",
        "One seat of two comes back",
        {
            "hostId": _SOMEONE,
            "incremental": True,
            "features": [{"name": "designer", "version": "2.0", "count": -1}],
        },
    ),
    Example(
        "readBack",
        "What does the host hold? Nothing changes",
        {"hostId": _SOMEONE, "incremental": True, "features": []},
    ),
    Example(
        "releaseAll",
        "Everything that the host holds comes back",
        {"hostId": _SOMEONE, "incremental": False, "features": []},
    ),
)


def _seats(count: int) -> dict[str, Any]:
    return {
        "requestHostId": _SOMEONE,
        "features": [
            {
                "name": "designer",
                "version": "2.0",
                "count": count,
                "maxCount": 2,
                "expires": "2026-03-01T10:30:00.000Z",
                "finalExpiry": "permanent",
                "entitlementExpiry": "permanent",
                "renewInterval": 270 if count == 2 else 540,
                "lineItemsInfo": [_UNKNOWN],
            }
        ],
        "serverLicenseRenewInterval": 90720,
        "statusList": [],
    }


# By the name of the request, sent in this order.
GRANTED: Final = (
    Example(
        "usage",
        "All of it is granted",
        {
            "requestHostId": _PLANT,
            "features": [_SESSIONS, _USERS],
            "serverLicenseRenewInterval": 90720,
            "statusList": [],
        },
    ),
    Example("checkOut", "Two seats, to be renewed after 270 s", _seats(2)),
    Example(
        "tooMany",
        "A denial: nothing is granted, after the 7 that were",
        {
            "requestHostId": _PLANT,
            "features": [],
            "serverLicenseRenewInterval": 90720,
            "statusList": [
                {
                    "code": "FEATURE_COUNT_INSUFFICIENT",
                    "message": "Too few counts of users: asked 60, available 48",
                    "name": "users",
                    "version": "0",
                }
            ],
        },
    ),
    Example("returnOne", "One seat is left, and lapses when it did", _seats(1)),
    Example("readBack", "The same again", _seats(1)),
    Example(
        "releaseAll",
        "Nothing is left",
        {
            "requestHostId": _SOMEONE,
            "features": [],
            "serverLicenseRenewInterval": 90720,
            "statusList": [],
        },
    ),
)

PREVIEW: Final = (
    Example(
        "oneFeature",
        "What is there of one feature?",
        {"hostId": _PLANT, "features": [{"name": "sessions", "version": "0"}]},
    ),
    Example(
        "noSuchFeature",
        "A feature that is not there",
        {"hostId": _PLANT, "features": [{"name": "sesions"}]},
    ),
    Example("everything", "What could this host get?", {"hostId": _SOMEONE}),
)
OFFERED: Final = (
    Example(
        "oneFeature",
        "958 are left, after the 42 that were consumed",
        {
            "requestHostId": _PLANT,
            "features": [{**_SESSIONS, "count": 958}],
            "statusList": [],
        },
    ),
    Example(
        "noSuchFeature",
        "It is named in the list",
        {
            "requestHostId": _PLANT,
            "features": [],
            "statusList": [
                {
                    "code": "FEATURE_NOT_FOUND",
                    "message": "There is no feature sesions: asked 0, available 0",
                    "name": "sesions",
                    "version": "0",
                }
            ],
        },
    ),
)

_LINES: Final = (
    {"correlationId": "plant-7/0002", **ACCESS[1].value},
    {
        "correlationId": "plant-7/0003",
        "hostId": _PLANT,
        "features": [{"name": "users", "version": "1.0", "count": -1}],
    },
)
_LINES_ANSWERED: Final[tuple[dict[str, Any], ...]] = (
    {
        "correlationId": "plant-7/0002",
        "status": 200,
        "replayed": False,
        "response": GRANTED[1].value,
    },
    {
        "correlationId": "plant-7/0003",
        "status": 400,
        "replayed": False,
        "response": {
            "key": "gateway.badRequest",
            "message": "features[0].count must not be negative unless incremental is true",
            "arguments": ["features[0].count"],
        },
    },
)


def _ndjson(*lines: dict[str, Any]) -> str:
    return "".join(json.dumps(line) + "\n" for line in lines)


BATCH: Final = Example("twoLines", "A check-out, and a count that cannot be", _ndjson(*_LINES))
BATCHED: Final = Example("twoLines", "One is granted", _ndjson(*_LINES_ANSWERED))

LOGIN: Final = Example("login", "A log-in", {"user": "ann", "password": "correct horse"})
