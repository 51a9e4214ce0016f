"""The judge of records: silent where all agrees, and each deliberate defect is caught."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests.faults.checker import Kind
from tests.faults.ledger import FILES, Accepted, Seen
from tests.stores.journal import BOOKS_FILE, Run, Upstream, Verdict, judge, main, write_run
from tests.stores.journal_entries import Bad, Entry, JournalFile, Outcome

RUN = Run(
    name="row 0",
    seed=7,
    faults=3,
    drained=True,
    capacity={"DEMO": {"L1": 60}},
    upstreams={"parent": Upstream()},
)
BOOKS: dict[str, Any] = {
    "instances": [
        {
            "id": "DEMO",
            "lines": [
                {
                    "id": "L1",
                    "feature": "sessions",
                    "upstream": "parent",
                    "acked": 50,
                    "forwarded": 50,
                    "dead": 0,
                    "parked": 0,
                    "open": 0,
                    "sealed": 0,
                    "used": 50,
                    "held": 0,
                    "balanced": True,
                    "carried": 0,
                }
            ],
        }
    ],
    "conservation": "OK",
}


def entry(id_: str, asked: int, outcome: Outcome = Outcome.ANSWERED, **more: Any) -> Entry:
    granted = {"L1": more.pop("granted", asked)} if outcome is Outcome.ANSWERED else {}
    return Entry(
        id=id_, instance="DEMO", asked={"L1": asked}, outcome=outcome, granted=granted, **more
    )


class Records:
    """A run's records in a directory: of a sound run, until something is added or changed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.run = RUN
        self.line: dict[str, Any] = {**BOOKS["instances"][0]["lines"][0]}
        self.journal = JournalFile(directory, "a")
        (directory / "upstreams" / "parent").mkdir(parents=True)
        self.tell(entry("one", 20, answer="A"), entry("one", 20, answer="A"), entry("two", 30))
        self.accept("b1", 20)
        self.accept("b2", 30)

    def tell(self, *entries: Entry) -> None:
        for each in entries:
            self.journal.note(each)

    def accept(self, batch: str, units: int, sha256: str = "0") -> None:
        self._append(Accepted(batch, batch, sha256, {"sessions": units}))
        self.see(batch, sha256)

    def see(self, batch: str, sha256: str) -> None:
        self._append(Seen(batch, sha256))

    def write(self) -> Path:
        books = {**BOOKS, "instances": [{"id": "DEMO", "lines": [self.line]}]}
        write_run(self.directory, self.run, json.dumps(books).encode())
        return self.directory

    def judged(self) -> Verdict:
        return judge(self.write())

    def _append(self, form: Accepted | Seen) -> None:
        with (self.directory / "upstreams" / "parent" / FILES[type(form)]).open("a") as file:
            file.write(json.dumps(asdict(form)) + "\n")


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    records = Records(tmp_path)
    with records.journal:
        yield records


def test_a_sound_run_is_told_in_one_line(
    records: Records, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(records.write())]) == 0
    assert capsys.readouterr().out == (
        "row 0: acknowledged 2, faults 3, lost 0, doubled 0, over capacity 0"
        " (seed 7, 0 never answered)\n"
    )


