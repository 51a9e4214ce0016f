"""What tests of the way in share: a gateway for each file, and a clock that can be put ahead.

Files about pages open gateways of their own, as they want them.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.vectors.served import Served
from tests.web.doors import Ahead, clock_serving


@pytest.fixture(scope="module")
def clocked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Ahead]]:
    """Serve it."""
    with clock_serving(tmp_path_factory.mktemp("pages")) as opened:
        yield opened


@pytest.fixture
def ahead(clocked: tuple[Served, Ahead]) -> Iterator[Ahead]:
    """Give its clock, which is set right after the test."""
    yield clocked[1]
    clocked[1].s = 0.0


@pytest.fixture
def served(clocked: tuple[Served, Ahead]) -> Served:
    """Give the gateway."""
    return clocked[0]
