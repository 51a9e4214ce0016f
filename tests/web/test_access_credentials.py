"""Who may ask, over HTTP: one 401, what is believed for how long, and nothing that breaks us.

Which credential is a valid one is the vectors' business (section 10); here it is that a refusal
tells nothing, that a change of the catalogue acts on the next request, and that no bytes whatever
are our failure. Source: SEMANTICS 10, DESIGN 3.
"""

from __future__ import annotations

import itertools
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.core.model import Key
from tests.vectors.credentials import keys_of, public_der, token
from tests.vectors.served import Served
from tests.web.doors import ACCESS, GOOD, RELEASE, Door, at, clock_serving, door_serving

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with door_serving(tmp_path_factory.mktemp("door")) as opened:
        yield opened


@pytest.fixture(scope="module")
def trusting(served: Served) -> Door:
    """A door that is provisioned, for the many that may share one."""
    door = Door(served)
    served.run(door.put())
    return door


# Who may ask ----------------------------------------------------------------------------------


def test_all_that_does_not_verify_is_one_answer(served: Served) -> None:
    """Status, headers and bytes tell nothing but no; only the id of the request is its own."""

    async def story(door: Door) -> None:
        other = Door(served)
        await other.put(keys=keys_of("other"))
        credentials = ["none", "basic", "garbage", "token-other", "token-none", "token-hs256",
                       "token-unknown-kid", "token-tampered", "signed-other", "jose-garbage",
                       "signed-unknown-kid", "signed-tampered", "signed-more"]  # fmt: skip
        answers = [await door.knock(credential=each, claims={"jti": "x"}) for each in credentials]
        answers += [
            await door.knock(instance="NOSUCH"),
            await door.knock(instance="~"),
            await door.knock(instance=other.instance),
            await door.knock(instance=other.instance, credential="signed", claims={"jti": "x"}),
            await door.knock(b"nonsense", instance="NOSUCH"),
        ]
        seen = set()
        for answer in answers:
            headers = {name: value for name, value in answer.headers.items()
                       if name not in ("date", "gateway-request-id")}  # fmt: skip
            seen.add((answer.status_code, tuple(sorted(headers.items())), answer.content))
        assert len(seen) == 1, seen
        assert answers[0].status_code == 401
        assert len({answer.headers["Gateway-Request-Id"] for answer in answers}) == len(answers)
        assert (await door.used(), await other.used()) == ({}, {})

    at(served, story)


def test_a_token_that_was_believed_lapses_at_its_exp(tmp_path: Path) -> None:
    async def story(door: Door) -> None:
        short, long = (
            {"Authorization": f"Bearer {token('token', {'exp': time.time() + lasts_s})}"}
            for lasts_s in (600, 1_800)
        )
        for ahead.s in (0, 300):
            assert (await door.knock(RELEASE, short)).status_code == 200
        ahead.s = 600
        assert (await door.knock(RELEASE, short)).status_code == 401
        assert (await door.knock(RELEASE, long)).status_code == 200

    with clock_serving(tmp_path) as (served, ahead):
        at(served, story)


@pytest.mark.parametrize("endpoint", [ACCESS, "preview_request"])
def test_a_revoked_key_is_refused_at_once(served: Served, endpoint: str) -> None:
    async def story(door: Door) -> None:
        held = {"Authorization": f"Bearer {token()}"}
        for _ in range(2):
            assert (await door.knock(RELEASE, held, endpoint=endpoint)).status_code == 200
        await door.put(keys=tuple(key for key in keys_of("own") if key.alg != "RS256"))
        answer = await door.knock(GOOD, held, endpoint=endpoint)
        assert (answer.status_code, await door.used()) == (401, {})

    at(served, story)


def test_a_token_is_refused_as_soon_as_payloads_must_be_signed(served: Served) -> None:
    async def story(door: Door) -> None:
        held = {"Authorization": f"Bearer {token()}"}
        assert (await door.knock(RELEASE, held)).status_code == 200
        await door.put(require_signed_payload=True)
        assert (await door.knock(GOOD, held)).status_code == 401
        answer = await door.knock(credential="signed", claims={"jti": "1"})
        assert (answer.status_code, await door.used()) == (200, {"sessions|0": 1})

    at(served, story)


