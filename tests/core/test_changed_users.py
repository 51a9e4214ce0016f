"""What is told of administrators that come and go: their names, never their hashes."""

from __future__ import annotations

from msgspec.structs import replace

from gateway.core.model import Catalogue, User
from gateway.core.provisioning_change import difference

ANN, BOB, EVE = (
    User(name, f"scrypt${number}") for number, name in enumerate(("ann", "bob", "eve"))
)


def test_users_are_told_of_without_their_hashes() -> None:
    before = Catalogue(id="I", version=1, users=(ANN, BOB))
    after = replace(before, users=(replace(ANN, password_hash="scrypt$3"), EVE))
    assert difference(before, after) == [
        "~ instance I, user ann: another password",
        "+ instance I, user eve",
        "- instance I, user bob",
    ]
