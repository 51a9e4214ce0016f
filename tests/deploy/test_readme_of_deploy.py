"""What deploy/README.md tells people to type is there: commands, options, files and settings."""

from __future__ import annotations

import re
import shlex
from functools import cache

import click
import pytest

from gateway.cli import main
from gateway.config import SETTINGS
from gateway.store.keys import LAYOUT_VERSION
from tests.deploy.files import DEPLOY
from tests.deploy.told import INSTALLATIONS, README, calls, expanded

CALLS = calls()
# Without a helper in front: what stands in the installation's first steps, and in units.
PLAIN = sorted(set(re.findall(r"(?<![\w/-])cmapi-gateway ([a-z][a-z]+ [^`\n;|]*)", README)))


@cache
def words_of(installation: str) -> dict[str, list[str]]:
    return dict(zip(CALLS, expanded(installation, CALLS), strict=True))


def parse(words: list[str]) -> None:
    """Have click read what a command is given, as it would before it is run. Raises UsageError."""
    command: click.Command = main
    context = click.Context(command)
    while isinstance(command, click.Group):
        _, words, _ = command.make_parser(context).parse_args(list(words))
        if not words:
            return
        _, found, words = command.resolve_command(context, words)
        assert found is not None
        command, context = found, click.Context(found, parent=context)
    command.make_context(command.name, list(words), parent=context.parent)


@pytest.mark.parametrize("installation", INSTALLATIONS)
@pytest.mark.parametrize("call", CALLS)
def test_every_call_is_taken_as_the_helper_hands_it_over(installation: str, call: str) -> None:
    words = words_of(installation)[call]
    assert words[: len(shlex.split(call)) - 1] == shlex.split(call)[1:]
    assert "--config" in words
    parse(words)


@pytest.mark.parametrize("call", PLAIN)
def test_every_command_without_a_helper_is_taken(call: str) -> None:
    parse(shlex.split(call.rstrip(",.:")))


@pytest.mark.parametrize(
    "call", ["keys --config FILE list ID", "keys add ID", "verify --deeply", "forget ID"]
)
def test_what_is_not_taken_is_found(call: str) -> None:
    """As options of a group that has none, ahead of its command."""
    with pytest.raises(click.UsageError):
        parse(call.split())


def test_enough_is_told_to_be_worth_looking() -> None:
    assert len(CALLS) > 20
    assert {call.split()[0] for call in CALLS} == {"gw", "gw_off"}


def test_every_file_that_is_linked_or_listed_is_there() -> None:
    linked = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", README)
    table = README.partition("| file | is |")[2].partition("\n\n")[0]
    listed = [name for row in re.findall(r"^\| (.+?) \|", table, re.M) for name in _quoted(row)]
    missing = [name for name in (*linked, *listed) if not (DEPLOY / name).exists()]
    assert listed
    assert missing == []


def test_every_setting_that_is_named_is_one() -> None:
    sections = {name.split(".")[0] for name in SETTINGS}
    spelt = re.compile(rf"(?:{'|'.join(sections)})\.[a-z_]+")
    named = {name for name in _quoted(README) if spelt.fullmatch(name)} - {"signing.pem"}
    assert len(named) > 8
    assert named - set(SETTINGS) == set()


def test_the_layout_version_is_the_one_in_force() -> None:
    assert f"`layout … version {LAYOUT_VERSION}`" in README


def _quoted(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", text)
