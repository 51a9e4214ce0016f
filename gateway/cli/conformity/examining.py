"""What each feature that a run is told turns out to be.

Decided here: that it is found out by what the server does with one unit, since not every server
tells a client. Not decided here: what is checked of it. Source: SEMANTICS 4 and 5.
"""

from __future__ import annotations

from typing import Final

from gateway.cli.conformity.checks import Differs, NotTried
from gateway.cli.conformity.site import UNITS_MAX, Site, Want
from gateway.cli.conformity.wares import Ware
from gateway.cli.conformity.wire import MISSHAPEN, NoAnswer
from gateway.core.versions import is_version, version_key

NEEDED: Final = 3  # units that checks take at once


def examine_all(site: Site) -> None:
    """Find out what each told feature is, by one unit of it, and note why those that cannot be used
    cannot.
    """
    for name in site.told:
        # For now as if it were consumed and could be undone: so one unit is given back either way.
        site.wares[name] = Ware(name, "0", consumed=True, undoable=True)
        ware = None
        try:
            ware = _examined(site, name)
        except NotTried as error:
            site.unfit[name] = f"{name} cannot be used: {error}"
        except Differs as error:
            site.unfit[name] = f"{name} cannot be used: {error}"
            site.faults.append(error)
        except NoAnswer as error:
            site.unfit[name] = f"{name} cannot be used: {error}"
            site.faults.append(Differs("an answer", str(error)))
        except MISSHAPEN as error:
            site.unfit[name] = f"{name} cannot be used: its answers have another shape"
            found = f"another one ({type(error).__name__}: {error})"
            site.faults.append(Differs("an answer of the documented shape", found))
        before = len(site.loans.stuck)
        site.give_back()
        if ware is not None and len(site.loans.stuck) > before:
            # It would pile up with every check: above all what is consumed and listed as held.
            why = "what a host took of it was not seen to be returned"
            site.unfit[name] = f"{name} cannot be used: {why}"
            ware = None
        if ware is None or not ware.consumed:
            site.loans.forget(name)
        if ware is None:
            del site.wares[name]
        else:
            site.wares[name] = ware


def _examined(site: Site, name: str) -> Ware:
    """Examine a feature. Raises NotTried where there is too little of it for a run.

    A count that is off does not matter here: the checks will tell. What is held says when to renew
    it when it is a seat, and 0 when it is metered (SEMANTICS 5).
    """
    offered = site.preview(site.host(), Want(name))
    versions = [str(entry.get("version")) for entry in offered.entries(name)]
    left = offered.count(name)
    if not versions or (isinstance(left, int) and left < NEEDED):
        raise NotTried(f"a new host is offered {left} of it, {NEEDED} are needed")
    highest = max(versions, key=_version_key)
    host = site.host()
    taken = site.ask(host, Want(name), incremental=True)
    if taken.statuses:
        raise Differs(f"{name} granted to a new host, as offered", taken.codes)
    renews = taken.entry(name).get("renewInterval")
    if site.read_back(host).entries(name):
        seats = type(renews) is int and renews > 0
        return Ware(name, highest, consumed=False, seats=seats)
    undoable = _undoes(site, host, name)
    if isinstance(left, int) and left < UNITS_MAX and not undoable:
        raise NotTried(f"{left} of it are left, and up to {UNITS_MAX} would be consumed for good")
    return Ware(name, highest, consumed=True, undoable=undoable)


def _undoes(site: Site, host: str, name: str) -> bool:
    try:
        return not site.ask(host, Want(name, -1), incremental=True).statuses
    except Differs:
        return False


def _version_key(version: str) -> tuple[int, ...]:
    return version_key(version) if is_version(version) else ()
