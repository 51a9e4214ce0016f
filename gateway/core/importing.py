"""From what a licence server lists to a provisioning file, and what could not come along.

Decided here: which line an element of `GET /features` becomes, that one whose kind, count or dates
cannot be made out is left out and not guessed at, and the words for all that stays behind. What a
server derives from the rest (`sharedUsed`, `overdraftUsedCount`) needs no words.
Not decided here: spellings (importing_values.py), what a file may say (provisioning.py), what is
told of counts that were used (importing_used.py).
Source: protocols/cmapi.md 3.4, INTERFACE 3, SEMANTICS 1, 3, 5 and 7.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from itertools import count as counting
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from gateway.core import importing_values as values
from gateway.core.errors import InvalidInput
from gateway.core.importing_elements import Element, read_elements, shown
from gateway.core.importing_used import BY_HAND, tell_used
from gateway.core.model import (
    LINES_PER_FEATURE_MAX,
    UNITS_MAX,
    Catalogue,
    Model,
    is_instance_id,
)
from gateway.core.periods import starts_ms, zone
from gateway.core.provisioning_values import (
    ID,
    PERCENT,
    SHOWN_MAX,
    expiry_ms,
    feature,
    moment_ms,
)
from gateway.core.toml_text import Value, write_table

RENEW_PERCENT: Final = 15  # of a line that does not say

_TEXTS: Final = {
    "vendorString": "vendor_string",
    "serialNumber": "serial_number",
    "issuer": "issuer",
    "notice": "notice",
}
_NO_PLACE: Final = ("vendor", "issued", "receivedTime")
_RESERVED: Final = ("reserved", "assignedReserved", "unassignedReserved")
# Named above or below by other means, or derived by the server from what is read.
_SILENT: Final = frozenset({"id", "featureId", "sharedUsed", "overdraftUsedCount"})


class Imported(NamedTuple):
    """A provisioning file, how many elements it was made of, how many lines it has, and what is to
    be told of the rest, a line each.
    """

    text: str
    elements: int
    lines: int
    notes: tuple[str, ...]


def import_features(
    data: bytes, *, instance: str, timezone: str, default: bool, now_ms: int | None = None
) -> Imported:
    """Make a provisioning file of one instance from an answer of `GET /features`.

    `timezone` is the instance's: dates without time are days there. `default` lets `~` mean it.
    What cannot come along is in the notes; the same answer always gives the same file. `now_ms`
    lets them name what has expired; without it they leave that to the reader. Raises InvalidInput
    when the data is no such answer, or when no element of it can become a line.
    """
    if not is_instance_id(instance):
        raise InvalidInput(
            f"{instance[:SHOWN_MAX]!r} is no instance id; expected 1 to 64 of A-Z a-z 0-9 . _ -"
        )
    tz = zone(timezone)
    elements, notes = read_elements(data)
    found = {element: _line(element, tz) for element in elements}
    _leave_out_misfits(found)
    carried = [element for element in elements if element.carried]
    if not carried:
        raise InvalidInput(*notes.told(), "None of the elements can become a line")
    for element in carried:
        tell_used(element, found[element], tz, now_ms)
        _tell_left_behind(element)
    lines = [{"id": name, **found[each]} for name, each in _line_ids(carried)]
    declared: dict[str, Any] = {"id": instance}
    if default:
        declared["default"] = True
    declared["timezone"] = timezone
    longest_s = max(values.interval_s(line.get("borrow_interval", "0")) for line in lines)
    if longest_s * 1_000 > Catalogue(id="").borrow_max_ms:  # else the instance would cut it
        declared["borrow_interval_max"] = values.spell_interval(longest_s)
    declared["line"] = lines
    text = write_table({"instance": [declared]})
    return Imported(text, len(elements), len(lines), tuple(notes.told()))


Members = dict[str, Value]


def _line(element: Element, tz: ZoneInfo) -> Members:
    """Give the members of a line but for its id; of no use when the element is not carried."""
    if not element.has("featureName"):
        element.leave_out("it has no featureName")
    line: Members = {"feature": element.read("featureName", feature, "")}
    if not element.has("featureVersion"):
        element.note("no featureVersion: written as 0, which serves only who asks for version 0")
    line["version"] = element.read("featureVersion", values.version, "0")
    count = _count(element)
    line["count"] = "uncounted" if count is None else count
    model = _model(element, uncounted=count is None)
    line["model"] = model.value
    line |= _overdraft(element, count)
    line |= _validity(element, tz)
    line |= _intervals(element, model)
    for name, member in _TEXTS.items():
        text = element.read(name, values.text, "", "left out; shorten it and add it by hand")
        if text:
            line[member] = text
    return line


def _count(element: Element) -> int | None:
    """Give the count; None: uncounted."""
    uncounted = element.read("uncounted", values.flag, False, "taken for false")
    if not element.has("featureCount") and not uncounted:
        element.leave_out("it has no featureCount; declare this line by hand")
    if uncounted:
        return None
    zero: int | None = 0
    return element.read("featureCount", values.count, zero)


def _model(element: Element, *, uncounted: bool) -> Model:
    """Find out what the counts mean; `type` is asked only where the flags are silent."""
    metered = element.read("metered", values.flag, None, "taken for absent")
    concurrent = element.read("concurrent", values.flag, None, "taken for absent")
    reusable = element.read("meteredReusable", values.flag, False)
    kind = element.read("type", values.word, "", "taken for absent")
    if metered is None and not concurrent:
        metered = True if "METERED" in kind else None
    if concurrent is None and not metered:
        concurrent = "CONCURRENT" in kind or (metered is False and not kind)
    if metered:
        if concurrent:
            element.note("metered and concurrent are both true; carried as metered")
        return Model.METERED_REUSABLE if reusable else Model.METERED
    if not concurrent and uncounted and metered is False:
        element.note("neither metered nor concurrent, but uncounted; carried as concurrent")
    elif not concurrent:
        element.leave_out(
            f"neither metered nor concurrent{f' (type {shown(kind)})' if kind else ''}, a kind"
            " that is not known here; declare it by hand with the model that fits"
        )
    return Model.CONCURRENT


def _overdraft(element: Element, count: int | None) -> Members:
    uncapped = element.read("uncappedOverdraft", values.flag, False, "taken for false")
    none: int | str = 0
    by_hand = "taken for 0; add overdraft by hand"
    overdraft = element.read("overdraftCount", values.overdraft, none, by_hand)
    if count is None or overdraft in (0, "0%"):
        return {"overdraft": "unlimited"} if uncapped and count is not None else {}
    if uncapped or overdraft == "unlimited":
        return {"overdraft": "unlimited"}
    percent = PERCENT.fullmatch(str(overdraft))
    beyond = count * int(percent[1]) // 100 if percent else int(overdraft)
    if count + beyond > UNITS_MAX:
        element.note(f"overdraft {overdraft} is past all bounds; carried as unlimited")
        return {"overdraft": "unlimited"}
    if not percent:
        element.note(
            f"overdraftCount {overdraft} is carried as a number; if it was sold as a percentage,"
            ' write that (overdraft = "10%"), so that it follows the count'
        )
    return {"overdraft": overdraft}


def _validity(element: Element, tz: ZoneInfo) -> Members:
    starts = element.read("starts", lambda value: _start(value, tz), None)
    if not element.has("expiry"):
        element.note("no expiry: carried as permanent; add expires by hand if it has an end")
    expires = element.read("expiry", lambda value: _readable(value, tz), None)
    if starts and expires and moment_ms(starts, tz, starts_ms) >= (expiry_ms(expires, tz) or 0):
        element.leave_out(f"its expiry {expires} is not after its start {starts}")
    line: Members = {} if starts is None else {"starts": starts}
    return line | {"expires": "permanent" if expires is None else expires}


def _start(value: Any, tz: ZoneInfo) -> date | None:
    found = _readable(value, tz)
    if found is None:  # without a start it would serve at once
        raise ValueError("a date that a line can start on")
    return found


def _readable(value: Any, tz: ZoneInfo) -> date | None:
    found = values.moment(value)
    if found is not None:
        moment_ms(found, tz, starts_ms)  # for its bounds alone
    return found


def _intervals(element: Element, model: Model) -> Members:
    line: Members = {}
    by_hand = "left out; add it by hand if it is needed"
    undo_s = element.read("meteredUndoInterval", values.interval_s, 0, by_hand)
    borrow_s = element.read("borrowInterval", values.interval_s, 0, by_hand)
    renew_s = element.read("renewInterval", values.interval_s, 0, by_hand)
    if undo_s and model is Model.METERED:
        line["undo_interval"] = values.spell_interval(undo_s)
    elif undo_s:
        element.note(
            f"meteredUndoInterval {undo_s} s is left out: counts of a {model} line can be returned"
            " at any time"
        )
    # Metered consumption is not held: no interval means anything there.
    if borrow_s and model.reusable:
        line["borrow_interval"] = values.spell_interval(borrow_s)
    if renew_s and model is Model.CONCURRENT:
        whole_s = borrow_s or Catalogue(id="").borrow_ms // 1_000
        percent = -(-renew_s * 100 // whole_s)
        if percent > 100 or whole_s * percent // 100 != renew_s:
            element.note(
                f"renewInterval {renew_s} s is no whole percentage of {whole_s} s;"
                f" {RENEW_PERCENT} % applies; add renew_percent by hand if that is not near enough"
            )
        elif percent != RENEW_PERCENT:
            line["renew_percent"] = percent
    return line


def _tell_left_behind(element: Element) -> None:
    """Tell of what is reserved, and of what has no place in our file."""
    reserved = max(element.read(name, values.whole, 0, BY_HAND) for name in _RESERVED)
    if reserved:
        element.note(
            f"reserved {reserved} is not carried, reservations are not built: these counts are in"
            " the pool for all; give their host an instance, or a line with selectors, of its own"
        )
    kind = element.read("featureKind", values.word, "", "taken for absent")
    if kind not in ("", "NORMAL_FEATURE"):
        element.note(f"featureKind {shown(kind)} is not known here; carried as a plain feature")
    homeless = [name for name in _NO_PLACE if element.has(name)]
    if homeless:
        element.note(f"{', '.join(homeless)}: left out, no answer here has it; nothing to be done")
    element.end(_SILENT)


def _leave_out_misfits(found: Mapping[Element, Members]) -> None:
    """Leave out what no file may have: two models under one feature name, too many lines of it.

    The first element of a name decides, since nothing tells which of them the clients ask for.
    """
    models: dict[Value, Value] = {}
    lines: Counter[Value] = Counter()
    for element, line in found.items():
        if not element.carried:
            continue
        name, model = line["feature"], line["model"]
        if models.setdefault(name, model) != model:
            element.leave_out(
                f"it is {model}, and an element before it makes {name} {models[name]}; all lines of"
                " one feature name have the same model, so give this one another name"
            )
        elif lines[name] == LINES_PER_FEATURE_MAX:
            element.leave_out(
                f"{name} has {LINES_PER_FEATURE_MAX} lines before it, as many as one feature may;"
                " add its count to one of them"
            )
        else:
            lines[name] += 1


def _line_ids(carried: Iterable[Element]) -> Iterator[tuple[str, Element]]:
    """Name each line: by its featureId where that can be an id, else L1, L2 and so on.

    A featureId that comes twice names the first; a number that is somebody's featureId is skipped.
    """
    own = {element: element.read("featureId", str, "") for element in carried}
    taken = {name for name in own.values() if ID.fullmatch(name)}
    free = (fresh for number in counting(1) if (fresh := f"L{number}") not in taken)
    given: set[str] = set()
    for element, name in own.items():
        if name in taken - given:
            given.add(name)
            yield name, element
            continue
        line_id = next(free)
        why = f"featureId {shown(name)} is no id or comes twice" if name else "no featureId"
        element.note(
            f"{why}: its line is {line_id}; keep that id when you import again, history hangs on it"
        )
        yield line_id, element
