"""Which line a denial is counted on: one that could have served, as far as there is one.

Law: SEMANTICS 3 and 11.
"""

from __future__ import annotations

import msgspec

from gateway.core.catalogue import CatalogueIndex
from gateway.core.model import Model
from tests.core.test_ledger import DEMO, NOW_MS, SHORT, Demo, _line


def test_a_denial_is_counted_on_a_line_that_could_have_served() -> None:
    """The first candidate; where there is none, the first line that is not retired."""
    lines = (
        _line("GONE", "seats", Model.CONCURRENT, 9, version="3.0", retired=True),
        _line("LAPSED", "seats", Model.CONCURRENT, 9, version="3.0", expires_ms=NOW_MS),
        _line("SOME", "seats", Model.CONCURRENT, 2, version="2.0"),
        _line("MORE", "seats", Model.CONCURRENT, 2, version="1.0"),
    )
    demo = Demo(index=CatalogueIndex(msgspec.structs.replace(DEMO, lines=lines)))
    demo.ask(("seats", "1.0", 5), partial=True)
    demo.ask(("seats", "1.0", -6), inc=True, partial=True)
    demo.ask(("seats", "3.0", 1))
    demo.ask(("seats", "4.0", 1))
    demo.ask(("chairs", "1.0", 1))
    denials = {line: day.denials for (line, _), day in demo.state.days.items() if day.denials}
    assert denials == {
        "MORE": {SHORT: 1, "RETURN_TOO_LARGE": 1},
        "LAPSED": {"LICENSE_LAPSED": 1, "VERSION_TOO_HIGH": 1},
        "": {"FEATURE_NOT_FOUND": 1},
    }
