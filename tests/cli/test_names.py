"""A name may begin with a dash: kids are base64url, ids and people's names are what they are."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from gateway.cli import COMMANDS, main
from gateway.cli.names import Named
from gateway.cli.options import run


def leaves(command: click.Command, path: str) -> list[tuple[str, click.Command]]:
    """List the commands below one that do something themselves."""
    if not isinstance(command, click.Group):
        return [(path, command)]
    ctx = click.Context(command)
    below = [(name, command.get_command(ctx, name)) for name in command.list_commands(ctx)]
    return [leaf for name, each in below if each for leaf in leaves(each, f"{path} {name}")]


@click.command(cls=Named)
@click.argument("instance")
@click.argument("name", required=False)
@click.option("--kid")
@click.option("--force", is_flag=True)
def told(**given: str | None) -> None:
    """Tell what was understood."""
    click.echo(" ".join(f"{name}={value}" for name, value in sorted(given.items())))


@pytest.mark.parametrize(
    ("typed", "understood"),
    [
        ("I -1t38ySuixbYag", "force=False instance=I kid=None name=-1t38ySuixbYag"),
        ("-I -hd --force", "force=True instance=-I kid=None name=-hd"),
        ("--kid -k I", "force=False instance=I kid=-k name=None"),
        ("--kid --k I --force -x", "force=True instance=I kid=--k name=-x"),
        ("I --kid=-k -f", "force=False instance=I kid=-k name=-f"),
        ("--force I -- --name", "force=True instance=I kid=None name=--name"),
        ("-- --name -h", "force=False instance=--name kid=None name=-h"),
        ("- -", "force=False instance=- kid=None name=-"),
    ],
)
def test_a_word_with_one_dash_is_a_name(typed: str, understood: str) -> None:
    result = CliRunner().invoke(told, typed.split())
    assert (0, understood) == (result.exit_code, result.output.strip())


@pytest.mark.parametrize(
    ("typed", "refused"),
    [
        ("I -k --forse", "No such option '--forse'. Did you mean '--force'?"),
        ("I -a -b", "Got unexpected extra argument (-b)"),
        ("I --kid", "Option '--kid' requires an argument."),
        ("", "Missing argument 'INSTANCE'."),
    ],
)
def test_what_is_typed_wrongly_is_still_told(
    typed: str, refused: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(lambda: told.main(typed.split(), standalone_mode=False)) == 2
    assert refused in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("typed", ["-h", "I -h", "--help", "I -k --help"])
def test_help_is_help(typed: str) -> None:
    named = Named("told", params=[click.Argument(["instance"])], help="Tells.")
    settings = {"help_option_names": ["-h", "--help"]}
    group = click.Group(commands={"told": named}, context_settings=settings)
    result = CliRunner().invoke(group, ["told", *typed.split()])
    assert result.exit_code == 0
    assert "Tells." in result.output


def test_every_command_that_takes_names_takes_such(tmp_path: Path) -> None:
    ctx = click.Context(main)
    for name in COMMANDS:
        command = main.get_command(ctx, name)
        assert command
        for path, leaf in leaves(command, name):
            if any(isinstance(each, click.Argument) for each in leaf.params):
                assert isinstance(leaf, Named), path


def test_a_key_is_revoked_whatever_its_kid_begins_with(tmp_path: Path) -> None:
    def typed(*words: str) -> str:
        over = ("--data-dir", str(tmp_path / "var"))
        result = CliRunner().invoke(main, [*words, *over], prog_name="cmapi-gateway")
        assert result.exit_code == 0, result.output
        return result.stdout

    file = tmp_path / "file.toml"
    file.write_text('[[instance]]\nid = "-I"\n')
    typed("apply", str(file))
    CliRunner().invoke(main, ["keys", "generate", "--out", str(tmp_path), "--alg", "EdDSA"])
    typed("keys", "add", "-I", "--public", str(tmp_path / "public.pem"), "--kid", "-1t38y")
    assert "-1t38y  EdDSA" in typed("keys", "list", "-I")
    assert typed("keys", "revoke", "-I", "-1t38y") == "revoked -1t38y\n"
    assert typed("keys", "list", "-I") == ""
