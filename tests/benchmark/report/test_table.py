"""Markdown for people, CSV for spreadsheets, sentences that claim no more than the intervals do."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest
from made_result import result

from rms_deploy.benchmark.latency import Speedup
from rms_deploy.benchmark.report.numbers import duration, ratio
from rms_deploy.benchmark.report.summary import summary
from rms_deploy.benchmark.report.table import as_csv, as_markdown
from rms_deploy.benchmark.result import CandidateResult
from rms_deploy.benchmark.result_file import from_dict, read, to_dict
from rms_deploy.errors import InputError


def test_markdown():
    lines = as_markdown(result(sweep=False)).splitlines()
    assert lines[0].startswith("- fused is 1.25 times as fast as decomposed")
    table = [line for line in lines if line.startswith("|")]
    assert table[0].startswith("| candidate | median | p90 | p99 | runs/s | times faster | ")
    assert len({line.count("|") for line in table[:4]}) == 1
    assert any(line.startswith("| fused | 4 % | 54 % | 43 % | 30 % |") for line in table)
    assert "- standard FAILED: 1 of 2 norms cannot take this form | <b>" in lines


def test_csv_has_plain_numbers_and_a_line_for_every_candidate_at_every_point():
    rows = list(csv.DictReader(io.StringIO(as_csv(result()))))
    assert [(row["candidate"], row["at"]) for row in rows][:4] == [
        ("decomposed", "seq 1"),
        ("fused", "seq 1"),
        ("standard", "seq 1"),
        ("decomposed", "seq 16"),
    ]
    assert float(rows[0]["median_us"]) == pytest.approx(200.9)
    assert float(rows[0]["norms_share"]) == pytest.approx(1 / 7)
    assert rows[2]["median_us"] == ""
    assert rows[2]["failure"].startswith("1 of 2")


@pytest.mark.parametrize(
    ("speedup", "sentence"),
    [
        (Speedup(1.1, 1.0021, 1.2), "b is 1.10 times as fast as a (95 % interval 1.0021 ... 1.20)."),
        (Speedup(0.8, 0.7, 0.9), "b is 0.80 times as fast as a (95 % interval 0.70 ... 0.90)."),
        (
            Speedup(1.1, 0.99, 1.2),
            "The difference between b and a is within the noise (95 % interval 0.99 ... 1.20).",
        ),
        (Speedup(2.0, None, None), "b ran 2.00 times as fast as a, in too few rounds to tell that from noise."),
        (None, "b has nothing to be compared with, as a failed."),
    ],
)
def test_no_winner_is_named_where_there_is_none(speedup, sentence):
    made = result(sweep=False)
    a, b = made.candidates[0], made.candidates[1]
    a = replace(a, name="a", operator_times=None) if speedup else CandidateResult("a", failure="gone")
    point = replace(made.points[0], candidates=(a, replace(b, name="b", speedup=speedup, operator_times=None)))
    assert list(summary(replace(made, points=(point,)))) == [sentence]


def test_a_busy_machine_is_said():
    made = result(sweep=False)
    known = made.provenance
    busy = replace(made, provenance=replace(known, machine=replace(known.machine, load=2.5)))
    line = "- the machine was busy (load 2.5 before the benchmark): its noise is larger than it need be"
    assert line in as_markdown(busy).splitlines()
    assert "busy" not in as_markdown(made)


def test_of_a_sweep_the_first_and_the_last_step_are_told():
    assert [sentence.split(",")[0] for sentence in summary(result())] == ["At seq 1"] * 3 + ["At seq 128"] * 3


@pytest.mark.parametrize(
    ("microseconds", "text"), [(1.25, "1.2 us"), (999.9, "999.9 us"), (1500, "1.50 ms"), (2.5e6, "2.50 s")]
)
def test_latencies_have_a_unit_that_can_be_read(microseconds, text):
    assert duration(microseconds) == text


def test_a_ratio_that_is_not_1_is_not_shown_as_1():
    assert [ratio(value) for value in (1, 1.004, 0.9961, 1.01, 2)] == ["1.00", "1.0040", "0.9961", "1.01", "2.00"]


def test_a_result_is_the_same_when_it_is_read_back(tmp_path):
    file = tmp_path / "run.json"
    file.write_text(json.dumps(to_dict(result()), allow_nan=False))
    again = read(file)
    assert again.points[0].candidates == result().points[0].candidates
    assert json.loads(json.dumps(to_dict(again))) == json.loads(file.read_text())
    assert json.loads(file.read_text())["points"][0]["candidates"][1]["speedup"]["verdict"] == "faster"
    assert from_dict(to_dict(result())) == result()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "is not the result of a benchmark"),
        ('{"format": "rms-deploy bench 0"}', "has format 'rms-deploy bench 0', not 'rms-deploy bench 1'"),
        ('{"format": "rms-deploy bench 1"}', r"is damaged \(KeyError: 'points'\); run the benchmark again"),
        ('{"format": "rms-deploy bench 1", "points": []}', r"is damaged \(ValueError: it has no candidates\); run the"),
        (
            '{"format": "rms-deploy bench 1", "points": [{"candidates": [], "shapes": {}, "dims": {}}]}',
            r"is damaged \(ValueError: it has no candidates\); run the",
        ),
    ],
)
def test_a_file_that_is_none_is_one_line(tmp_path, text, message):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read(tmp_path / "run.json")
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read(tmp_path / "missing.json")
