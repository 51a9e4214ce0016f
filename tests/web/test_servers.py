"""Servers by name: which there are, and what is said of one that is not there."""

from __future__ import annotations

import importlib.util

import pytest

from gateway.core.errors import InvalidInput
from gateway.web import servers
from gateway.web.servers import GRANIAN, HYPERCORN, NAMES, check_server


@pytest.mark.parametrize("name", NAMES)
def test_what_is_installed_can_be_served_with(name: str) -> None:
    check_server(name)


def test_a_server_that_is_not_installed_is_asked_for_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(servers, "find_spec", lambda name: None if name == GRANIAN else real(name))
    check_server(HYPERCORN)
    with pytest.raises(InvalidInput) as refused:
        check_server(GRANIAN)
    assert refused.value.problems == (
        "--server granian needs the package granian: pip install 'cmapi-gateway[granian]'",
    )


def test_a_server_that_is_none_is_refused_with_those_that_are() -> None:
    with pytest.raises(InvalidInput, match="expected one of hypercorn, granian"):
        check_server("apache")
