"""What adding and removing keys and users makes of a catalogue.

Decided here: that neither is replaced in silence, in which order they are kept, how many there may
be, and that an instance is not left without an administrator by one. Not decided here: who may do
it, and how it is written. Pure. Source: SEMANTICS 10.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from gateway.core.errors import InvalidInput
from gateway.core.fingerprint import visible_ascii
from gateway.core.keyring import KeyRing
from gateway.core.keys import algorithm_of, load_public, public_der, thumbprint
from gateway.core.model import USERS_MAX, Catalogue, Key, Role, User

SHOWN_MAX: Final = 64  # characters of a wrong name that are repeated


def read_key(data: bytes, kid: str | None, *, forwarder: bool) -> Key:
    """Read a public key, PEM or DER, to be added. Without `kid` its RFC 7638 thumbprint names it.

    Raises InvalidInput; of a private key nothing is repeated.
    """
    public = load_public(data)
    if kid is not None and not visible_ascii(kid):
        raise InvalidInput("The kid must be 1 to 255 visible ASCII characters")
    return Key(
        kid or thumbprint(public), algorithm_of(public), public_der(public), forwarder=forwarder
    )


def with_key(catalogue: Catalogue, key: Key) -> Catalogue:
    """Add a key; one that is there already as it is changes nothing. Raises InvalidInput."""
    for other in catalogue.keys:
        if other.kid == key.kid or other.public == key.public:
            if replace(other, provisioned=False) == key:
                return catalogue
            raise InvalidInput(
                f"Instance {catalogue.id} has this {'kid' if other.kid == key.kid else 'key'}"
                f" already, as {other.kid}; revoke that first"
            )
    # In the order of kids, as `apply` keeps them.
    keys = tuple(sorted((*catalogue.keys, key), key=lambda each: each.kid))
    KeyRing(keys)  # refuses what would be too many
    return replace(catalogue, keys=keys)


def without_key(catalogue: Catalogue, kid: str) -> Catalogue:
    """Remove a key. Raises InvalidInput when there is none of this kid."""
    keys = tuple(key for key in catalogue.keys if key.kid != kid)
    if len(keys) == len(catalogue.keys):
        raise InvalidInput(
            f"Instance {catalogue.id} has no key {kid[:SHOWN_MAX]!r}; see `keys list`"
        )
    return replace(catalogue, keys=keys)


def with_user(catalogue: Catalogue, user: User) -> Catalogue:
    """Put a user in the place of one of that name, or beside the others. Raises InvalidInput.

    No session of the one before is one of the new one, also when both are made in one second.
    """
    before = next((each for each in catalogue.users if each.name == user.name), None)
    if before is not None and before != user:
        user = replace(user, since_s=max(user.since_s, before.since_s + 1))
    others = [each for each in catalogue.users if each.name != user.name]
    if len(others) >= USERS_MAX:
        raise InvalidInput(f"Instance {catalogue.id} has {USERS_MAX} users; remove one")
    return replace(catalogue, users=tuple(sorted((*others, user), key=lambda each: each.name)))


def without_user(catalogue: Catalogue, name: str) -> Catalogue:
    """Remove a user. Raises InvalidInput when there is none of this name."""
    others = tuple(user for user in catalogue.users if user.name != name)
    if len(others) == len(catalogue.users):
        raise InvalidInput(
            f"Instance {catalogue.id} has no user {name[:SHOWN_MAX]!r}; see `users list`"
        )
    return replace(catalogue, users=others)


def roles_of(given: Iterable[str]) -> tuple[str, ...]:
    """Put roles in one order. Raises InvalidInput for one that is unknown."""
    names = {role.strip() for role in given}
    unknown = sorted(names - set(Role))
    if unknown:
        raise InvalidInput(f"{unknown[0][:SHOWN_MAX]!r} is no role; expected of {', '.join(Role)}")
    return tuple(role.value for role in Role if role.value in names)


def check_administered(catalogue: Catalogue) -> Catalogue:
    """Give a catalogue that somebody can still administrate. Raises InvalidInput for another."""
    if not any(Role.ADMIN.value in user.roles for user in catalogue.users):
        raise InvalidInput(
            f"Nobody would be left with {Role.ADMIN}; give that to somebody else first"
        )
    return catalogue
