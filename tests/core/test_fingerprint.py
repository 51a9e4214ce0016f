"""Fingerprints are equal exactly when meanings are, whatever the spelling; ids are hashed."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.fingerprint import FINGERPRINT_BYTES, dedupe_id, fingerprint, visible_ascii
from gateway.core.model import AccessRequest, Host, Want

untimed = settings(deadline=None)  # a busy machine is no failure

BASE = AccessRequest(
    host=Host("string", "plant-7"),
    wants=(Want("sessions", "1.0", 42), Want("users", "2", 7)),
    partial=True,
    interval_s=3_600,
    selectors={"region": "EU", "tier": "gold"},
    vendor={"site": "Lyon", "batch": 118},
    correlation_id="c-1",
)


def changed(**members: Any) -> AccessRequest:
    return msgspec.structs.replace(BASE, **members)


SAME = {
    "other case of the host type": changed(host=Host("STRing", "plant-7")),
    "other order of features": changed(wants=BASE.wants[::-1]),
    "other spelling of a version": changed(
        wants=(Want("sessions", "01", 42), Want("users", "2.0.0", 7))
    ),
    "other order of selectors": changed(selectors={"tier": "gold", "region": "EU"}),
    "other order of the vendor dictionary": changed(vendor={"batch": 118, "site": "Lyon"}),
    "other correlation id": changed(correlation_id="c-2"),
    "no correlation id": changed(correlation_id=None),
}

OTHER = {
    "host type": changed(host=Host("user", "plant-7")),
    "case of the host value": changed(host=Host("string", "Plant-7")),
    "host without its last letter": changed(host=Host("string", "plant-")),
    "count": changed(wants=(Want("sessions", "1.0", 43), Want("users", "2", 7))),
    "sign": changed(wants=(Want("sessions", "1.0", -42), Want("users", "2", 7))),
    "counts swapped": changed(wants=(Want("sessions", "1.0", 7), Want("users", "2", 42))),
    "version": changed(wants=(Want("sessions", "1.1", 42), Want("users", "2", 7))),
    "versions swapped": changed(wants=(Want("sessions", "2", 42), Want("users", "1.0", 7))),
    "name": changed(wants=(Want("session", "1.0", 42), Want("users", "2", 7))),
    "case of a name": changed(wants=(Want("Sessions", "1.0", 42), Want("users", "2", 7))),
    "one feature less": changed(wants=BASE.wants[:1]),
    "one feature of 0 more": changed(wants=(*BASE.wants, Want("pages", "1", 0))),
    "no features": changed(wants=()),
    "incremental": changed(incremental=True),
    "partial": changed(partial=False),
    "flags swapped": changed(incremental=True, partial=False),
    "interval": changed(interval_s=3_601),
    "no interval": changed(interval_s=0),
    "selector": changed(selectors={"region": "US", "tier": "gold"}),
    "no selectors": changed(selectors={}),
    "selectors as vendor dictionary": changed(
        selectors={}, vendor={"region": "EU", "tier": "gold"}
    ),
    "vendor text for integer": changed(vendor={"site": "Lyon", "batch": "118"}),
    "vendor integer": changed(vendor={"site": "Lyon", "batch": 119}),
    "text moved from a key to its value": changed(vendor={"sit": "eLyon", "batch": 118}),
}


@pytest.mark.parametrize("request_", SAME.values(), ids=SAME.keys())
def test_the_same_meaning_has_the_same_fingerprint(request_: AccessRequest) -> None:
    assert fingerprint(BASE) == fingerprint(request_)


@pytest.mark.parametrize("request_", OTHER.values(), ids=OTHER.keys())
def test_another_meaning_has_another_fingerprint(request_: AccessRequest) -> None:
    assert fingerprint(BASE) != fingerprint(request_)


def test_all_these_meanings_differ_from_each_other() -> None:
    assert len({fingerprint(each) for each in OTHER.values()}) == len(OTHER)


def test_the_encoding_outlives_a_deployment() -> None:
    # These bytes are remembered in stores: a change refuses every retry that crosses the upgrade.
    assert fingerprint(BASE).hex() == "fce734392a61bc6fc505ff4b167983d6"


def test_the_encoding_is_an_array_in_msgpack() -> None:
    # An array of 7: a text of 8, false, false, 0, and three empty arrays.
    encoded = b"\x97\xa8USER:a@b\xc2\xc2\x00\x90\x90\x90"
    small = AccessRequest(host=Host("user", "a@b"))

    assert fingerprint(small) == hashlib.sha256(encoded).digest()[:FINGERPRINT_BYTES]


def test_a_version_number_of_any_size_has_a_fingerprint() -> None:
    huge, next_to_it = "9" * 32, "9" * 31 + "8"

    assert fingerprint(changed(wants=(Want("a", huge, 1),))) != fingerprint(
        changed(wants=(Want("a", next_to_it, 1),))
    )


WANTS = st.lists(
    st.builds(
        Want,
        st.sampled_from(["a", "b", "ab"]),
        st.sampled_from(["0", "1", "1.1", "11"]),
        st.integers(0, 2),
    ),
    unique_by=lambda want: (want.name, want.version),
    max_size=4,
)
TEXTS = st.dictionaries(st.sampled_from(["k", "v", "kv"]), st.sampled_from(["", "k", "v"]))
VENDOR = st.dictionaries(st.sampled_from(["k", "v"]), st.sampled_from(["1", 1, -1, ""]))
REQUESTS = st.builds(
    AccessRequest,
    host=st.builds(Host, st.sampled_from(["string", "STRING", "user"]), st.sampled_from("ab")),
    wants=WANTS.map(tuple),
    incremental=st.booleans(),
    partial=st.booleans(),
    interval_s=st.integers(0, 2),
    selectors=TEXTS,
    vendor=VENDOR,
)


def meaning(request: AccessRequest) -> tuple[object, ...]:
    return (
        request.host.canonical,
        frozenset(request.wants),
        request.incremental,
        request.partial,
        request.interval_s,
        request.selectors,
        request.vendor,
    )


@untimed
@given(REQUESTS, REQUESTS, st.randoms(use_true_random=False))
def test_fingerprints_are_equal_exactly_when_meanings_are(
    one: AccessRequest, other: AccessRequest, shuffler: Any
) -> None:
    shuffled = list(one.wants)
    shuffler.shuffle(shuffled)

    assert fingerprint(one) == fingerprint(msgspec.structs.replace(one, wants=tuple(shuffled)))
    assert (fingerprint(one) == fingerprint(other)) == (meaning(one) == meaning(other))
    assert len(fingerprint(one)) == FINGERPRINT_BYTES


def test_a_dedupe_id_is_the_start_of_a_hash_in_url_safe_letters() -> None:
    hashed = hashlib.sha256(b"DEMO\x1fjob-1").digest()

    assert base64.urlsafe_b64decode(dedupe_id("DEMO", "job-1") + "==") == hashed[:16]
    assert len(dedupe_id("DEMO", "x" * 255)) == 22


def test_a_dedupe_id_belongs_to_its_instance() -> None:
    ids = {dedupe_id("A", "bc"), dedupe_id("AB", "c"), dedupe_id("A", "bC"), dedupe_id("a", "bc")}

    assert len(ids) == 4


@pytest.mark.parametrize("text", ["a", "!", "~", "c-0001", "{}", "x" * 255])
def test_visible_ascii_can_be_an_idempotency_id(text: str) -> None:
    assert visible_ascii(text)


@pytest.mark.parametrize(
    "text", ["", " ", "a b", "a\n", "\x1f", "\x7f", "é", "\u00a0", "\udc00", "x" * 256]
)
def test_nothing_else_can_be_an_idempotency_id(text: str) -> None:
    assert not visible_ascii(text)
