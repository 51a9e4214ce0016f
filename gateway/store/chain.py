"""The key that LicenseSpring's v2 answers are signed with, and the certificates that clients check
it by: files that are named, or made in the data dir.

Decided here: what a made chain is (leaf, intermediate, root, in this order; the two authorities'
keys are thrown away at once), that files which do not belong together are refused, and that what is
there is never made anew: clients have the chain. Not decided here: what is signed
(core/floating_signing.py). Source: protocols/licensespring.md 2.2, INTERFACE 2, RFC 5280.
"""

from __future__ import annotations

import asyncio
import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.core.errors import InvalidInput
from gateway.core.floating_signing import AnswerSigner
from gateway.core.keys import KEY_BYTES_MAX, generate, load_private, private_pem, public_der
from gateway.store.files import write_once
from gateway.store.opening import Store

KEY_FILE: Final = "licensespring-key.pem"
CHAIN_FILE: Final = "licensespring-chain.pem"
CERTIFICATES: Final = 3  # leaf, intermediate, root
KEY_BITS: Final = 2048

_VALID: Final = datetime.timedelta(days=20 * 365)
_BEFORE: Final = datetime.timedelta(days=1)  # clients' clocks
_CHAIN_BYTES_MAX: Final = CERTIFICATES * KEY_BYTES_MAX


async def answer_signer(
    store: Store, key_file: Path | None, chain_file: Path | None, data_dir: Path
) -> AnswerSigner:
    """Give what signs v2 answers; the files are made on first use unless they are named.

    Raises InvalidInput for files that cannot be read or do not belong together, and where nothing
    is named and the store is not embedded: each replica would make its own.
    """
    if (key_file is None) != (chain_file is None):
        raise InvalidInput(
            "licensespring.key_file and licensespring.chain_file belong together; name both or none"
        )
    if key_file is None or chain_file is None:
        if store.embedded is None:
            raise InvalidInput(
                "licensespring.v2 is true and licensespring.key_file names no file: with a store"
                " of its own the gateway makes no key, since every replica has to have the same;"
                " name key_file and chain_file, or say v2 = false"
            )
        key_file, chain_file = data_dir / KEY_FILE, data_dir / CHAIN_FILE
        await asyncio.to_thread(_make, key_file, chain_file)
    return AnswerSigner(await asyncio.to_thread(load_chain, key_file, chain_file))


def load_chain(key_file: Path, chain_file: Path) -> rsa.RSAPrivateKey:
    """Read key and chain and see that they belong together. Raises InvalidInput."""
    key = load_private(_read(key_file))
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size != KEY_BITS:
        raise InvalidInput(f"The key in {key_file} must be one of RSA with {KEY_BITS} bits")
    try:
        chain = x509.load_pem_x509_certificates(_read(chain_file))
    except ValueError:
        raise InvalidInput(f"The file {chain_file} has no certificates in PEM") from None
    if len(chain) != CERTIFICATES:
        raise InvalidInput(
            f"The chain in {chain_file} has {len(chain)} certificates; expected {CERTIFICATES}, in"
            " this order: leaf, intermediate, root"
        )
    leaf, *issuers = chain
    leaf_key = leaf.public_key()
    if not isinstance(leaf_key, rsa.RSAPublicKey) or (
        public_der(leaf_key) != public_der(key.public_key())
    ):
        raise InvalidInput(f"The first certificate of {chain_file} is not of the key in {key_file}")
    for issued, issuer in zip(chain, [*issuers, issuers[-1]], strict=True):
        try:
            issued.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature):
            raise InvalidInput(
                f"The certificates of {chain_file} do not follow from one another; expected leaf,"
                " intermediate, root, in this order"
            ) from None
    return key


def make_chain(key: rsa.RSAPrivateKey, now: datetime.datetime) -> bytes:
    """Make a chain for a key: PEM of leaf, intermediate and root."""
    root_key, middle_key = _rsa(), _rsa()
    root, middle, leaf = (_name(each) for each in ("root", "intermediate", "answers"))
    made = (
        _issue(leaf, key, middle, middle_key, None, now),
        _issue(middle, middle_key, root, root_key, 0, now),
        _issue(root, root_key, root, root_key, 1, now),
    )
    return b"".join(each.public_bytes(Encoding.PEM) for each in made)


def _issue(
    subject: x509.Name,
    key: rsa.RSAPrivateKey,
    issuer: x509.Name,
    issuer_key: rsa.RSAPrivateKey,
    path_length: int | None,  # None: no authority
    now: datetime.datetime,
) -> x509.Certificate:
    authority = path_length is not None
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BEFORE)
        .not_valid_after(now + _VALID)
        .add_extension(x509.BasicConstraints(authority, path_length), critical=True)
        .add_extension(_usage(authority), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
    )
    if not authority:
        # Of an extended usage the node client wants this one.
        server = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        builder = builder.add_extension(server, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _usage(authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _name(what: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"cmapi-gateway {what}")])


def _rsa() -> rsa.RSAPrivateKey:
    key = generate("RS256")
    assert isinstance(key, rsa.RSAPrivateKey)  # noqa: S101 - what that algorithm is
    return key


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            read = file.read(_CHAIN_BYTES_MAX + 1)
    except OSError as error:
        raise InvalidInput(f"The file {path} cannot be read: {error.strerror}") from error
    if len(read) > _CHAIN_BYTES_MAX:
        raise InvalidInput(f"The file {path} has over {_CHAIN_BYTES_MAX} bytes")
    return read


def _make(key_file: Path, chain_file: Path) -> None:
    """Make what is missing, the key first: the chain follows from it, never the other way round."""
    # Looked for in this order: who made both meanwhile made the key before the chain.
    has_chain = chain_file.exists()
    if not key_file.exists():
        if has_chain:
            raise InvalidInput(
                f"There is {chain_file}, but its key {key_file} is gone; put it back, or remove"
                " the chain and give clients the one that is made then"
            )
        write_once(key_file, private_pem(_rsa()), 0o600)
    if not has_chain:
        key = load_private(_read(key_file))
        if isinstance(key, rsa.RSAPrivateKey):  # what else is there is refused when it is loaded
            write_once(chain_file, make_chain(key, datetime.datetime.now(datetime.UTC)), 0o644)
