"""Licensing keys over HTTP: what is trusted from when until when, and what is no such key.

Source: protocols/cmapi.md 3.2, 7.1 and Q17.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from gateway.core.key_uploads import OVERLAP_MS_MAX
from gateway.core.keys import load_public, thumbprint
from gateway.core.model import Role
from tests.vectors.credentials import keys_of, public_der, token
from tests.vectors.served import Served
from tests.web.desks import (
    OTHER,
    OWN,
    Desk,
    desk_at,
)
from tests.web.doors import RELEASE, clock_serving, door_serving

INVALID_KEY = {
    "key": "gateway.invalidPublicKey",
    "message": "Expected an RSA public key of 2048 bits in DER SubjectPublicKeyInfo form",
    "arguments": [],
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with door_serving(tmp_path_factory.mktemp("door")) as opened:
        yield opened


@pytest.mark.parametrize("role", [Role.ADMIN, Role.PRODUCER])
def test_an_uploaded_key_is_trusted_at_once_until_it_is_removed(served: Served, role: Role) -> None:
    async def story(desk: Desk) -> None:
        header = await desk.header()
        assert not await desk.trusts("token")
        answer = await desk.upload(OWN, **header)
        assert answer.status_code == 200
        assert answer.json() == {"publicKey": base64.b64encode(OWN).decode()}
        assert await desk.trusts("token")
        (key,) = (await desk.catalogue()).keys
        assert key.kid == thumbprint(load_public(OWN))
        for _ in range(2):  # gone, whether or not it was there
            gone = await desk.remove(**header)
            assert gone.status_code == 410
            assert gone.json() == {
                "key": "gateway.keyRemoved",
                "message": "Licensing key removed",
                "arguments": [],
            }
            assert not await desk.trusts("token")

    desk_at(served, story, role)


def test_a_second_upload_takes_the_place_of_the_first_and_of_nothing_else(served: Served) -> None:
    async def story(desk: Desk) -> None:
        header = await desk.header()
        assert (await desk.upload(OWN, "?kid=own-RS256", **header)).status_code == 200
        assert await desk.trusts("token-kid")
        assert (await desk.upload(OTHER, "?kid=own-RS256", **header)).status_code == 200
        assert not await desk.trusts("token")
        assert not await desk.trusts("token-kid")
        assert await desk.trusts("token-other")
        assert await desk.trusts("signed", jti="1")  # by a key that was added another way
        assert (await desk.remove(**header)).status_code == 410
        assert not await desk.trusts("token-other")
        assert await desk.trusts("signed", jti="2")

    desk_at(served, story, keys=keys_of("own")[:1])


def test_with_an_overlap_the_former_key_holds_until_its_moment(served: Served) -> None:
    async def story(desk: Desk) -> None:
        header = await desk.header()
        await desk.upload(OWN, **header)
        before_ms = time.time() * 1000
        assert (await desk.upload(OTHER, "?overlap=1h", **header)).status_code == 200
        assert await desk.trusts("token")
        assert await desk.trusts("token-other")
        keys = (await desk.catalogue()).keys
        (until_ms,) = [key.until_ms for key in keys if key.public == OWN]
        assert until_ms is not None
        assert before_ms <= until_ms - 3_600_000 <= time.time() * 1000
        version = (await desk.catalogue()).version
        assert (await desk.upload(OTHER, "?overlap=1h", **header)).status_code == 200
        assert (await desk.catalogue()).version == version  # a repeat changes nothing
        # The hour is over, as far as the catalogue can tell.
        over = [replace(key, until_ms=1) if key.public == OWN else key for key in keys]
        await desk.door.put(keys=tuple(over))
        assert not await desk.trusts("token")
        assert await desk.trusts("token-other")

    desk_at(served, story)


def test_an_hour_that_ends_ends_for_a_token_that_was_believed(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        header = await desk.header()
        await desk.upload(OWN, **header)
        soon = (await desk.catalogue()).keys[0]
        held = {"Authorization": f"Bearer {token(claims={'exp': {'$now': 7_200}})}"}
        until_ms = int(time.time() * 1000) + 3_600_000
        await desk.door.put(keys=(replace(soon, until_ms=until_ms),))
        for ahead.s in (0, 1_800):
            assert (await desk.door.knock(RELEASE, held)).status_code == 200
        ahead.s = 3_600
        assert (await desk.door.knock(RELEASE, held)).status_code == 401

    with clock_serving(tmp_path) as (served, ahead):
        desk_at(served, story)


@pytest.mark.parametrize(
    "key",
    [b"", b"nonsense", OWN[:-1], public_der("own", "ES256"), b"-----BEGIN PUBLIC KEY-----\n"],
    ids=range(5),
)
def test_what_is_no_key_for_tokens_changes_nothing(served: Served, key: bytes) -> None:
    async def story(desk: Desk) -> None:
        header = await desk.header()
        await desk.upload(OWN, **header)
        before = await desk.catalogue()
        answer = await desk.upload(key, **header)
        assert (answer.status_code, answer.json()) == (400, INVALID_KEY)
        assert await desk.catalogue() == before
        assert await desk.trusts("token")

    desk_at(served, story)


@pytest.mark.parametrize(
    ("query", "member"),
    [
        ("?kid=", "kid"),
        ("?kid=a%20b", "kid"),
        ("?kid=%C3%A9", "kid"),
        ("?kid=" + "k" * 256, "kid"),
        ("?kid=a&kid=b", "kid"),
        ("?kid=own-ES256", "kid"),
        ("?overlap=", "overlap"),
        ("?overlap=-1h", "overlap"),
        ("?overlap=1y", "overlap"),
        (f"?overlap={OVERLAP_MS_MAX // 1000 + 1}", "overlap"),
        ("?overlap=1h&overlap=1h", "overlap"),
        ("?kid=%FF", "query"),
        ("?" + "&".join(f"x{number}=1" for number in range(17)), "query"),
        ("?x=" + "y" * 3_000, "query"),
    ],
    ids=range(14),
)
def test_a_query_that_says_nothing_good_changes_nothing(
    served: Served, query: str, member: str
) -> None:
    async def story(desk: Desk) -> None:
        header = await desk.header()
        before = await desk.catalogue()
        answer = await desk.upload(OWN, query, **header)
        assert (answer.status_code, answer.json()["key"]) == (400, "gateway.badRequest")
        assert answer.json()["arguments"] == [member]
        assert await desk.catalogue() == before

    desk_at(served, story, keys=keys_of("own")[:1])
