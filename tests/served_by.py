"""Which server the gateways of a test are served by.

Decided here: what GATEWAY_TEST_SERVER names, or Hypercorn; that a test which is told to be `under`
several runs under each of them; and that all but Hypercorn are for patient runs.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from gateway.web.servers import GRANIAN, HYPERCORN

VARIABLE = "GATEWAY_TEST_SERVER"


def chosen() -> str:
    """Give the name of the server to serve with."""
    return os.environ.get(VARIABLE, HYPERCORN)


def under(*servers: str) -> Callable[[Any], Any]:
    """Run a test under each of some servers, by the fixture `served_by`."""
    names = [
        name if name == HYPERCORN else pytest.param(name, marks=pytest.mark.slow)
        for name in servers
    ]
    each = pytest.mark.parametrize("served_by", names, indirect=True)
    return lambda test: pytest.mark.usefixtures("served_by")(each(test))


under_both = under(HYPERCORN, GRANIAN)

# What is spoken under each of them, as a server and whether it is HTTP/2.
spoken = pytest.mark.parametrize(
    ("served_by", "http2"),
    [
        pytest.param(HYPERCORN, False, id="HTTP/1.1"),
        pytest.param(HYPERCORN, True, id="HTTP/2"),
        pytest.param(GRANIAN, False, id="HTTP/1.1, granian", marks=pytest.mark.slow),
    ],
    indirect=["served_by"],
)
