"""The key of version 2's answers and its chain: made once, refused when they do not fit together.

What a chain must be is judged by arithmetic of our own and, where it is installed, by openssl.
"""

from __future__ import annotations

import asyncio
import base64
import datetime
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.core.errors import InvalidInput
from gateway.core.floating_signing import AnswerSigner
from gateway.core.keys import generate, private_pem
from gateway.store import chain
from gateway.store.chain import CHAIN_FILE, KEY_FILE, answer_signer, load_chain, make_chain
from gateway.store.opening import Store
from tests.licensespring.signatures import problems_of, read_chain


class Made:
    """A key and its chain, made once for all tests."""

    def __init__(self, directory: Path) -> None:
        chain._make(directory / KEY_FILE, directory / CHAIN_FILE)
        self.key, self.chain = directory / KEY_FILE, directory / CHAIN_FILE


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("chain"))


def test_a_made_chain_is_what_clients_take(made: Made) -> None:
    certificates = read_chain(made.chain.read_text())
    assert problems_of(certificates) == []
    signer = AnswerSigner(load_chain(made.key, made.chain))
    body = '{"name":"Zoë"}'.encode()
    signature = base64.b64decode(signer.sign(body))
    assert certificates[0].key.verifies(signature, body)
    assert not certificates[0].key.verifies(signature, body + b"\n")
    assert signer.sign(body) == signer.sign(body)
    assert made.key.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_takes_chain_and_signature(made: Made, tmp_path: Path) -> None:
    pems = [f"{each}-----END CERTIFICATE-----\n" for each in
            made.chain.read_text().split("-----END CERTIFICATE-----\n")[:3]]  # fmt: skip
    leaf, middle, root = (tmp_path / name for name in ("leaf", "middle", "root"))
    for path, pem in zip((leaf, middle, root), pems, strict=True):
        path.write_text(pem)
    body, signature, public = (tmp_path / name for name in ("body", "signature", "public"))
    body.write_bytes(b'{"id":77}')
    signer = AnswerSigner(load_chain(made.key, made.chain))
    signature.write_bytes(base64.b64decode(signer.sign(b'{"id":77}')))

    def openssl(*arguments: str | Path) -> str:
        ran = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, check=True)
        return ran.stdout.decode()

    verify = ("verify", "-purpose", "sslserver", "-x509_strict", "-CAfile", root)
    assert "OK" in openssl(*verify, "-untrusted", middle, leaf)
    public.write_text(openssl("x509", "-in", leaf, "-pubkey", "-noout"))
    dgst = ("dgst", "-sha256", "-verify", public, "-signature", signature, body)
    assert openssl(*dgst).strip() == "Verified OK"


def test_what_is_there_is_never_made_anew(made: Made) -> None:
    before = made.key.read_bytes(), made.chain.read_bytes()
    chain._make(made.key, made.chain)
    assert (made.key.read_bytes(), made.chain.read_bytes()) == before


def test_a_chain_is_made_for_the_key_that_is_there(made: Made, tmp_path: Path) -> None:
    key = tmp_path / KEY_FILE
    key.write_bytes(made.key.read_bytes())
    with ThreadPoolExecutor(1) as threads:
        threads.submit(chain._make, key, tmp_path / CHAIN_FILE).result()
    assert load_chain(key, tmp_path / CHAIN_FILE)


def test_a_chain_whose_key_is_gone_is_not_replaced(made: Made, tmp_path: Path) -> None:
    left = tmp_path / CHAIN_FILE
    left.write_bytes(made.chain.read_bytes())
    with pytest.raises(InvalidInput, match=r"its key .* is gone; put it back"):
        chain._make(tmp_path / KEY_FILE, left)
    assert not (tmp_path / KEY_FILE).exists()


def _with_another_above(key: rsa.RSAPrivateKey) -> bytes:
    """Make three certificates of which the last one is not its own issuer."""
    now = datetime.datetime.now(datetime.UTC)
    names = [chain._name(each) for each in ("leaf", "middle", "upper", "root")]
    keys = [key, *(chain._rsa() for _ in range(3))]
    made = [
        chain._issue(names[at], keys[at], names[at + 1], keys[at + 1], at or None, now)
        for at in range(3)
    ]
    return b"".join(each.public_bytes(Encoding.PEM) for each in made)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("no key", "cannot be read: No such file"),
        ("no chain", "cannot be read: No such file"),
        ("another kind", "must be one of RSA with 2048 bits"),
        ("garbage", "has no certificates in PEM"),
        ("leaf alone", "has 1 certificates; expected 3"),
        ("another key", "is not of the key"),
        ("turned round", "is not of the key"),
        ("swapped", "do not follow from one another"),
        ("no root", "do not follow from one another"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(
    made: Made, tmp_path: Path, what: str, said: str
) -> None:
    end = "-----END CERTIFICATE-----\n"
    leaf, middle, root, _ = made.chain.read_text().split(end)
    other = tmp_path / "other.pem"
    key, pems = made.key, tmp_path / "chain.pem"
    pems.write_text(made.chain.read_text())
    match what:
        case "no key":
            key = tmp_path / "none.pem"
        case "no chain":
            pems = tmp_path / "none.pem"
        case "another kind":
            other.write_bytes(private_pem(generate("EdDSA")))
            key = other
        case "garbage":
            pems.write_text("hello")
        case "leaf alone":
            pems.write_text(leaf + end)
        case "another key":
            other.write_bytes(private_pem(generate("RS256")))
            key = other
        case "turned round":
            pems.write_text(end.join((root, middle, leaf, "")))
        case "no root":
            pems.write_bytes(_with_another_above(load_chain(made.key, made.chain)))
        case "swapped":
            pems.write_text(end.join((leaf, root, middle, "")))
    with pytest.raises(InvalidInput, match=said):
        load_chain(key, pems)


class _Elsewhere:
    """A store that is not the gateway's own."""

    embedded = None


def test_with_another_store_and_no_file_the_start_is_refused_in_a_sentence(tmp_path: Path) -> None:
    store: Store = _Elsewhere()  # type: ignore[assignment]
    for key, said in ((None, "licensespring.v2 is true"), (tmp_path / "k", "belong together")):
        with pytest.raises(InvalidInput, match=said):
            asyncio.run(answer_signer(store, key, None, tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_named_files_are_taken_with_any_store(made: Made, tmp_path: Path) -> None:
    store: Store = _Elsewhere()  # type: ignore[assignment]
    signer = asyncio.run(answer_signer(store, made.key, made.chain, tmp_path))
    assert signer.sign(b"x")


def test_no_key_is_shown(made: Made) -> None:
    key = load_chain(made.key, made.chain)
    assert isinstance(key, rsa.RSAPrivateKey)
    shown = repr(AnswerSigner(key))
    assert str(key.private_numbers().d) not in shown
    assert make_chain(key, datetime.datetime.now(datetime.UTC)) != made.chain.read_bytes()
