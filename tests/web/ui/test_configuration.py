"""Configuration: what an instance is, its policies, its provisioning in two steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.core.model import Attachment, FloatingLicense, Role
from gateway.service.provisioning import TEXT_BYTES_MAX
from tests.vectors.served import Served
from tests.web.doors import door_serving
from tests.web.ui.forms import forms_of
from tests.web.ui.visitors import XSS, XSS_IN_QUOTES, Visit, at_visitor, is_escaped, text_of

BOTH = (Role.READ, Role.ADMIN)
PROVISIONING = "configuration/provisioning"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with door_serving(tmp_path_factory.mktemp("configuration")) as opened:
        yield opened


def text(instance: str, name: str = "", count: int = 7, more: str = "") -> str:
    return f"""
[[instance]]
id = "{instance}"
name = {name!r}
{more}
  [[instance.line]]
  id = "N1"
  feature = "sessions"
  version = "1.0"
  model = "metered"
  count = {count}
"""


async def preview(ann: Visit, said: str, **more: Any) -> Any:
    return await ann.send(PROVISIONING, PROVISIONING, text=said, **more)


def test_an_instance_tells_what_it_is(served: Served) -> None:
    async def story(ann: Visit) -> None:
        await ann.put(name=XSS, upstreams=(Attachment("up"),))
        answer = await ann.get("configuration")
        assert is_escaped(answer.text)
        page = text_of(answer)
        now = await ann.catalogue()
        assert ann.door.instance in page
        assert f"{now.version}: so often" in page
        assert "up Forwarding" in page
        assert "3 client keys are trusted" in page
        assert "a user needs ROLE_ADMIN" in page
        assert "Change the policies" not in page
        for line in now.lines:
            assert f"licences/line?id={line.id}" in answer.text

    at_visitor(served, story)


def test_policies_are_changed_by_a_form(served: Served) -> None:
    async def story(ann: Visit) -> None:
        sent = await ann.send(
            "configuration",
            "configuration",
            borrow_interval="2d",
            borrow_interval_max="9d",
            require_signed_payload="1",
            require_exp=[],
        )
        assert "The policies are changed." in await ann.follow(sent)
        now = await ann.catalogue()
        assert (now.borrow_ms, now.borrow_max_ms) == (2 * 86_400_000, 9 * 86_400_000)
        assert (now.require_signed_payload, now.require_exp) == (True, False)

    at_visitor(served, story, *BOTH)


@pytest.mark.parametrize("wrong", ["", "soon", "0d", XSS])
def test_a_wrong_policy_changes_nothing_and_is_shown_again(served: Served, wrong: str) -> None:
    async def story(ann: Visit) -> None:
        before = await ann.catalogue()
        answer = await ann.send("configuration", "configuration", borrow_interval=wrong)
        assert answer.status_code == 400
        assert "licensing.borrowInterval" in text_of(answer)
        assert is_escaped(answer.text)
        assert await ann.catalogue() == before

    at_visitor(served, story, *BOTH)


def test_what_a_file_would_change_is_shown_and_then_applied(served: Served) -> None:
    async def story(ann: Visit) -> None:
        before = await ann.catalogue()
        shown = await preview(ann, text(before.id, "New name"))
        page = text_of(shown)
        assert "name" in page
        assert "line N1: feature sessions" in page
        assert await ann.catalogue() == before  # nothing yet
        sheet = _apply_sheet(shown.text, ann)
        done = await ann.send_sheet(sheet)
        assert f"at version {before.version + 1}." in await ann.follow(done)
        now = await ann.catalogue()
        assert now.name == "New name"
        assert {"N1"} == {line.id for line in now.lines if not line.retired}
        assert now.keys == before.keys
        assert now.users == before.users
        again = await preview(ann, text(before.id, "New name"))
        assert "there is nothing to change" in text_of(again)
        repeated = await ann.send_sheet(sheet)  # a double click
        assert repeated.status_code == 303
        assert await ann.catalogue() == now

    at_visitor(served, story, *BOTH)


def test_a_line_is_added_to_what_is_provisioned_and_nothing_else_is_changed(served: Served) -> None:
    async def story(ann: Visit) -> None:
        now = await ann.catalogue()
        sold = FloatingLicense(license_id=7, product="P", feature="s", license_key="KEY-82")
        lines = (replace(now.lines[0], notice=XSS, licensespring=sold), *now.lines[1:])
        await ann.put(name=XSS_IN_QUOTES, upstreams=(Attachment("up"),), lines=lines)
        before = await ann.catalogue()
        opened = await ann.get(PROVISIONING)
        assert is_escaped(opened.text)
        assert "KEY-82" not in opened.text
        text = (await ann.form(PROVISIONING, PROVISIONING)).text("text")
        assert "there is nothing to change" in text_of(await preview(ann, text))
        example = text.partition("# To add a line")[2].splitlines()[1:]
        added = "\n".join(row.removeprefix("#") for row in example)
        shown = await preview(ann, f"{text}\n{added}")
        assert "line L9: feature sessions" in text_of(shown)
        assert "retired" not in text_of(shown).replace("retired or removed", "")
        assert "KEY-82" not in shown.text
        await ann.follow(await ann.send_sheet(_apply_sheet(shown.text, ann)))
        after = await ann.catalogue()
        assert [line for line in after.lines if line.id != "L9"] == list(before.lines)
        assert replace(after, version=0, lines=()) == replace(before, version=0, lines=())

    at_visitor(served, story, *BOTH)


def test_a_file_is_taken_as_a_text_is(served: Served) -> None:
    async def story(ann: Visit) -> None:
        data = text(ann.door.instance, "From a file").encode()
        shown = await preview(ann, "", files={"file": ("demo.toml", data)})
        assert "From a file" in text_of(shown)
        wrong = await preview(ann, "kept", files={"file": ("demo.toml", b"\xff\xfe")})
        assert (wrong.status_code, "not UTF-8" in text_of(wrong)) == (400, True)

    at_visitor(served, story, *BOTH)


def test_a_text_as_large_as_may_be_is_applied_as_it_was_shown(served: Served) -> None:
    async def story(ann: Visit) -> None:
        said = text(ann.door.instance, "Large")
        said += '#"[]\n' * ((TEXT_BYTES_MAX - len(said)) // 5)  # each sign takes three when encoded
        shown = await preview(ann, "", files={"file": ("demo.toml", said.encode())})
        assert shown.status_code == 200, text_of(shown)
        sheet = _apply_sheet(shown.text, ann)
        assert f'action="{sheet.action}" enctype="multipart/form-data"' in shown.text
        parts = [(name, (None, value)) for name, value in sheet.fields]
        done = await ann.http.post(sheet.action, files=parts)
        assert done.status_code == 303, text_of(done)
        assert (await ann.catalogue()).name == "Large"
        more = await preview(ann, "", files={"file": ("demo.toml", said.encode() + b"#" * 9)})
        assert (more.status_code, "a page takes at most" in text_of(more).lower()) == (400, True)

    at_visitor(served, story, *BOTH)


def test_what_is_applied_is_what_was_shown_or_nothing(served: Served) -> None:
    async def story(ann: Visit) -> None:
        shown = await preview(ann, text(ann.door.instance, "Mine"))
        await ann.put(name="Somebody else's")
        between = await ann.catalogue()
        answer = await ann.send_sheet(_apply_sheet(shown.text, ann))
        assert answer.status_code == 409
        assert "changed this instance meanwhile" in text_of(answer)
        assert "Somebody else" in text_of(answer)  # shown anew, against what is there now
        assert await ann.catalogue() == between
        done = await ann.send_sheet(_apply_sheet(answer.text, ann))
        assert done.status_code == 303
        assert (await ann.catalogue()).name == "Mine"

    at_visitor(served, story, *BOTH)


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("", "Choose a file"),
        ("[[instance", "not TOML"),
        (text("OTHER"), "can be declared here"),
        (text("{id}", more="default = true"), "default"),
        (text("{id}", count=-1), "count"),
        (text("{id}") + '\n[[instance.key]]\nkid="k"\npublic_file="/etc/passwd"\n', "keys stay"),
        (text("{id}", XSS_IN_QUOTES, more="wrong = 1"), "wrong"),
    ],
)
def test_a_text_that_will_not_do_is_refused_and_kept(
    served: Served, said: str, sentence: str
) -> None:
    async def story(ann: Visit) -> None:
        before = await ann.catalogue()
        typed = said.replace("{id}", before.id)
        answer = await preview(ann, typed)
        assert answer.status_code == 400
        assert sentence in text_of(answer)
        assert is_escaped(answer.text)
        sheet = next(each for each in _sheets(answer.text) if each.text("text") or not typed)
        assert typed.strip() == sheet.text("text").strip()
        assert await ann.catalogue() == before
        forced = await ann.post(
            f"{PROVISIONING}/apply", text=typed, version=str(before.version), xsrf=await ann.xsrf()
        )
        assert forced.status_code == 400
        assert await ann.catalogue() == before

    at_visitor(served, story, *BOTH)


def test_waiting_usage_is_given_up_by_a_tick_and_a_reason_only(served: Served) -> None:
    async def story(ann: Visit) -> None:
        lines = tuple(replace(line, number=0) for line in (await ann.catalogue()).lines)
        await ann.put(upstreams=(Attachment("up"),), lines=lines)
        await ann.ask("h1", ("sessions", 3))
        before = await ann.catalogue()
        shown = await preview(ann, text(before.id))
        assert "Give up 3 units for up" in text_of(shown)
        sheet = _apply_sheet(shown.text, ann)
        for said in ({}, {"why": "because"}, {"discard": "up"}, {"discard": "up", "why": " "}):
            refused = await ann.send_sheet(sheet, **said)
            assert refused.status_code == 409, said
            assert await ann.catalogue() == before
        done = await ann.send_sheet(sheet, discard="up", why="agreed with the vendor")
        assert done.status_code == 303, text_of(done)
        assert (await ann.catalogue()).upstreams == ()
        keys = served.catalogues.keys(before.id)
        [(_, entry)] = await served.store.xrange(keys.record)
        assert (f"ann@{before.id}".encode(), b"agreed with the vendor") == (
            entry[b"who"],
            entry[b"why"],
        )

    at_visitor(served, story, *BOTH)


def test_only_an_administrator_provisions_or_changes_policies(served: Served) -> None:
    async def story(ann: Visit) -> None:
        before = await ann.catalogue()
        xsrf = await ann.xsrf()
        assert (await ann.get(PROVISIONING)).status_code == 403
        said = {"text": text(before.id), "version": str(before.version)}
        for action in ("configuration", PROVISIONING, f"{PROVISIONING}/apply"):
            assert (await ann.post(action, xsrf=xsrf, **said)).status_code == 403
        bob = await ann.join("bob", *BOTH)
        before = await ann.catalogue()
        for action in ("configuration", PROVISIONING, f"{PROVISIONING}/apply"):
            for forged in ("", xsrf):
                assert (await bob.post(action, xsrf=forged, **said)).status_code == 403
        assert await ann.catalogue() == before

    at_visitor(served, story)


def _sheets(page: str) -> Any:
    return forms_of(page)


def _apply_sheet(page: str, ann: Visit) -> Any:
    action = ann.path(f"{PROVISIONING}/apply")
    return next(each for each in _sheets(page) if each.action == action)
