"""Request ids: of one form, and never given twice."""

from __future__ import annotations

import re

import pytest

from gateway.web import request_ids
from gateway.web.request_ids import RequestIds


def test_an_id_is_22_characters_of_base64url() -> None:
    ids = RequestIds()
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{22}", ids.next()) for _ in range(1000))


def test_no_id_comes_twice_from_one_source_or_from_two() -> None:
    sources = [RequestIds(), RequestIds()]
    given = [source.next() for source in sources for _ in range(1000)]
    assert len(set(given)) == len(given)


def test_a_prefix_that_is_used_up_is_followed_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_ids, "COUNT_MAX", 4)
    ids = RequestIds()
    ids._count = 4
    given = [ids.next() for _ in range(9)]
    assert len(set(given)) == 9
    assert len({each[:16] for each in given}) == 3
