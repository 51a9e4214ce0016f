"""Why a request was denied, asked at a page by its id."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.vectors.served import Served
from tests.web.ui.looks import EVIL, Looker, at_looker, looks_serving


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    data_dir = tmp_path_factory.mktemp("why")
    with looks_serving(data_dir, EXPLAIN__RETENTION="1h") as opened:
        yield opened


async def _evil_request(looker: Looker, **said: str) -> None:
    """Be denied, under an id that is kept, as a host of an evil name."""
    body = {"hostId": {"type": "string", "value": EVIL}, "features": [{"name": "editor"}]}
    answer = await looker.door.knock(body, said)
    assert answer.status_code == 200, answer.text


def test_a_request_is_explained_by_its_id(served: Served) -> None:
    async def story(looker: Looker) -> None:
        await looker.ask("h1", ("editor", 3))
        await _evil_request(looker, **{"Idempotency-Key": "order/1"})
        page = await looker.page("licences/request?id=order/1")
        assert page.status == 200
        assert "Denied: version 0, asked 1, granted 0. Of 1 asked for there were 0" in page.text
        assert page.table("Its lines")[0][:4] == ["editor", "2.0", "3", "3"]
        assert f"Host string:{EVIL}" in page.text
        assert EVIL not in page.source
        for path in ("", "licences/line?id=editor"):
            assert 'action="/ui/instances/' in (source := (await looker.page(path)).source)
            assert "licences/request" in source

    at_looker(served, story)


def test_a_request_of_which_nothing_is_kept_is_said_to_be_unknown(served: Served) -> None:
    async def story(looker: Looker) -> None:
        page = await looker.page("licences/request?id=%3Cimg+src%3Dx%3E%C3%A9")
        assert page.status == 404
        assert "Nothing is kept of this request" in page.text
        assert "<img" not in page.source
        assert (await looker.page("licences/request")).status == 200
        assert (await looker.page(f"licences/request?id={'x' * 256}")).status == 400

    at_looker(served, story)


def test_where_requests_are_not_kept_that_is_said_instead_of_a_form(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    async def story(looker: Looker) -> None:
        for path in ("", "licences/line?id=editor", "licences/request"):
            page = await looker.page(path)
            assert "explain.retention of this gateway is 0" in page.text
            assert 'name="id"' not in page.source

    with looks_serving(tmp_path_factory.mktemp("unkept")) as unkept:
        at_looker(unkept, story)
