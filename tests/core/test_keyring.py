"""The ring of an instance: which key signed, and that every refusal costs alike."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from gateway.core import keyring, keys
from gateway.core.errors import InvalidInput
from gateway.core.jws import Parsed, parse, sign, verify
from gateway.core.keyring import KeyRing, stand_in
from gateway.core.model import RS256_KEYS_MAX, Key

Privates = dict[str, keys.PrivateKey]


@pytest.fixture(scope="module")
def private() -> Privates:
    """Keys by kid: `rs`, `es` and `ed` are the instance's, `rs2` and `stranger` are not."""
    algs = {"rs": "RS256", "es": "ES256", "ed": "EdDSA", "rs2": "RS256", "stranger": "EdDSA"}
    return {kid: keys.generate(alg) for kid, alg in algs.items()}


def record(private: Privates, kid: str) -> Key:
    key = private[kid]
    public = keys.public_der(key.public_key())
    return Key(kid=kid, alg=keys.algorithm_of(key), public=public, forwarder=kid == "ed")


@pytest.fixture(scope="module")
def ring(private: Privates) -> KeyRing:
    return KeyRing(record(private, kid) for kid in ("rs", "es", "ed"))


def signed(key: keys.PrivateKey, kid: str | None) -> Parsed:
    header = {"alg": keys.algorithm_of(key)} | ({} if kid is None else {"kid": kid})
    parsed = parse(sign(header, b"{}", key), max_bytes=1_000)
    assert parsed is not None
    return parsed


def test_a_ring_finds_keys_by_name_and_lists_those_of_tokens(
    private: Privates, ring: KeyRing
) -> None:
    for kid in ("rs", "es", "ed"):
        found = ring.by_kid(kid)
        expected = record(private, kid)
        assert found is not None
        assert found.genuine
        assert (found.kid, found.alg, found.forwarder) == (kid, expected.alg, expected.forwarder)
        assert keys.public_der(found.public) == expected.public
    assert ring.by_kid("rs2") is None
    assert [key.kid for key in ring.rs256()] == ["rs"]
    assert KeyRing().rs256() == ()
    assert KeyRing().by_kid("") is None


def test_a_kid_names_the_only_key_that_is_tried(private: Privates, ring: KeyRing) -> None:
    for signer, key in private.items():
        for kid in ("rs", "es", "ed", "rs2", "other", ""):
            expected = ring.by_kid(kid) if kid == signer else None
            assert ring.signer(signed(key, kid), now_s=0) is expected


def test_without_a_kid_the_rs256_keys_are_tried(private: Privates, ring: KeyRing) -> None:
    both = KeyRing(record(private, kid) for kid in ("rs", "ed", "rs2"))
    for signer, key in private.items():
        expected = both.by_kid(signer) if signer in {"rs", "rs2"} else None
        assert both.signer(signed(key, None), now_s=0) is expected
    assert ring.signer(signed(private["rs2"], None), now_s=0) is None


def test_a_ring_names_all_that_is_wrong_with_its_keys(private: Privates) -> None:
    ed = record(private, "ed").public
    rs = record(private, "rs").public
    with pytest.raises(InvalidInput) as caught:
        KeyRing(
            (
                Key(kid="a", alg="ES256", public=ed),
                Key(kid="b", alg="EdDSA", public=b"junk"),
                Key(kid="c", alg="EdDSA", public=ed),
                Key(kid="c", alg="EdDSA", public=ed),
                *(Key(kid=f"r{i}", alg="RS256", public=rs) for i in range(RS256_KEYS_MAX + 1)),
            )
        )
    problems = caught.value.problems
    assert [problem.partition(":")[0] for problem in problems[:3]] == ["key a", "key b", "key c"]
    assert "at most 4" in problems[3]
    assert len(problems) == 4


@pytest.mark.parametrize("alg", keys.ALGORITHMS)
def test_a_stand_in_is_a_key_like_any_other_of_its_algorithm(alg: str) -> None:
    key = stand_in(alg)
    assert not key.genuine
    assert keys.algorithm_of(keys.load_public(keys.public_der(key.public))) == alg
    if isinstance(key.public, rsa.RSAPublicKey):
        assert key.public.key_size == 2048


def test_a_stand_in_confirms_nothing_even_if_its_key_would_verify(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keyring, "verify", lambda *_: True)
    empty = KeyRing()
    for alg in keys.ALGORITHMS:
        for header in ({"alg": alg}, {"alg": alg, "kid": ""}, {"alg": alg, "kid": "x"}):
            assert empty.signer(Parsed(header, b"{}", b"", b""), now_s=0) is None


def test_a_refusal_costs_the_same_verifications_in_every_ring(
    private: Privates, ring: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[str, int]] = []

    def counted(parsed: Parsed, alg: str, public: keys.PublicKey) -> bool:
        done.append((alg, getattr(public, "key_size", 256)))
        return verify(parsed, alg, public)

    def work(parsed: Parsed, ring: KeyRing) -> list[tuple[str, int]]:
        done.clear()
        assert ring.signer(parsed, now_s=0) is None
        return list(done)

    monkeypatch.setattr(keyring, "verify", counted)
    unknown_instance = KeyRing()
    two_keys = KeyRing([record(private, "rs"), Key("k", "RS256", record(private, "rs").public)])
    once = {"RS256": [("RS256", 2048)], "ES256": [("ES256", 256)], "EdDSA": [("EdDSA", 256)]}
    for signer in ("rs2", "stranger"):
        alg = keys.algorithm_of(private[signer])
        for kid in ("rs", "es", "ed", "other"):  # a bad signature, a wrong alg, an unknown kid
            for each in (ring, two_keys, unknown_instance):
                assert work(signed(private[signer], kid), each) == once[alg]
    for each in (ring, two_keys, unknown_instance):
        assert work(signed(private["rs2"], None), each) == once["RS256"] * RS256_KEYS_MAX
        assert work(signed(private["stranger"], None), each) == []
