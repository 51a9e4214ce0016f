"""Elements as a licence server lists them, and the line or the refusal that each becomes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.core.errors import InvalidInput
from gateway.core.importing import Imported, import_features
from gateway.core.model import Catalogue, Line
from gateway.core.provisioning import read_provisioning

METERED: dict[str, Any] = {
    "id": 11,
    "featureId": "F-11",
    "featureName": "sessions",
    "featureVersion": "1.0",
    "featureCount": 1000,
    "metered": True,
    "expiry": "permanent",
}
SEATS = METERED | {"id": 12, "featureId": "F-12", "featureName": "editor", "metered": False}


def no_key_file(name: str) -> bytes:
    raise FileNotFoundError(name)


def imported(*elements: object, timezone: str = "UTC", default: bool = False) -> Imported:
    data = json.dumps(elements).encode()
    return import_features(data, instance="I", timezone=timezone, default=default)


def catalogue(made: Imported) -> Catalogue:
    (declared,) = read_provisioning(made.text, no_key_file)
    return declared


def line_of(element: dict[str, Any], **changes: Any) -> tuple[Line, tuple[str, ...]]:
    made = imported(element | changes)
    (line,) = catalogue(made).lines
    return line, made.notes


def left_out(*elements: object) -> str:
    """Give the notes of elements of which only the last, a plain one, is carried."""
    made = imported(*elements, METERED | {"id": 99, "featureId": "kept", "featureName": "kept"})
    assert [line.id for line in catalogue(made).lines] == ["kept"]
    return "\n".join(made.notes)


def refusal(data: bytes, **changes: Any) -> tuple[str, ...]:
    named: dict[str, Any] = {"instance": "I", "timezone": "UTC", "default": False} | changes
    with pytest.raises(InvalidInput) as caught:
        import_features(data, **named)
    return caught.value.problems