def test_it_is_a_program_that_fails_on_a_violation(records: Records) -> None:
    records.line |= {"acked": 49, "forwarded": 49}
    ended = subprocess.run(
        [sys.executable, "-m", "tests.stores.journal", str(records.write())],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    figures, sentence, *_ = ended.stdout.splitlines()
    assert (ended.returncode, ended.stderr) == (1, "")
    assert "lost 1, doubled 1," in figures  # one that was told of, one that the upstream has more
    assert sentence == "I1: DEMO line L1: 50 granted in answers, only 49 acked"


Defect = Callable[[Records], object]
CAUGHT: dict[str, tuple[Defect, str, dict[Kind, int]]] = {
    "a grant that was not counted": (
        lambda r: r.tell(entry("three", 4)),
        "I1: DEMO line L1: 54 granted in answers, only 50 acked",
        {Kind.LOST: 4},
    ),
    "a count that nobody asked for": (
        lambda r: (r.line.update(acked=53, forwarded=53), r.accept("b3", 3)),
        "I2: DEMO line L1: 53 acked, 50 answered and 0 unseen",
        {Kind.DOUBLED: 3},
    ),
    "what was said not to be applied, and is": (
        lambda r: (
            r.tell(entry("three", 3, Outcome.SENT), entry("three", 3, Outcome.NOT_APPLIED)),
            r.line.update(acked=53, forwarded=53),
            r.accept("b3", 3),
        ),
        "I2: DEMO line L1: 53 acked, 50 answered and 0 unseen",
        {Kind.DOUBLED: 3},
    ),
    "units that are nowhere": (
        lambda r: r.line.update(acked=51, open=0),
        "I3: DEMO line L1 to parent: 51 acked, 50 accounted for",
        {Kind.DOUBLED: 1, Kind.LOST: 1},
    ),
    "more used than there is": (
        lambda r: r.line.update(used=61),
        "I4: DEMO line L1: 61 used of 60",
        {Kind.OVER: 1},
    ),
    "a refusal while there was room": (
        lambda r: r.tell(entry("three", 10, granted=0)),
        "I4: DEMO three: 0 of 10 L1 granted, and 10 were free in the end",
        {},
    ),
    "two answers to one id": (
        lambda r: r.tell(entry("one", 20, answer="B", replica="g2")),
        "I5: DEMO one: 2 different answers by g2",
        {},
    ),
    "more granted than asked for": (
        lambda r: (
            r.tell(entry("three", 3, granted=4)),
            r.line.update(acked=54, forwarded=54),
            r.accept("b3", 4),
        ),
        "I5: DEMO three: L1: 4 granted, 3 asked",
        {},
    ),
    "an error of its own making": (
        lambda r: r.tell(entry("x", 1, Outcome.NOT_APPLIED, status=500, bad=Bad.INPUT)),
        "I6: DEMO x: status 500",
        {},
    ),
    "success without a signature": (
        lambda r: r.tell(entry("x", 1, Outcome.REFUSED, status=200, bad=Bad.SIGNATURE)),
        "I6: DEMO x: status 200 without a valid signature",
        {},
    ),
    "two contents of one batch": (
        lambda r: r.see("b1", "1"),
        "I7: parent saw b1 with 2 contents",
        {},
    ),
    "a batch that was counted twice": (
        lambda r: r.accept("b1", 20),
        "parent counted b1 2 times",
        {Kind.DOUBLED: 20},
    ),
    "what was forwarded and never arrived": (
        lambda r: (
            r.tell(entry("three", 3)),
            r.line.update(acked=53, forwarded=53),
        ),
        "parent feature sessions: 50 accepted, each id once, but acked − dead − parked is 53",
        {Kind.LOST: 3},
    ),
    "what is left after the drain": (
        lambda r: r.line.update(forwarded=49, sealed=1),
        "not drained: DEMO line L1 to parent: 1 sealed",
        {Kind.DOUBLED: 1},
    ),
}


@pytest.mark.parametrize(("defect", "sentence", "units"), CAUGHT.values(), ids=CAUGHT)
def test_it_catches(
    records: Records, defect: Defect, sentence: str, units: dict[Kind, int]
) -> None:
    assert records.judged().violations == []
    defect(records)
    verdict = records.judged()
    assert verdict.violations[0].startswith(sentence)
    assert {kind: verdict.units(kind) for kind in Kind if verdict.units(kind)} == units


@pytest.mark.parametrize(
    "never_answered",
    [
        [entry("three", 3, Outcome.SENT)],  # the client was killed
        [entry("three", 3, Outcome.UNKNOWN)],
        [entry("three", 3, Outcome.UNKNOWN), entry("three", 3, Outcome.NOT_APPLIED)],
        [entry("three", 3, each) for each in (Outcome.SENT, Outcome.NOT_APPLIED, Outcome.SENT)],
    ],
)
def test_what_was_never_answered_may_count_or_not(
    records: Records, never_answered: list[Entry]
) -> None:
    records.tell(*never_answered)
    assert records.judged().violations == []
    records.line |= {"acked": 53, "forwarded": 53}
    records.accept("b3", 3)
    assert records.judged().violations == []
    assert records.judged().unseen == 1


def test_what_a_weak_level_may_lose_is_counted_and_no_violation_but_more_is(
    records: Records,
) -> None:
    records.run = Run(name="written", windows_ms=[(1_000, 2_000)])
    records.tell(entry("three", 3, at_ms=1_500), entry("four", 3, at_ms=2_500))
    records.line |= {"acked": 53, "forwarded": 53}
    assert records.judged().violations == []
    assert records.judged().units(Kind.LOST) == 3
    records.line |= {"acked": 52, "forwarded": 52}
    assert records.judged().violations[0].startswith("I1: ")


def test_features_are_judged_where_clients_know_no_lines(records: Records) -> None:
    records.run = Run(name="features", by="feature", capacity={"DEMO": {"sessions": 49}})
    books = json.loads((records.write() / BOOKS_FILE).read_bytes())
    books["instances"][0]["lines"].append({**records.line, "id": "L2", "acked": 0, "forwarded": 0})
    (records.directory / "journal-a.ndjson").unlink()
    with JournalFile(records.directory, "b") as journal:
        asked = {"sessions": 51}
        answered = Outcome.ANSWERED
        journal.note(Entry(id="1", instance="DEMO", asked=asked, outcome=answered, granted=asked))
    (records.directory / BOOKS_FILE).write_text(json.dumps(books))
    assert judge(records.directory).violations == [
        "I1: DEMO feature sessions: 51 granted in answers, only 50 acked",
        "I4: DEMO feature sessions: 100 used of 49",
    ]


def test_a_process_that_grew_without_bound_is_found(records: Records) -> None:
    records.run = Run(
        name="memory", memory_bytes={"gateway-0": (0, 2**26), "gateway-1": (0, 2**27)}
    )
    assert records.judged().violations == ["I6: gateway-1 grew from 0 to 134,217,728 bytes"]


def test_a_run_in_which_nothing_was_answered_proves_nothing(records: Records) -> None:
    (records.directory / "journal-a.ndjson").unlink()
    records.run = Run(name="idle")
    records.line |= {"acked": 0, "forwarded": 0, "used": 0}
    assert records.judged().violations == ["Nothing was acknowledged: the run proves nothing"]


def test_a_line_that_a_kill_cut_in_half_is_passed_over(records: Records) -> None:
    with (records.directory / "journal-a.ndjson").open("a") as file:
        file.write('{"id":"thr')
    assert records.judged().violations == []
