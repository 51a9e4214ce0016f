"""The users of an instance: who may log in, and with which roles.

Decided here: that a password is typed twice and never shown again, and that whoever changes
themselves is told that they have to log in anew. Not decided here: what a change does
(service/users.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from starlette.routing import BaseRoute

from gateway.core.errors import InvalidInput, NotFound
from gateway.core.model import Role, User
from gateway.core.passwords import PASSWORD_BYTES_MAX, PASSWORD_BYTES_MIN
from gateway.service.users import Users
from gateway.web.ui.doors import Doors
from gateway.web.ui.visits import BASE, Moved, Reply, Shown, Visit, address

# What each role lets somebody do, at the pages and at the API.
ROLES: Final = {
    Role.READ: "look at everything",
    Role.RESERVATIONS: "read and change reservations (API)",
    Role.DROPCLIENT: "release hosts",
    Role.PRODUCER: "upload and revoke client keys",
    Role.ADMIN: "provision, decide about forwarding, change keys, users and policies",
}


def routes(doors: Doors, users: Users) -> list[BaseRoute]:
    """Give the routes of users."""
    pages = _Pages(users)
    return [
        doors.page("configuration/users", "users", pages.listed, Role.ADMIN),
        doors.page("configuration/users/change", "user", pages.one, Role.ADMIN),
        doors.page("configuration/users/remove", "user_remove", pages.confirm, Role.ADMIN),
        doors.deed("configuration/users", "user_add", pages.add, Role.ADMIN),
        doors.deed("configuration/users/change", "user_change", pages.change, Role.ADMIN),
        doors.deed("configuration/users/remove", "user_remove", pages.remove, Role.ADMIN),
    ]


class _Pages:
    def __init__(self, users: Users) -> None:
        self._users = users

    async def listed(self, visit: Visit) -> Reply:
        return _listed(visit)

    async def add(self, visit: Visit) -> Reply:
        name, roles = visit.said("name"), visit.form.all("roles")
        try:
            await self._users.add(visit.who, name, roles, _password(visit))
        except InvalidInput as error:
            return _listed(visit, error.problems, name, roles)
        return Moved(visit.path("configuration/users"), f"{name} may log in.")

    async def one(self, visit: Visit) -> Reply:
        found = _found(visit, visit.asked("name"))
        return _one(visit, found, found.roles)

    async def change(self, visit: Visit) -> Reply:
        name, roles = visit.said("name"), visit.form.all("roles")
        found = _found(visit, name)
        try:
            typed = visit.form.text("password") or visit.form.text("again")
            password = _password(visit) if typed else None
            await self._users.change(visit.who, name, roles, password)
        except InvalidInput as error:
            return _one(visit, found, roles, error.problems)
        return _done(visit, name, f"{name} is changed, and has to log in anew.")

    async def confirm(self, visit: Visit) -> Reply:
        found = _found(visit, visit.asked("name"))
        return Shown("user_remove.html", {"user": found, "oneself": found.name == visit.who.user})

    async def remove(self, visit: Visit) -> Reply:
        name = visit.said("name")
        await self._users.remove(visit.who, name)
        return _done(visit, name, f"{name} is removed.")


def _done(visit: Visit, name: str, told: str) -> Moved:
    if name == visit.who.user:  # this session is over by that
        return Moved(address(f"{BASE}/login", instance=visit.instance, ended="changed"))
    return Moved(visit.path("configuration/users"), told)


def _password(visit: Visit) -> str:
    password, again = visit.form.text("password"), visit.form.text("again")
    if password != again:
        raise InvalidInput("The two passwords are not the same; type both again")
    if not password:
        raise InvalidInput("Give a password, twice")
    return password


def _found(visit: Visit, name: str) -> User:
    found = next((each for each in visit.catalogue.users if each.name == name), None)
    if found is None:
        raise NotFound(f"There is no user {name[:64]!r} (any more)", name[:64])
    return found


def _listed(
    visit: Visit, problems: Sequence[str] = (), name: str = "", roles: object = ()
) -> Shown:
    data = {
        "users": visit.catalogue.users,
        "problems": problems,
        "name": name,
        "chosen": roles or (Role.READ.value,),
        "roles": ROLES,
        "least": PASSWORD_BYTES_MIN,
        "most": PASSWORD_BYTES_MAX,
    }
    return Shown("users.html", data, 400 if problems else 200)


def _one(visit: Visit, user: User, roles: object, problems: Sequence[str] = ()) -> Shown:
    data = {
        "user": user,
        "chosen": roles,
        "problems": problems,
        "roles": ROLES,
        "oneself": user.name == visit.who.user,
        "least": PASSWORD_BYTES_MIN,
        "most": PASSWORD_BYTES_MAX,
    }
    return Shown("user.html", data, 400 if problems else 200)
