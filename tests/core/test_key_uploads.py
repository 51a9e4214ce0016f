"""One uploaded key at a time, an overlap that ends, and no key of another way touched."""

from __future__ import annotations

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from msgspec.structs import replace

from gateway.core.errors import BadRequest, InvalidPublicKey
from gateway.core.key_uploads import (
    licensing_key,
    with_upload,
    without_lapsed,
    without_uploads,
)
from gateway.core.keyring import KeyRing
from gateway.core.keys import generate, load_public, private_pem, public_der, public_pem, thumbprint
from gateway.core.model import RS256_KEYS_MAX, Catalogue, Key, User
from gateway.core.provisioning import difference, next_catalogue
from gateway.core.tokens import mint_token, verify_token

NOW_MS = 1_800_000_000_000
HOUR_MS = 3_600_000
PRIVATES = [generate("RS256") for _ in range(6)]
DERS = [public_der(private.public_key()) for private in PRIVATES]
OTHERS = (Key("added", "RS256", DERS[4]), Key("file", "RS256", DERS[5], provisioned=True))
EMPTY = Catalogue(id="I", version=3)


def upload(
    catalogue: Catalogue,
    number: int,
    kid: str | None = None,
    overlap_ms: int = 0,
    now_ms: int = NOW_MS,
) -> Catalogue:
    key = licensing_key(DERS[number], kid)
    return with_upload(catalogue, key, named=kid is not None, overlap_ms=overlap_ms, now_ms=now_ms)


def held(catalogue: Catalogue) -> dict[str, int | None]:
    return {key.kid: key.until_ms for key in catalogue.keys}


def test_a_key_is_named_as_asked_or_by_its_thumbprint() -> None:
    assert licensing_key(DERS[0], "k1") == Key("k1", "RS256", DERS[0], uploaded=True)
    assert licensing_key(DERS[0]).kid == thumbprint(load_public(DERS[0]))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nonsense",
        DERS[0][:-1],
        DERS[0] + b"\0",
        public_pem(PRIVATES[0].public_key()),
        private_pem(PRIVATES[0]),
        rsa.generate_private_key(65537, 1024)  # noqa: S505 - refused for that
        .public_key()
        .public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        PRIVATES[0].public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1),  # type: ignore[call-arg, arg-type]
        public_der(ec.generate_private_key(ec.SECP256R1()).public_key()),
        public_der(generate("EdDSA").public_key()),
        b"\x30" * 70_000,
    ],
    ids=range(11),
)
def test_only_an_rsa_key_in_der_is_one(data: bytes) -> None:
    with pytest.raises(InvalidPublicKey) as refused:
        licensing_key(data, "k1")
    assert refused.value.arguments == ()
    assert refused.value.__cause__ is None


def test_an_upload_takes_the_place_of_the_one_before_and_of_no_other() -> None:
    before = replace(EMPTY, keys=OTHERS)
    first = upload(before, 0, "k1")
    assert held(first) == {"added": None, "file": None, "k1": None}
    assert held(upload(first, 1, "k2")) == {"added": None, "file": None, "k2": None}
    assert upload(first, 1, "k1").keys[-1].public == DERS[1]
    assert without_uploads(upload(first, 1, "k2")) == before


def test_a_repeat_changes_nothing_also_later() -> None:
    first = upload(upload(EMPTY, 0, "k1"), 1, "k2", HOUR_MS)
    assert held(first) == {"k1": NOW_MS + HOUR_MS, "k2": None}
    assert upload(first, 1, "k2", HOUR_MS, NOW_MS + 9_000) == first


def test_an_overlap_ends_and_is_never_made_longer() -> None:
    first = upload(upload(EMPTY, 0, "k1"), 1, "k2", HOUR_MS)
    later_ms = NOW_MS + HOUR_MS // 2
    second = upload(first, 2, "k3", HOUR_MS, later_ms)
    assert held(second) == {"k1": NOW_MS + HOUR_MS, "k2": later_ms + HOUR_MS, "k3": None}
    assert held(upload(second, 3, "k4", 60_000, later_ms)) == {
        "k1": later_ms + 60_000,
        "k2": later_ms + 60_000,
        "k3": later_ms + 60_000,
        "k4": None,
    }
    assert held(upload(second, 3, "k4", now_ms=later_ms)) == {"k4": None}
    assert held(upload(second, 2, "k3", HOUR_MS, NOW_MS + HOUR_MS)) == {
        "k2": later_ms + HOUR_MS,
        "k3": None,
    }


def test_the_former_key_uploaded_again_holds_again() -> None:
    second = upload(upload(EMPTY, 0, "k1"), 1, "k2", HOUR_MS)
    assert held(upload(second, 0, "k1")) == {"k1": None}


