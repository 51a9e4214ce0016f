"""Fixtures of tests all over the house: places where a store may be.

Several workers run the tests, a file at a time each (`-n 0`: one process, as a debugger wants it).
What injects faults starts many processes and watches the clock: one worker does all of it, one
after another.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler.loadscope import LoadScopeScheduling

from tests.served_by import VARIABLE
from tests.stores.clusters import Cluster
from tests.stores.homes import Home, emptied

# httpcore looks for it several times in each request. Where it is not, looking everywhere costs as
# much as the request.
if find_spec("sniffio") is None:
    sys.modules["sniffio"] = None  # type: ignore[assignment]

# An example takes as long as it takes: the machine may stand still in the middle of it.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


class OneFaultAtATime(LoadScopeScheduling):
    """Gives a worker a file at a time, and one of them all files of tests/faults."""

    def _split_scope(self, nodeid: str) -> str:
        return "faults" if nodeid.startswith("tests/faults/") else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Give the one who hands the tests out."""
    return OneFaultAtATime(config, log)


@pytest.fixture
def served_by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The server that the gateways of a test are served by (served_by.py)."""
    name: str = request.param
    monkeypatch.setenv(VARIABLE, name)
    return name


_WHERE = ["embedded", pytest.param("cluster", marks=pytest.mark.slow)]


@pytest.fixture(scope="session")
def three_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster in which nothing goes wrong; every write reaches the disk at once."""
    directory = tmp_path_factory.mktemp("three-nodes")
    with Cluster(directory, replicas=0, appendfsync="always") as cluster:
        yield cluster


@pytest.fixture(params=_WHERE)
def home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """An empty store of a test's own."""
    return _home(request, tmp_path_factory)


@pytest.fixture(scope="module", params=_WHERE)
def shared_home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """An empty store that the tests of a module share, each with instances of its own."""
    return _home(request, tmp_path_factory)


def _home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Home:
    data_dir = tmp_path_factory.mktemp("home")
    if request.param == "embedded":
        return Home(data_dir)
    return Home(data_dir, emptied(request.getfixturevalue("three_nodes")))
