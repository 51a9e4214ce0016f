"""Passwords at a price that thousands of tests can pay.

Decided here: that scrypt is done at the least cost there is where gateways are opened in the test's
own process. What is kept still names its full cost, is judged by the same bounds, and verifies with
what it was hashed by. What the price is, and that everybody pays it, is for core/test_passwords.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from gateway.core import passwords

LEAST_N = 2


@contextmanager
def cheap_passwords() -> Iterator[None]:
    """Hash and verify at the least cost; what was hashed elsewhere does not verify meanwhile."""

    def scrypt(n: int, p: int, salt: bytes) -> Scrypt:
        return Scrypt(salt=salt, length=passwords.HASH_BYTES, n=LEAST_N, r=1, p=1)

    with mock.patch.object(passwords, "_scrypt", scrypt):
        yield
