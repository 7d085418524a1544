"""`rms-deploy bench-op`: the table and the JSON."""

from __future__ import annotations

import json

from click.testing import CliRunner

from rms_deploy.cli.main import rms_deploy

QUICK = ("--shape", "4x64", "--dtype", "float32", "--op", "norm", "--rounds", "1", "--duration", "0.01")


def invoke(*arguments):
    return CliRunner().invoke(rms_deploy, ["bench-op", *QUICK, *arguments], catch_exceptions=False)


def test_a_row_for_each_kernel_and_how_it_was_measured():
    result = invoke("--kernel", "ours", "--kernel", "ort RMSNormalization")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split() == [
        "op",
        "dtype",
        "shape",
        "threads",
        "kernel",
        "us",
        "GB/s",
        "copies",
        "x",
        "best",
        "other",
    ]
    assert lines[1].split()[:5] == ["norm", "float32", "4x64", "1", "ours"]
    assert any(line.split()[4:6] == ["ort", "RMSNormalization"] and line.endswith("1.00") for line in lines)
    assert "in float32 the rounding orders are one" in result.stdout
    assert "1 rounds in turns" in result.stdout


def test_json():
    data = json.loads(invoke("--kernel", "ours", "--json").stdout)
    ours = next(timing for timing in data["timings"] if timing["kernel"] == "ours")
    assert ours["copies"] > 0
    assert ours["case"]["shape"] == [4, 64]


def test_an_unknown_kernel_is_one_line():
    result = invoke("--kernel", "nobody")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: kernel 'nobody' is not known; use 'ours', 'ours, round first'")