def test_a_key_that_was_just_added_is_trusted_at_once(served: Served) -> None:
    async def story(door: Door) -> None:
        assert (await door.knock(credential="token-other")).status_code == 401
        added = Key("other-RS256", "RS256", public_der("other", "RS256"))
        await door.put(keys=(*keys_of("own"), added))
        assert (await door.knock(credential="token-other")).status_code == 200

    at(served, story)


def test_the_default_instance_is_the_new_one_at_once(served: Served) -> None:
    async def told() -> None:
        former, new = Door(served), Door(served)
        await former.put(default=True)
        assert (await former.knock(instance="~")).status_code == 200
        await former.put(default=False)
        await new.put(default=True, keys=keys_of("other"))
        assert (await new.knock(instance="~", credential="token-other")).status_code == 200
        assert (await former.knock(instance="~")).status_code == 401
        await new.put(default=False)

    served.run(told())


def test_an_instance_that_was_just_made_is_there_at_once(served: Served) -> None:
    async def told() -> None:
        door = Door(served)
        assert (await door.knock()).status_code == 401
        await door.put()
        assert (await door.knock()).status_code == 200

    served.run(told())


def test_a_changed_catalogue_is_read_again_by_the_next_request(served: Served) -> None:
    async def story(door: Door) -> None:
        for capacity in (7, 8, 9):
            found = await served.catalogues.read(door.instance)
            assert found is not None
            lines = [
                replace(line, count=capacity, capacity=capacity) if line.id == "sessions" else line
                for line in found.catalogue.lines
            ]
            await door.put(lines=tuple(lines))
            (entry,) = (await door.knock()).json()["features"]
            assert entry["maxCount"] == capacity

    at(served, story)


# Whatever is sent -----------------------------------------------------------------------------

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
_members = ("hostId", "features", "incremental", "partial", "borrow-interval", "correlationId",
            "selectorsDictionary", "vendorDictionary")  # fmt: skip
_bodies = st.one_of(
    st.binary(max_size=200),
    _json.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(st.sampled_from(_members), _json).map(
        lambda members: json.dumps({**GOOD, **members}).encode()
    ),
)
_many = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.slow
@_many
@given(body=_bodies, endpoint=st.sampled_from([ACCESS, "signed_access_request", "preview_request"]))
def test_no_body_of_a_trusted_client_is_our_failure(
    trusting: Door, body: bytes, endpoint: str
) -> None:
    async def told() -> None:
        before = await trusting.used()
        answer = await trusting.knock(body, endpoint=endpoint)
        assert answer.status_code in (200, 400), answer.text
        if answer.status_code == 400:
            assert answer.json()["key"] == "gateway.badRequest"
            assert await trusting.used() == before

    trusting.served.run(told())


@_many
@given(
    body=st.one_of(
        st.binary(max_size=200),
        st.lists(st.binary(max_size=30), min_size=1, max_size=4).map(b".".join),
        st.text("abcXYZ019-_.=", max_size=80).map(str.encode),
    ),
    authorization=st.one_of(
        st.just(b""),
        st.binary(max_size=60).map(lambda b: re.sub(rb"[^\x21-\x7e\x80-\xff]", b"", b)),
    ),
    jose=st.booleans(),
)
def test_no_credential_of_a_stranger_is_our_failure(
    served: Served, body: bytes, authorization: bytes, jose: bool
) -> None:
    async def told() -> None:
        kind = b"application/jose" if jose else b"application/json"
        answer = await served.http.post(
            f"/api/1.0/instances/DOOR-1/{ACCESS}",
            headers=[
                (b"Content-Type", kind),
                (b"Authorization", b"Bearer " + (authorization or b"-")),
            ],
            content=body,
        )
        assert answer.status_code == 401, answer.text

    served.run(told())


@pytest.mark.slow
@_many
@given(claims=st.dictionaries(st.sampled_from(("iat", "jti", "aud", *_members)), _json))
def test_no_signed_payload_of_a_trusted_client_is_our_failure(
    trusting: Door, claims: dict[str, Any]
) -> None:
    async def told() -> None:
        said = {"jti": f"j{next(_numbers)}", **claims}
        answer = await trusting.knock(credential="signed", claims=said)
        assert answer.status_code in (200, 400, 401), answer.text

    trusting.served.run(told())
