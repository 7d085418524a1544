"""Markdown for people, CSV for spreadsheets."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest

from rms_deploy.benchmark.report.table import as_csv, as_markdown, failures, header, provenance, rows
from rms_deploy.benchmark.result import CandidateResult
from rms_deploy.benchmark.result_file import from_dict
from rms_deploy.benchmark.server_times import ServerTimes

from ..made_result import result


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


def test_a_busy_machine_is_said():
    made = result(sweep=False)
    known = made.provenance
    busy = replace(made, provenance=replace(known, machine=replace(known.machine, load=2.5)))
    line = "- the machine was busy (load 2.5 before the benchmark): its noise is larger than it need be"
    assert line in as_markdown(busy).splitlines()
    assert "busy" not in as_markdown(made)


def elsewhere(made, *loads):
    """The points of a result as a sweep over machines has them, each on a node that was so busy."""
    known = made.provenance
    nodes = [replace(known, machine=replace(known.machine, gpus=("a GPU",), load=load)) for load in loads]
    points = [replace(p, part="m.onnx", provenance=node) for p, node in zip(made.points, nodes, strict=True)]
    return replace(made, points=tuple(points))


def test_each_row_has_the_machine_of_its_point():
    swept = elsewhere(result(), 0.1, 0.1, 0.1)
    hardware = "a processor, 2 of 2 cores, a GPU"
    assert {row[2] for row in rows(swept)} == {hardware}
    assert header(swept)[2] == "machine"
    assert {row[2] for row in rows(result())} == {""}
    (_, where) = provenance(swept)
    assert where == f"3 of 3 points on {hardware}; python 3.11, onnxruntime 1.32.0"
    first = next(csv.DictReader(io.StringIO(as_csv(swept))))
    assert (first["at"], first["machine"]) == ("m.onnx, seq 1", hardware)
    assert next(csv.DictReader(io.StringIO(as_csv(result()))))["machine"] == "a processor, 2 of 2 cores"


def test_a_node_is_busy_beyond_the_load_of_the_point_before():
    assert not any("busy" in line for line in failures(elsewhere(result(), 0.1, 1.4, 1.4)))
    (line,) = (line for line in failures(elsewhere(result(), 0.1, 1.6, 3.0)) if "busy" in line)
    assert line == "the machines of 2 of 3 points were busy (load up to 3.0): their noise is larger than it need be"


def test_what_a_server_counts_stands_in_columns_of_its_own():
    made = result(sweep=False)
    (point,) = made.points
    first, second, *others = point.candidates
    times = ServerTimes(100, queue=12.5, compute=2500.0, batched=3.2)
    made = replace(made, points=(replace(point, candidates=(first, replace(second, server=times), *others)),))
    lines = as_markdown(made).splitlines()
    assert any("| runs/s | queue | compute | batched | times faster |" in line for line in lines)
    assert any("| 12.5 us | 2.50 ms | 3.2 |" in line for line in lines)
    rows = list(csv.DictReader(io.StringIO(as_csv(made))))
    names = ("server_queue_us", "server_compute_us", "server_batched")
    assert [[row[name] for name in names] for row in rows[:2]] == [["", "", ""], ["12.5", "2500.0", "3.2"]]
    assert from_dict(json.loads(json.dumps(made.to_dict()))).candidates[1].server == times


def test_a_note_is_said_once():
    made = result()
    noted = [replace(p, candidates=tuple(replace(c, note="a note") for c in p.candidates)) for p in made.points]
    lines = list(failures(replace(made, points=tuple(noted))))
    assert len(made.points) > 1
    assert lines.count("fused: a note") == 1


def test_fewer_launches_than_asked_for_are_said():
    made = result(sweep=False)
    asked = replace(made, method=replace(made.method, launches=9, rounds=8))
    line = "measured in 5 of 9 launches of 2 of 8 rounds: a run takes long"
    assert line in list(failures(asked))
    limited = replace(asked, method=replace(asked.method, max_time=60.0))
    assert f"{line}, or `max_time` was over" in list(failures(limited))
    assert not any("launches" in text for text in failures(made))


def test_a_second_copy_that_failed_is_said():
    made = result(sweep=False)
    again = CandidateResult("<m&1>.onnx", name="decomposed (A/A)", failure="no memory")
    made = replace(made, points=(replace(made.points[0], again=again),))
    assert "decomposed (A/A) failed, so the noise is not known: no memory" in list(failures(made))
    assert from_dict(json.loads(json.dumps(made.to_dict()))) == made
