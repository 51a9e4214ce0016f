"""`users` as a person types it, over an embedded store: a password by standard input only."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from gateway.cli import main
from gateway.config import load_config
from gateway.core.keys import generate, public_der
from gateway.core.model import USERS_MAX, Catalogue, Key, User
from gateway.core.passwords import verify_password
from gateway.store.rewriting import current_catalogue
from gateway.wiring_store import open_store

FILE = '[[instance]]\nid = "I"\ndefault = true\n\n[[instance]]\nid = "J"\nname = "Second"\n'
PASSWORD = "correct horse"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GATEWAY_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def var(tmp_path: Path) -> Path:
    """A data dir with the instances I, which is the default, and J."""
    (tmp_path / "file.toml").write_text(FILE)
    assert invoke(tmp_path / "var", "apply", str(tmp_path / "file.toml")).exit_code == 0
    return tmp_path / "var"


def invoke(var: Path, *arguments: str, given: str | bytes | None = None) -> Result:
    typed = [*arguments, "--data-dir", str(var)]
    return CliRunner().invoke(main, typed, input=given, prog_name="cmapi-gateway")


def users(var: Path, *arguments: str, given: str | bytes | None = None) -> Result:
    return invoke(var, "users", *arguments, given=given)


def add(var: Path, *arguments: str, given: str | bytes | None = PASSWORD) -> Result:
    return users(var, "add", *arguments, "--password-stdin", given=given)


def catalogue(var: Path, instance: str = "I") -> Catalogue:
    async def read() -> Catalogue:
        async with open_store(load_config(None, {}, {"data_dir": var})) as store:
            return await current_catalogue(store.catalogues, instance)

    return asyncio.run(read())


@pytest.mark.slow
def test_a_user_is_listed_until_removed(var: Path) -> None:
    assert add(var, "~", "ann", "--roles", "ROLE_ADMIN,ROLE_READ").stdout == "added ann\n"
    assert add(var, "J", "bob@example.com").exit_code == 0
    assert users(var, "list").stdout == (
        "I  ann  ROLE_READ,ROLE_ADMIN\nJ  bob@example.com  ROLE_READ\n"
    )
    assert users(var, "list", "~").stdout == "I  ann  ROLE_READ,ROLE_ADMIN\n"
    assert users(var, "remove", "I", "ann").stdout == "removed ann\n"
    assert users(var, "list", "I").stdout == ""
    again = users(var, "remove", "I", "ann")
    assert (again.exit_code, again.stderr) == (
        2,
        "Instance I has no user 'ann'; see `users list`\n",
    )


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_the_password_is_what_came_without_its_newline(var: Path, end: str) -> None:
    assert add(var, "I", "ann", given=f" pass\nwörd {end}").exit_code == 0
    (user,) = catalogue(var).users
    assert verify_password(user.password_hash, " pass\nwörd ".encode())


def test_one_password_twice_is_kept_as_two_hashes_and_never_shown(var: Path) -> None:
    results = [add(var, "I", name) for name in ("ann", "bob")]
    hashes = {user.password_hash for user in catalogue(var).users}
    assert len(hashes) == 2
    told = "".join(result.output for result in (*results, users(var, "list")))
    assert PASSWORD not in told
    assert not any(each in told for each in hashes)


@pytest.mark.slow
def test_a_user_is_replaced_only_when_asked_to_and_is_then_another(var: Path) -> None:
    add(var, "I", "ann")
    (before,) = catalogue(var).users
    refused = add(var, "I", "ann", "--roles", "ROLE_ADMIN", given="another one")
    assert (refused.exit_code, "has a user ann already" in refused.stderr) == (2, True)
    assert catalogue(var).users == (before,)
    replaced = add(var, "I", "ann", "--roles", "ROLE_ADMIN", "--replace", given="another one")
    assert replaced.exit_code == 0
    (after,) = catalogue(var).users
    assert after.roles == ("ROLE_ADMIN",)
    assert verify_password(after.password_hash, b"another one")
    # Sessions of this very second are of the former one.
    assert int(time.time()) - 60 < before.since_s <= after.since_s <= time.time() + 1


def test_a_machine_whose_clock_is_behind_ends_former_sessions_all_the_same(
    var: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun_s = int(time.time())
    monkeypatch.setattr("gateway.cli.users.time.time", lambda: begun_s - 3600.0)
    assert add(var, "I", "ann").exit_code == 0
    (user,) = catalogue(var).users
    assert user.since_s > begun_s


@pytest.mark.slow
def test_apply_leaves_users_alone(var: Path) -> None:
    add(var, "I", "ann")
    before = catalogue(var)
    again = invoke(var, "apply", str(var.parent / "file.toml"))
    assert (again.exit_code, again.stdout) == (0, "nothing to change\n")
    (var.parent / "file.toml").write_text(FILE.replace('id = "I"', 'id = "I"\nname = "N"'))
    assert invoke(var, "apply", str(var.parent / "file.toml")).exit_code == 0
    assert catalogue(var).users == before.users


def test_what_is_refused_is_one_sentence_and_changes_nothing(var: Path) -> None:
    add(var, "I", "ann")
    before = catalogue(var)
    stdin = "--password-stdin"
    for arguments, given, sentence in [
        (("I", "bob"), PASSWORD, "Give the password on standard input, with --password-stdin"),
        (("I", "bob", stdin), "short", "A password has 8 to 1024 bytes, not 5"),
        (("I", "bob", stdin), "", "A password has 8 to 1024 bytes, not 0"),
        (("I", "bob", stdin), "x" * 5_000, "A password has 8 to 1024 bytes"),
        (("I", "bob", stdin), "x" * 1_025, "A password has 8 to 1024 bytes, not 1025"),
        (("I", "bob", stdin), b"\xff" * 9, "A password must be UTF-8"),
        (("I", "bob", stdin), "hunter2\0hunter2", "A password holds no NUL"),
        (("I", "b b", stdin), PASSWORD, "NAME is 'b b'; expected 1 to 64"),
        (("I", "", stdin), PASSWORD, "NAME is ''; expected"),
        (("I", "b" * 65, stdin), PASSWORD, "expected 1 to 64 of A-Za-z0-9._@-"),
        (("I", "bob\n", stdin), PASSWORD, "expected 1 to 64"),
        (("I", "bob", "--roles", "ROLE_GOD", stdin), PASSWORD, "'ROLE_GOD' is no role"),
        (("I", "bob", "--roles", "", stdin), PASSWORD, "'' is no role"),
        (("NOSUCH", "bob", stdin), PASSWORD, "There is no instance 'NOSUCH'"),
    ]:
        result = users(var, "add", *arguments, given=given)
        assert (result.exit_code, sentence in result.stderr) == (2, True), result.stderr
        assert (result.stdout, result.stderr.count("\n")) == ("", 1)
        assert "hunter2" not in result.output
    assert users(var, "list", "NOSUCH").exit_code == 2
    assert users(var, "remove", "NOSUCH", "ann").exit_code == 2
    assert catalogue(var) == before
    assert catalogue(var, "J").users == ()


def test_an_instance_has_only_so_many_users(var: Path) -> None:
    async def fill() -> None:
        async with open_store(load_config(None, {}, {"data_dir": var})) as store:
            found = await current_catalogue(store.catalogues, "I")
            many = tuple(User(f"u{number}", "-") for number in range(USERS_MAX))
            await store.catalogues.put(Catalogue(id="I", version=found.version, users=many))

    asyncio.run(fill())
    result = add(var, "I", "ann")
    assert (result.exit_code, result.stderr) == (2, "Instance I has 256 users; remove one\n")
    assert len(catalogue(var).users) == USERS_MAX


@pytest.mark.parametrize("command", [(), ("add",), ("list",), ("remove",)])
def test_help_shows_an_example(command: tuple[str, ...]) -> None:
    result = CliRunner().invoke(main, ["users", *command, "--help"])
    assert (result.exit_code, "Example:" in result.stdout) == (0, True)
    assert "cmapi-gateway users " in result.stdout


@pytest.mark.slow
def test_uploaded_keys_are_listed_as_such_and_make_room_once_they_ran_out(var: Path) -> None:
    private = [generate("RS256") for _ in range(5)]
    ders = [public_der(each.public_key()) for each in private]
    untils = [1, 2, 4_102_444_800_000, None]

    async def fill() -> None:
        async with open_store(load_config(None, {}, {"data_dir": var})) as store:
            found = await current_catalogue(store.catalogues, "I")
            keys = tuple(
                Key(f"k{at}", "RS256", ders[at], uploaded=True, until_ms=until_ms)
                for at, until_ms in enumerate(untils)
            )
            await store.catalogues.put(replace(found, keys=keys))

    asyncio.run(fill())
    kept = "k2  RS256  uploaded  until 2100-01-01T00:00:00.000Z\nk3  RS256  uploaded\n"
    listed = invoke(var, "keys", "list", "I").stdout
    assert (listed.count("\n"), listed.endswith(kept)) == (4, True)
    (var.parent / "k.der").write_bytes(ders[4])
    added = invoke(var, "keys", "add", "I", "--public", str(var.parent / "k.der"), "--kid", "k4")
    assert added.exit_code == 0, added.stderr
    assert invoke(var, "keys", "list", "I").stdout == kept + "k4  RS256  added\n"


def test_apply_clears_away_what_ran_out_once(var: Path) -> None:
    der = public_der(generate("RS256").public_key())

    async def fill() -> None:
        async with open_store(load_config(None, {}, {"data_dir": var})) as store:
            found = await current_catalogue(store.catalogues, "I")
            key = Key("k0", "RS256", der, uploaded=True, until_ms=1)
            await store.catalogues.put(replace(found, keys=(key,)))

    asyncio.run(fill())
    first, second = [invoke(var, "apply", str(var.parent / "file.toml")) for _ in range(2)]
    assert first.stdout.startswith("- instance I, key k0\n")
    assert second.stdout == "nothing to change\n"
