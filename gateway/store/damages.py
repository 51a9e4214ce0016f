"""Whether a read failed because of what is kept, or because of the store it is kept in.

Decided here: a server that answers with an error, or with what cannot be decoded, tells of that one
instance: its books are damaged, and those of the others can be read. That a connection is lost,
that another node has the key, or that the store refuses whatever it is asked (it is busy, loads,
lets nobody in) tells nothing of it. Not decided here: what whoever reads does then
(service/lookout.py, cli/verify.py). Source: RELIABILITY 1 (I3).
"""

from __future__ import annotations

from typing import Final

import msgspec
from redis.exceptions import ResponseError

from gateway.core.errors import Unavailable
from gateway.store.scripts import refused

TOLD_MAX: Final = 200  # characters of why that are repeated

_DECODING: Final = (msgspec.MsgspecError, ValueError, LookupError, TypeError)


def is_damage(error: Exception) -> bool:
    """Say whether what was to be read is at fault."""
    cause = _cause(error)
    if isinstance(cause, ResponseError):
        return not refused(cause)
    return isinstance(cause, _DECODING)


def describe(error: Exception) -> str:
    """Say what is wrong, in the store's words if it said so; never what is kept there."""
    cause = _cause(error)
    if isinstance(cause, ResponseError):
        return str(cause)[:TOLD_MAX].rstrip(".")
    return f"what is kept is not what was written ({type(cause).__name__})"


def _cause(error: Exception) -> BaseException:
    """Give what an error of ours was raised from."""
    return error.__cause__ or error if isinstance(error, Unavailable) else error
