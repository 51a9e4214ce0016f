"""What `bench` makes of numbers and how it spells a load; measuring itself is tests/bench."""

from __future__ import annotations

import json
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from gateway.cli.bench import bench
from gateway.cli.benchmarks import cases, tables, wrk
from gateway.cli.benchmarks.cases import CASES
from gateway.cli.benchmarks.findings import Findings, Spread
from gateway.cli.benchmarks.loads import Load, Sample, percentile, requests
from gateway.cli.benchmarks.probes import PROBES
from gateway.cli.benchmarks.rounds import Plan
from gateway.cli.benchmarks.targets import NUMBERS, TARGETS, cases_of, chosen, probes_of
from gateway.core.errors import InvalidInput
from gateway.web.servers import HYPERCORN

MISSING = "granian is not here: pip install 'cmapi-gateway[granian]'"
RUN = {"server": HYPERCORN, "load_generator": "wrk", "load_average": 0.0, "whole": True}
ONE = Load(root="http://h:1", paths=["/a"], headers={"X": "y"}, bodies=[b"1", b"2"])
MANY = Load(root="http://h:1", paths=["/a", "/b", "/c"], headers={}, bodies=[b"1"])


def _sample(rate: float) -> Sample:
    return Sample(
        requests=int(rate), seconds=1, errors=0, p50_ms=1, p99_ms=2, cpu_us=10, store_us=5
    )


def _found() -> Findings:
    """Three rounds of two cases; something disturbed the second one."""
    findings = Findings()
    for empty, token in ((1_000, 900), (100, 85), (1_000, 700)):
        findings.add_sample(cases.EMPTY_POST, _sample(empty))
        findings.add_sample(cases.TOKEN, _sample(token))
    return findings


def test_a_ratio_is_taken_round_by_round() -> None:
    r1, _ = chosen("R1", HYPERCORN)
    assert r1.value(_found()) == Spread(0.85, 0.7, 0.9)
    assert r1.reached(_found())


def test_a_round_that_has_only_one_side_is_in_no_ratio() -> None:
    findings = _found()
    findings.add_sample(cases.EMPTY_POST, _sample(1_000))
    r1, _ = chosen("R1", HYPERCORN)
    assert r1.value(findings) == Spread(0.85, 0.7, 0.9)
    assert r1.value(Findings()) is None
    assert r1.reached(Findings()) is None


def test_a_bound_is_within_what_it_bounds() -> None:
    findings = Findings()
    findings.add("start.seconds", 2.0)
    [r12] = chosen("R12", HYPERCORN)
    assert r12.reached(findings)
    findings.add("start.seconds", 2.1)
    assert not r12.reached(findings)


def test_requests_of_a_batch_are_the_requests_in_it() -> None:
    findings = Findings()
    findings.add_sample(cases.BATCH, _sample(20), 1_000)
    case = findings.case(cases.BATCH)
    assert case["requests_per_s"]["median"] == 20_000
    assert case["cpu_us"]["median"] == 0.0  # 10 us for a thousand
    assert case["p99_ms"]["median"] == 2


def test_every_figure_of_a_target_is_one_that_is_measured() -> None:
    assert [f"R{number}" for number in range(1, 13)] == list(NUMBERS)
    for target in TARGETS:
        for source in target.sources:
            assert source in CASES or source in PROBES, target
    assert {name for target in TARGETS for name in target.sources} == (
        CASES.keys() - {cases.EDDSA} | PROBES.keys()
    )


def test_only_what_is_asked_for_is_measured() -> None:
    targets = chosen("r12, R1", HYPERCORN)
    assert [target.number for target in targets] == ["R1", "R1", "R12"]
    assert cases_of(targets) == [cases.EMPTY_POST, cases.EMPTY_OURS, cases.TOKEN]
    assert probes_of(targets) == ["start"]
    assert cases.EDDSA in cases_of(chosen(None, HYPERCORN))
    assert "R5" not in {target.number for target in chosen(None, "granian")}
    for text, server in (("R13", HYPERCORN), ("", HYPERCORN), ("R5", "granian")):
        with pytest.raises(InvalidInput):
            chosen(text, server)


def test_seconds_are_divided_into_rounds_of_two_seconds_or_three_shorter_ones() -> None:
    names = list(CASES)
    assert len(names) == 14
    for seconds, rounds, round_s in ((1, 3, 1), (84, 3, 2), (140, 5, 2), (290, 10, 2)):
        plan = Plan.make(names, [], seconds)
        assert (plan.rounds, plan.round_s) == (rounds, round_s), seconds


