"""Provisioning one instance from a text, in two steps: say what it would change, then change that.

Decided here: that what is applied is what was shown, or nothing; what such a text may not say: what
concerns other instances, and files beside it; and that usage which waits for an upstream is given
up only when that was said for this upstream, with a reason. Not decided here: what a text means
(core/provisioning.py) and what becomes of a catalogue (core/provisioning_change.py).
Source: INTERFACE 3, SEMANTICS 11.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec
import structlog
from msgspec.structs import replace

from gateway.core.decisions import Decision
from gateway.core.errors import GatewayError, InvalidInput
from gateway.core.key_uploads import without_lapsed
from gateway.core.model import Catalogue
from gateway.core.provisioning import Declared, read_provisioning
from gateway.core.provisioning_change import difference, next_catalogue, not_in_force
from gateway.core.provisioning_text import with_license_keys, write_provisioning
from gateway.service.admin import Admin, Who
from gateway.service.decisions import Action
from gateway.store.asides import Asides, Waiting

TEXT_BYTES_MAX: Final = 900_000  # beside the rest of a form
LISTED_MAX: Final = 10  # lines named of what waits

_log = structlog.get_logger("gateway.admin")


class Overtaken(GatewayError):
    """The catalogue is another one than what was shown against; nothing was written."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What a text would change, against `version` of the catalogue.

    `told` puts it in words, `kept` tells which limits of it are not in force, because a cloud
    decides them. `waiting`: usage that waits for upstreams which it detaches, by name.
    """

    version: int
    told: list[str]
    kept: list[str]
    waiting: Mapping[str, Waiting]


@dataclass(frozen=True, slots=True)
class Provisioning:
    """Provisions instances for their administrators."""

    admin: Admin
    asides: Asides

    def text(self, who: Who) -> str:
        """Write how the instance is provisioned, to be changed; "" when that is too much."""
        try:
            text = write_provisioning(who.index.catalogue)
        except ValueError:  # it holds what no file can say
            return ""
        return text if len(text.encode()) <= TEXT_BYTES_MAX // 2 else ""

    async def preview(self, who: Who, text: str) -> Change:
        """Say what a text would change. Raises InvalidInput with every problem; Unavailable."""
        index = await self.admin.catalogues.fresh(who.instance)
        current = who.index.catalogue if index is None else index.catalogue
        declared = _declared(current, text)
        new = self._next(current, declared)
        kept = {each.name for each in new.upstreams}
        waiting = {}
        for each in current.upstreams:
            found = await self.asides.waiting(who.instance, each.name)
            if each.name not in kept and found is not None:
                waiting[each.name] = found
        return Change(
            version=current.version,
            told=difference(current, new),
            kept=not_in_force(current, declared),
            waiting=waiting,
        )

    async def apply(
        self, who: Who, text: str, version: int, discarded: Collection[str], why: str
    ) -> Catalogue:
        """Write what a text says, over the version that it was shown against; give what is written.

        What waits for upstreams in `discarded` is given up, and `why` is recorded. Raises
        InvalidInput; Overtaken; Unauthorized or Forbidden; Unavailable.
        """

        def edit(current: Catalogue) -> Catalogue:
            new = self._next(current, _declared(current, text))
            # A further try may find done what the one before it wrote without hearing so.
            if current.version != version and new != current:
                raise Overtaken(
                    "Somebody changed this instance meanwhile; look at the changes anew"
                )
            return new

        by = f"{who.user}@{who.instance}"
        discards = {
            name: Decision(by, Action.DISCARD, why, name) for name in discarded if why.strip()
        }
        written = await self.admin.change(who, edit, discards)
        _log.info("provisioned", instance=who.instance, user=who.user, version=written.version)
        return written

    def _next(self, current: Catalogue, declared: Declared) -> Catalogue:
        # A key that has run out only takes the place of another.
        lasting = without_lapsed(current, int(self.admin.now_s() * 1000))
        return next_catalogue(lasting, declared)


def waiting_units(waiting: Waiting) -> int:
    """Say how many units would be given up; those of dead batches were given up before."""
    return sum(
        units
        for places in waiting.units.values()
        for place, units in places.items()
        if place != "dead"
    )


def _declared(current: Catalogue, text: str) -> Declared:
    """Read a text that declares this instance and nothing else. Raises InvalidInput."""
    if len(text.encode()) > TEXT_BYTES_MAX:
        raise InvalidInput(
            f"A page takes at most {TEXT_BYTES_MAX} bytes; use `cmapi-gateway apply` for more"
        )
    declared = read_provisioning(text, _no_file)
    others = sorted(each.id for each in declared if each.id != current.id)
    if others:
        raise InvalidInput(
            f"Only {current.id} can be declared here, not {', '.join(others[:LISTED_MAX])}: log in"
            " there, or use `cmapi-gateway apply`"
        )
    [mine] = declared
    if mine.default != current.default:
        said = "true" if current.default else "false"
        raise InvalidInput(
            f"Say default = {said}, as it is: which instance is the default one concerns others;"
            " `cmapi-gateway apply` changes it"
        )
    # Of keys a file names files beside it, which are not here: those that were declared stay.
    keys = tuple(each for each in current.keys if each.provisioned)
    return with_license_keys(replace(mine, keys=keys), current)


def _no_file(name: str) -> bytes:
    raise OSError(
        0,
        "a page has no files beside it; leave [[instance.key]] out here, the keys stay as they are",
    )