def test_a_key_that_came_another_way_stays_as_it_is() -> None:
    before = replace(EMPTY, keys=OTHERS)
    assert upload(before, 4) == before
    assert upload(before, 5, "file") == before
    with pytest.raises(BadRequest) as refused:
        upload(before, 5, "k1")
    assert refused.value.arguments == ("kid",)


@pytest.mark.parametrize("kid", ["added", "file"])
def test_the_kid_of_another_key_is_refused(kid: str) -> None:
    with pytest.raises(BadRequest) as refused:
        upload(replace(EMPTY, keys=OTHERS), 0, kid)
    assert refused.value.arguments == ("kid",)


def test_during_an_overlap_two_keys_need_two_kids() -> None:
    first = upload(EMPTY, 0, "k1")
    with pytest.raises(BadRequest) as refused:
        upload(first, 1, "k1", HOUR_MS)
    assert refused.value.arguments == ("kid",)


def test_no_more_keys_than_there_may_be() -> None:
    full = upload(upload(replace(EMPTY, keys=OTHERS), 0, "k1"), 1, "k2", HOUR_MS)
    assert len(full.keys) == RS256_KEYS_MAX
    with pytest.raises(BadRequest) as refused:
        upload(full, 2, "k3", HOUR_MS)
    assert refused.value.arguments == ("overlap",)
    assert held(upload(full, 2, "k3")) == {"added": None, "file": None, "k3": None}
    KeyRing(upload(full, 2, "k3", HOUR_MS, NOW_MS + HOUR_MS).keys)


def test_a_key_verifies_until_its_moment_and_not_at_it() -> None:
    second = upload(upload(EMPTY, 0, "k1"), 1, "k2", HOUR_MS)
    ring, until_s = KeyRing(second.keys), (NOW_MS + HOUR_MS) / 1000
    for kid in (None, "k1"):
        former = mint_token(PRIVATES[0], sub="s", now_s=NOW_MS / 1000, ttl_s=86_400, kid=kid)
        token = verify_token(former, ring, now_s=until_s - 0.001)
        assert token is not None
        assert (token.kid, token.until_s) == ("k1", until_s)
        assert verify_token(former, ring, now_s=until_s) is None
    current = mint_token(PRIVATES[1], sub="s", now_s=NOW_MS / 1000, ttl_s=86_400)
    token = verify_token(current, ring, now_s=until_s + 1)
    assert token is not None
    assert token.until_s is None


def test_what_lapsed_is_cleared_away() -> None:
    second = upload(upload(EMPTY, 0, "k1"), 1, "k2", HOUR_MS)
    assert without_lapsed(second, NOW_MS + HOUR_MS - 1) == second
    assert held(without_lapsed(second, NOW_MS + HOUR_MS)) == {"k2": None}


def test_a_provisioning_file_leaves_users_and_uploads_alone() -> None:
    user = User("ann", "scrypt$…", ("ROLE_ADMIN",))
    current = replace(upload(EMPTY, 0, "k1"), users=(user,))
    declared = Catalogue(id="I", name="new", keys=(OTHERS[1],))
    merged = next_catalogue(current, declared)
    assert merged.users == (user,)
    assert held(merged) == {"file": None, "k1": None}
    assert next_catalogue(merged, declared) == merged
    told = difference(current, merged)
    assert len(told) == 2
    assert not any("ann" in line or "scrypt" in line for line in told)


def test_a_key_that_a_file_declares_does_not_run_out() -> None:
    current = upload(upload(EMPTY, 0, "k1"), 1, "k2", HOUR_MS)
    declared = Catalogue(id="I", keys=(Key("k1", "RS256", DERS[0], provisioned=True),))
    merged = next_catalogue(current, declared)
    assert held(merged) == {"k1": None, "k2": None}
    assert next_catalogue(merged, declared) == merged
    assert held(without_uploads(merged)) == {"k1": None}


def test_a_catalogue_of_before_is_read_and_a_hash_is_not_shown() -> None:
    packed = msgspec.msgpack.encode({"id": "I", "version": 3, "keys": []})
    assert msgspec.msgpack.decode(packed, type=Catalogue) == EMPTY
    former = {"kid": "k", "alg": "RS256", "public": DERS[0]}
    packed = msgspec.msgpack.encode({"id": "I", "keys": [former]})
    (key,) = msgspec.msgpack.decode(packed, type=Catalogue).keys
    assert (key.uploaded, key.until_ms) == (False, None)
    user = User("ann", "scrypt$secret")
    assert "secret" not in repr(Catalogue(id="I", users=(user,)))
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(user), type=User)
    assert (again, again.roles) == (user, ("ROLE_READ",))
