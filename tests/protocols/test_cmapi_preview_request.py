"""A preview reads host, names with versions and selectors as strictly as any request; no more."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.core.errors import BadRequest
from gateway.core.model import COUNT_MAX, AccessRequest, Host, Want
from gateway.protocols.cmapi_request import decode_preview, normalise_preview


def body_of(**members: Any) -> bytes:
    """Encode a preview request of a valid host and these members."""
    return json.dumps({"hostId": {"type": "string", "value": "plant-7"}, **members}).encode()


def test_a_preview_reads_host_features_and_selectors_and_nothing_else() -> None:
    ignored: dict[str, Any] = {"incremental": "maybe", "partial": 7, "borrow-interval": "never"}
    ignored |= {"vendorDictionary": [], "correlationId": ""}
    body = body_of(
        features=[{"name": "a", "version": "1.0", "count": "many"}],
        selectorsDictionary={"region": "EU"},
        **ignored,
    )

    assert decode_preview(body) == AccessRequest(
        host=Host("string", "plant-7"), wants=(Want("a", "1.0", 0),), selectors={"region": "EU"}
    )


def test_a_preview_without_features_asks_for_everything() -> None:
    assert decode_preview(body_of()).wants == ()


def test_a_preview_keeps_versions_apart_and_spellings_together() -> None:
    asked = [
        {"name": "a", "version": "1", "count": COUNT_MAX},
        {"name": "a", "version": "2", "count": -1},
        {"name": "a", "version": "1.0", "count": COUNT_MAX},
    ]

    assert decode_preview(body_of(features=asked)).wants == (Want("a", "1", 0), Want("a", "2", 0))


@pytest.mark.parametrize(
    ("members", "member"),
    [
        ({"hostId": None}, "hostId"),
        ({"features": [{"name": "a"}] * 65}, "features"),
        ({"features": [{"name": ""}]}, "features[0].name"),
        ({"features": [{"name": "a", "version": "x"}]}, "features[0].version"),
        ({"selectorsDictionary": {"k": 1}}, "selectorsDictionary.k"),
    ],
)
def test_what_a_preview_reads_it_reads_as_strictly(members: dict[str, Any], member: str) -> None:
    with pytest.raises(BadRequest) as refused:
        decode_preview(body_of(**members))

    assert refused.value.arguments == (member,)


def test_a_decoded_preview_means_what_its_bytes_mean() -> None:
    body = body_of(features=[{"name": "a", "count": 3}], iat=1, aud="DEMO")

    assert normalise_preview(json.loads(body)) == decode_preview(body)