def test_what_cannot_be_measured_here_says_how_it_could() -> None:
    findings = _found()
    findings.missing[cases.ON_GRANIAN] = MISSING
    targets = chosen("R1,R5,R12", HYPERCORN)
    plan = Plan.make(cases_of(targets), [], 12)
    console = Console(width=120, record=True, markup=False, file=Path("/dev/null").open("w"))  # noqa: SIM115
    with console.file:
        tables.show(console, targets, findings, plan, RUN)
    told = " ".join(console.export_text().split())
    assert "[granian]" in told
    assert "not measured" in told
    assert "0.85 │ 0.70 … 0.90 │ ≥ 0.8 │ reached (not" in told
    report = json.loads(json.dumps(tables.report(targets, findings, plan, RUN)))
    values = {each["what"]: each for each in report["targets"]}
    assert values["token ÷ empty POST"]["value"] == {"median": 0.85, "min": 0.7, "max": 0.9}
    assert values["token on granian ÷ on Hypercorn"] == {
        **{"target": "R5", "what": "token on granian ÷ on Hypercorn", "value": None},
        **{"sense": "≥", "bound": 2.5, "unit": "", "reached": None, "missing": MISSING},
    }


def test_help_says_what_is_in_the_file() -> None:
    plan = Plan.make([], [], 1)
    told = CliRunner().invoke(bench, ["--help"]).output
    assert "cmapi-gateway bench --only R1,R7" in told
    report = tables.report(TARGETS, _found(), plan, RUN)
    named = {*report, *report["run"], *report["targets"][0], *report["cases"][cases.TOKEN]}
    assert {name for name in named if f'"{name}"' not in told} == set()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--redis", "redis://127.0.0.1:1"],
        ["--json", "/no/such/directory/file"],
        ["--only", "R99"],
        ["--seconds", "0"],
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_starts(arguments: list[str]) -> None:
    told = CliRunner().invoke(bench, arguments)
    assert told.exit_code != 0


def test_bodies_go_in_turn_or_once() -> None:
    sent = list(islice(requests(ONE), 3))
    assert [text[-1:] for text in sent] == [b"1", b"2", b"1"]
    head = b"POST /a HTTP/1.1\r\nHost: h:1\r\nContent-Length: 1\r\nX: y\r\n\r\n"
    assert sent[0] == head + b"1"
    once = Load(root=ONE.root, paths=ONE.paths, headers={}, bodies=ONE.bodies, once=True)
    assert len(list(requests(once))) == 2


def test_paths_go_in_turn_or_as_unevenly_as_is_said() -> None:
    later = Load(root=MANY.root, paths=MANY.paths, headers={}, bodies=MANY.bodies, first=2)
    assert _paths(later, 4) == ["/c", "/a", "/b", "/c"]
    uneven = Load(root=MANY.root, paths=MANY.paths, headers={}, bodies=MANY.bodies, zipf_s=1.1)
    counts = Counter(_paths(uneven, 10_000))
    for place, path in enumerate(MANY.paths, 1):
        expected = 10_000 * place**-1.1 / (1 + 2**-1.1 + 3**-1.1)
        assert abs(counts[path] - expected) < 300  # some six standard deviations


def test_no_line_of_a_batch_has_the_id_of_another() -> None:
    batches = Load(
        root="http://h:1", paths=["/a"], headers={}, bodies=[b'{"id":"', b'"}'], lines=3, seed=7
    )
    bodies = [text.partition(b"\r\n\r\n")[2] for text in islice(requests(batches), 2)]
    assert bodies[0] == b'{"id":"7-1"}\n{"id":"7-2"}\n{"id":"7-3"}'
    assert bodies[1].startswith(b'{"id":"7-4"}')


def test_a_script_for_wrk_reads_what_is_sent_from_files(tmp_path: Path) -> None:
    script = wrk.write_script(MANY, tmp_path)
    assert (tmp_path / "paths").read_text() == "/a\n/b\n/c\n"
    assert (tmp_path / "bodies").read_bytes() == b"1\n"
    assert str(tmp_path / "bodies") in script.read_text()
    command = wrk.command("wrk", MANY, 2.4, script)
    assert ("-c32" in command, "-d2s" in command) == (True, True)


def test_a_percentile_is_a_value_of_the_list() -> None:
    assert percentile([], 0.5) == 0
    assert percentile([1.0], 0.99) == 1
    assert percentile([float(n) for n in range(100)], 0.99) == 99


def _paths(load: Load, count: int) -> list[str]:
    return [text.split()[1].decode() for text in islice(requests(load), count)]
