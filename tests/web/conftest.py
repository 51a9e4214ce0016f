"""Here passwords are cheap: hundreds of tests log in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.passwords import cheap_passwords


@pytest.fixture(scope="module", autouse=True)
def _cheap() -> Iterator[None]:
    with cheap_passwords():
        yield
