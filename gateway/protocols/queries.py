"""The query of a read: a few known names, each once; all others are unknown, and let be.

Decided here: how a query is spelled and bounded, and that a name alone has an empty value, which
the rule of a known one refuses; so a trailing `&` is nothing. Not decided here: which names a path
knows and what their values mean.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final
from urllib.parse import parse_qsl

from gateway.core.errors import BadRequest

QUERY_BYTES_MAX: Final = 2_048
FIELDS_MAX: Final = 16


def read_query(query: bytes, known: Collection[str]) -> dict[str, str]:
    """Give the `known` members of a query. Raises BadRequest for one given twice, or for what
    cannot be read: more than QUERY_BYTES_MAX or FIELDS_MAX, or no UTF-8. Pure.
    """
    found: dict[str, str] = {}
    try:
        if len(query) > QUERY_BYTES_MAX:
            raise ValueError("too long")
        pairs = parse_qsl(
            query.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=FIELDS_MAX,
        )
    except ValueError:
        raise BadRequest("The query cannot be read", "query") from None
    for name, value in pairs:
        if name not in known:
            continue
        if name in found:
            raise BadRequest(f"{name} is given twice", name)
        found[name] = value
    return found
