"""Logging: one stream on stderr, for people or as JSON, that never holds a secret or a body.

Decided here: form, level, what is blotted out, and that the libraries' own loggers end up in the
same stream, at warning and above only: below it httpx tells whole addresses, and the HTTP codecs
tell headers. Not decided: what is worth a line. Source: INTERFACE 2, RELIABILITY 3.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from typing import Any, Final

import structlog
from structlog.typing import EventDict, Processor

LEVELS: Final[Mapping[str, int]] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
BLOT: Final = "***"

# A JWS in compact form, what follows "Bearer", and user and password of an address.
_SECRET: Final = re.compile(
    r"\beyJ[\w-]*\.[\w-]*\.[\w-]*|(?<=[Bb]earer )\S+|(?<=://)[^/@\s]+(?=@)"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    re.DOTALL,
)
_SECRET_NAMES: Final = frozenset(
    {"authorization", "body", "cookie", "key", "password", "private", "secret", "token"}
)


def set_up(level: str, format_: str, *, worker: int | None = None) -> None:
    """Send all logging of this process to stderr; `level` and `format_` are those of `[log]`.

    `worker` is the number of this worker, shown on each line. May be repeated; the last call wins.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if worker is not None:
        shared.append(_numbered(worker))
    # Before the blot: an exception's text is as likely to quote a secret as the event is.
    shared += [structlog.processors.format_exc_info, _blot]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _renderer(format_),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(LEVELS[level], logging.WARNING))
    logging.getLogger("gateway").setLevel(LEVELS[level])


def _renderer(format_: str) -> Processor:
    if format_ == "json":
        return structlog.processors.JSONRenderer()
    # Not the default for exceptions, which shows the local variables, bodies and keys among them.
    return structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )


def _numbered(worker: int) -> Processor:
    def number(_logger: Any, _method: str, event: EventDict) -> EventDict:
        event["worker"] = worker
        return event

    return number


def _blot(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Blot out what is named like a secret and what looks like one; only the top level is seen."""
    for name, value in event.items():
        if name in _SECRET_NAMES:
            event[name] = BLOT
        elif isinstance(value, str):
            event[name] = _SECRET.sub(BLOT, value)
    return event
