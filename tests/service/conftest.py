"""What is opened here waits for its store for as long as a machine may stand still.

Passwords are cheap.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.passwords import cheap_passwords
from tests.vectors.patience import patience


@pytest.fixture(scope="module", autouse=True)
def _patient() -> Iterator[None]:
    with patience(), cheap_passwords():
        yield
