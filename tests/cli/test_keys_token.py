"""`keys` and `token` as a person types them, over an embedded store; and how a command ends."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import click
import jwt
import pytest
from click.testing import CliRunner, Result
from redis.exceptions import ConnectionError as RedisConnectionError

from gateway.cli import COMMANDS, main
from gateway.cli.options import run
from gateway.core.errors import BadRequest, GatewayError, InvalidInput

FILE = '[[instance]]\nid = "I"\ndefault = true\n'


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GATEWAY_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def rsa(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("keys")
    assert invoke("keys", "generate", "--out", str(directory)).exit_code == 0
    return directory


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, prog_name="cmapi-gateway")


def with_store(tmp_path: Path, *arguments: str) -> Result:
    return invoke(*arguments, "--data-dir", str(tmp_path / "var"))


def declare(tmp_path: Path) -> None:
    (tmp_path / "file.toml").write_text(FILE)
    assert with_store(tmp_path, "apply", str(tmp_path / "file.toml")).exit_code == 0


def listed(tmp_path: Path) -> str:
    result = with_store(tmp_path, "keys", "list", "I")
    assert result.exit_code == 0
    return result.stdout


@pytest.mark.parametrize("alg", ["RS256", "ES256", "EdDSA"])
def test_generate_makes_three_files_and_prints_the_kid(tmp_path: Path, alg: str) -> None:
    out = tmp_path / "new" / "keys"
    result = invoke("keys", "generate", "--out", str(out), "--alg", alg)
    assert result.exit_code == 0
    assert len(result.stdout.strip()) == 43
    assert sorted(file.name for file in out.iterdir()) == [
        "private.pem",
        "public.der",
        "public.pem",
    ]
    assert stat.S_IMODE((out / "private.pem").stat().st_mode) == 0o600


@pytest.mark.parametrize("there", ["private.pem", "public.pem", "public.der"])
def test_generate_never_overwrites(tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("precious")
    result = invoke("keys", "generate", "--out", str(tmp_path))
    assert result.exit_code == 2
    assert (
        result.stderr == f"{tmp_path / there} exists and is not overwritten; take another --out\n"
    )
    assert [file.name for file in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "precious"


def test_added_key_is_listed_until_it_is_revoked(tmp_path: Path, rsa: Path) -> None:
    declare(tmp_path)
    add = ("keys", "add", "~", "--public", str(rsa / "public.der"), "--kid", "k1", "--forwarder")
    assert with_store(tmp_path, *add).stdout == "k1\n"
    assert listed(tmp_path) == "k1  RS256  added  forwarder\n"
    assert with_store(tmp_path, *add).exit_code == 0  # a repeat is no error and changes nothing
    assert with_store(tmp_path, "keys", "revoke", "I", "k1").exit_code == 0
    assert listed(tmp_path) == ""
    again = with_store(tmp_path, "keys", "revoke", "I", "k1")
    assert (again.exit_code, again.stderr) == (2, "Instance I has no key 'k1'; see `keys list`\n")


def test_refused_key_changes_nothing(tmp_path: Path, rsa: Path) -> None:
    declare(tmp_path)
    public, private = str(rsa / "public.pem"), str(rsa / "private.pem")
    assert (
        with_store(tmp_path, "keys", "add", "I", "--public", public, "--kid", "k1").exit_code == 0
    )
    before = listed(tmp_path)
    for arguments, sentence in [
        (("I", "--public", public, "--kid", "k2"), "has this key already, as k1"),
        (("I", "--public", public, "--kid", "k1", "--forwarder"), "has this kid already, as k1"),
        (("I", "--public", public, "--alg", "ES256"), "is a key for RS256"),
        (("I", "--public", public, "--kid", "k 1"), "--kid must be 1 to 255 visible ASCII"),
        (("I", "--public", private), "This is a private key"),
        (("I", "--public", str(tmp_path / "none")), "cannot be read: No such file"),
        (("J", "--public", public), "There is no instance 'J'; declare it with `apply` first"),
    ]:
        result = with_store(tmp_path, "keys", "add", *arguments)
        assert (result.exit_code, sentence in result.stderr) == (2, True), result.stderr
        assert result.stderr.count("\n") == 1
    assert listed(tmp_path) == before


def test_token_is_one_that_others_can_verify(rsa: Path) -> None:
    key = str(rsa / "private.pem")
    result = invoke("token", "--key", key, "--sub", "s", "--ttl", "30m", "--kid", "k1")
    text = result.stdout.strip()
    claims = jwt.decode(text, (rsa / "public.pem").read_bytes(), algorithms=["RS256"])
    assert (claims["sub"], claims["roles"]) == ("s", "ROLE_CAPABILITY")
    assert claims["exp"] - claims["iat"] == 1_800
    assert jwt.get_unverified_header(text)["kid"] == "k1"


@pytest.mark.parametrize("ttl", ["0", "1y", "-1h", "4000d"])
def test_token_of_no_good_lifetime_is_refused(rsa: Path, ttl: str) -> None:
    result = invoke("token", "--key", str(rsa / "private.pem"), f"--ttl={ttl}")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"--ttl is '{ttl}'; expected a duration")


def test_token_needs_an_rsa_key(tmp_path: Path) -> None:
    invoke("keys", "generate", "--out", str(tmp_path), "--alg", "ES256")
    result = invoke("token", "--key", str(tmp_path / "private.pem"))
    assert (result.exit_code, "RS256" in result.stderr, result.stdout) == (2, True, "")


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("nosuch",), 2, "No such command 'nosuch'"),
        (("token",), 2, "Missing option '--key'"),
        (("keys", "list", "I", "--redis", "http://h"), 2, "redis.url is 'http://h'; expected"),
        (("keys", "list", "I", "--config", "/none.toml"), 2, "/none.toml cannot be read"),
        pytest.param(
            ("keys", "list", "I", "--redis", "unix:///none.sock"),
            1,
            "The store cannot be reached",
            marks=pytest.mark.slow,  # it is waited for
        ),
    ],
)
def test_failure_is_one_sentence(arguments: tuple[str, ...], code: int, sentence: str) -> None:
    result = invoke(*arguments)
    assert (result.exit_code, sentence in result.stderr) == (code, True), result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (InvalidInput("one", "two"), 2, "one\ntwo\n"),
        (BadRequest("no", "member"), 2, "no\n"),
        (GatewayError("failed"), 1, "failed\n"),
        (RedisConnectionError("away\nnow"), 1, "away now\n"),
        (OSError("disk"), 1, "disk\n"),
        (KeyboardInterrupt(), 130, ""),
        (click.Abort(), 130, ""),
    ],
)
def test_each_kind_of_end_has_its_code(
    error: BaseException, code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> None:
        raise error

    assert run(command) == code
    assert capsys.readouterr().err == told


def test_defect_of_ours_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        run(lambda: 1 // 0)


@pytest.mark.parametrize("command", [(), *[(name,) for name in ("apply", "keys", "token")]])
def test_help_is_there_for_every_command(command: tuple[str, ...]) -> None:
    result = invoke(*command, "--help")
    assert result.exit_code == 0
    assert not command or "Example:\n    cmapi-gateway " in result.stdout
    assert command or all(name in result.stdout for name in COMMANDS)


def test_help_imports_no_store() -> None:
    code = (
        "import sys; from gateway.cli import main; main(['--help'], standalone_mode=False);"
        "print('redis' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "False\n"
