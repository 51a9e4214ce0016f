"""What a version is and when two of them are the same.

Decided here: the spelling of a version, and that versions are compared number by number with
missing parts being 0, so that `1`, `1.0` and `01.0.0` are one version. Not decided here: which line
serves which version (catalogue.py). Source: SEMANTICS 2.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

VERSION_BYTES_MAX: Final = 32
ANY_VERSION: Final = "0"  # lower than or equal to every version, so every line serves it

_MEMO_MAX: Final = 4096
_SPELLING: Final = re.compile(r"[0-9]+(?:\.[0-9]+)*")  # not \d: it takes digits of every script


def is_version(text: str) -> bool:
    """Say whether a text is dotted digits of at most VERSION_BYTES_MAX bytes."""
    # Measured before it is looked up: the memo must not keep what a hostile body is full of.
    return len(text) <= VERSION_BYTES_MAX and _is_dotted_digits(text)


@lru_cache(_MEMO_MAX)
def version_key(text: str) -> tuple[int, ...]:
    """Give what versions are ordered and told apart by: their numbers without trailing zeros.

    `text` is a version by `is_version`, else ValueError. Version 0 is the empty tuple.
    """
    numbers = [int(part) for part in text.split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


@lru_cache(_MEMO_MAX)
def canonical_version(text: str) -> str:
    """Spell a version the one way that stands for all: `01.20.0` is `1.20`, every zero is `0`."""
    return ".".join(map(str, version_key(text))) or ANY_VERSION


@lru_cache(_MEMO_MAX)
def _is_dotted_digits(text: str) -> bool:
    return _SPELLING.fullmatch(text) is not None
