"""The plant that all examples of the OpenAPI document tell of.

Decided here: what is provisioned there. The examples are no mere illustration: a test provisions
this, sends every request of theirs at MOMENT to a real gateway, and holds the answers to theirs.
"""

from __future__ import annotations

from typing import Any, Final

INSTANCE_ID: Final = "EXAMPLE00001"
MOMENT: Final = "2026-03-01T10:00:00.000Z"
USAGE_ID: Final = "plant-7/0001"

# As in a provisioning file; dates there are TOML's, without quotes.
PROVISIONING: Final[dict[str, Any]] = {
    "instance": [
        {
            "id": INSTANCE_ID,
            "name": "plant gateway",
            "default": True,
            "timezone": "UTC",
            "borrow_interval": "1w",
            "line": [
                {
                    "id": "L1",
                    "feature": "sessions",
                    "version": "1.0",
                    "count": 1000,
                    "model": "metered",
                    "expires": "2026-12-31",
                    "vendor_string": "tier=gold",
                    "serial_number": "SN-11",
                    "issuer": "gateway",
                    "product": {
                        "name": "Plant Suite",
                        "version": "1.0",
                        "activation_id": "act-0001",
                    },
                },
                {
                    "id": "L2",
                    "feature": "users",
                    "version": "1.0",
                    "count": 50,
                    "model": "metered",
                    "overdraft": "10%",
                    "undo_interval": "1h",
                    "reset": "monthly",
                },
                {
                    "id": "L3",
                    "feature": "designer",
                    "version": "2.0",
                    "count": 2,
                    "model": "concurrent",
                    "borrow_interval": "1h",
                },
            ],
        }
    ]
}
