"""What tests in a browser share: a gateway that has been lived in, one for each worker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browser.site import Site, site_standing


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Serve it; a test that changes something changes what no other one looks at."""
    with site_standing(tmp_path_factory.mktemp("site")) as standing:
        yield standing


@pytest.fixture
def fresh_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Serve one of a test's own, for changes that others would see."""
    with site_standing(tmp_path_factory.mktemp("fresh-site")) as standing:
        yield standing
