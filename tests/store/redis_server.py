"""Debian's redis-server, as a server that a user runs: the oldest we take, and one with TLS."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.core.keys import private_pem
from tests.stores.programs import lasting_port
from tests.system.processes import eventually

DURABLE = ("--appendonly", "yes", "--save", "")


@contextmanager
def redis_server(
    directory: Path, *settings: str, tls: bool = False, watched: int = 0
) -> Iterator[str]:
    """Run it with `settings` and give its address; skip without it, but not in CI.

    With `watched` it is a sentinel, of the server at that port, which it calls "main".
    """
    binary = shutil.which("redis-server")
    if binary is None:
        if os.environ.get("CI"):
            pytest.fail("redis-server is not installed")
        pytest.skip("redis-server is not installed")
    directory.mkdir(exist_ok=True)
    port = lasting_port()
    url = f"redis://127.0.0.1:{port}"
    listen = ["--port", str(port)]
    if tls:
        certificate, key = _certificate(directory)
        url = f"rediss://127.0.0.1:{port}?ssl_ca_certs={certificate}"
        listen = ["--port", "0", "--tls-port", str(port), "--tls-auth-clients", "no"]
        listen += ["--tls-cert-file", str(certificate), "--tls-key-file", str(key)]
        listen += ["--tls-ca-cert-file", str(certificate)]
    mode = []
    if watched:
        file = directory / "sentinel.conf"
        file.write_text(f"sentinel monitor main 127.0.0.1 {watched} 1\n")
        mode, settings = [str(file)], (*settings, "--sentinel")
    process = subprocess.Popen(
        [binary, *mode, *listen, "--bind", "127.0.0.1", "--dir", str(directory), *settings],
        stdout=subprocess.DEVNULL,
    )
    try:
        with redis.Redis.from_url(url) as client:
            eventually(lambda: _answers(client))
        yield url
    finally:
        process.kill()
        process.wait()


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except (redis.ConnectionError, redis.TimeoutError):
        return False


def _certificate(directory: Path) -> tuple[Path, Path]:
    """Make a certificate of 127.0.0.1 that signs itself, or take the one that is there."""
    certificate, key_file = directory / "server.pem", directory / "server.key"
    if certificate.exists():
        return certificate, key_file
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, SHA256())
    )
    certificate.write_bytes(built.public_bytes(Encoding.PEM))
    key_file.write_bytes(private_pem(key))
    return certificate, key_file
