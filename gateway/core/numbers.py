"""Whole numbers that stand for names where CMAPI's reads want an `id`.

Decided here: the number of a host, and of what a host has of a line; both follow from the names
alone, so that every replica says the same and nothing is kept for them. Not decided here: the
number of a line, which is given when it is first applied (core/provisioning_change.py).
Source: protocols/cmapi.md 3.4.
"""

from __future__ import annotations

import hashlib
from typing import Final

NUMBER_BITS: Final = 52  # exact in every JSON reader; a million hosts meet with odds of 1 : 9,000

NUMBER_MAX: Final = 2**NUMBER_BITS - 1


def client_number(host: str) -> int:
    """Give the number of a host, in its canonical form `TYPE:value`; at least 1. Pure."""
    return _number(host)


def served_number(line: str, host: str) -> int:
    """Give the number of what a host, in canonical form, has of a line; at least 1. Pure."""
    return _number(f"{line}\x1f{host}")


def _number(name: str) -> int:
    digest = hashlib.sha256(name.encode()).digest()
    return max(1, int.from_bytes(digest[:8], "big") >> (64 - NUMBER_BITS))
