"""Markdown for people, CSV for spreadsheets."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest

from rms_deploy.benchmark.report.table import as_csv, as_markdown

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
