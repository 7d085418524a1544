"""docs/json.md names every field of a saved benchmark, no other, and the number of the format."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from rms_deploy.benchmark.device_times import DeviceTimes
from rms_deploy.benchmark.latency import Latency, Speedup
from rms_deploy.benchmark.method import Method
from rms_deploy.benchmark.operator_times import Operator, OperatorTimes
from rms_deploy.benchmark.provenance import Provenance
from rms_deploy.benchmark.result import FORMAT, BenchmarkResult, CandidateResult, Point
from rms_deploy.benchmark.server_times import ServerTimes
from rms_deploy.runtime.machine import Machine

PAGE = (Path(__file__).parents[2] / "docs" / "json.md").read_text()
SECTIONS = {
    "The document": (BenchmarkResult, {"format", "failed", "undecided"}),
    "A point": (Point, set()),
    "A candidate": (CandidateResult, set()),
    "A latency": (Latency, set()),
    "A speedup": (Speedup, {"verdict"}),
    "The operator times": (OperatorTimes, set()),
    "The method": (Method, set()),
    "The provenance": (Provenance, set()),
}
INLINE = {"server": ServerTimes, "device_times": DeviceTimes, "operators": Operator, "machine": Machine}


def rows(section: str) -> list[list[str]]:
    (text,) = re.findall(rf"^## {section}$(.+?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| `")]


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_names_every_field(section: str) -> None:
    kind, more = SECTIONS[section]
    named = [name for first, *_ in rows(section) for name in re.findall(r"`(\w+)`", first)]
    assert sorted(named) == sorted({field.name for field in fields(kind)} | more)


@pytest.mark.parametrize("name", INLINE)
def test_a_row_names_every_field_of_its_object(name: str) -> None:
    (text,) = (second for section in SECTIONS for first, second in rows(section) if f"`{name}`" in first)
    assert {field.name for field in fields(INLINE[name])} <= set(re.findall(r"`(\w+)`", text))


def test_the_number_of_the_format() -> None:
    assert f"This page describes format {FORMAT}." in PAGE
    assert f"| `format` | the number of the format, {FORMAT} |" in PAGE
