"""What the README says is so: its Python block runs, its commands and links exist. CI runs its two shell commands."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from rms_deploy.cli import main
from rms_deploy.ops import contract

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


@pytest.mark.slow
def test_python_block_runs(tmp_path: Path) -> None:
    (block,) = re.findall(r"```python\n(.+?)```", README, re.DOTALL)
    subprocess.run([sys.executable, "-c", block], cwd=tmp_path, check=True)
    assert (tmp_path / "fused.onnx").exists()


def test_commands_exist() -> None:
    named = set(re.findall(r"(?:`|&& )rms-deploy (\w+)", README))
    assert {"export", "fuse", "verify", "bench", "inspect", "demo"} <= named
    for name in named:
        assert name in main._COMMANDS, name


def test_options_exist() -> None:
    """Every --option in the table of commands is one of the command in its row, or of all of them."""
    for name, text in re.findall(r"^\| `rms-deploy (\w+)[^|]*\|([^|]+)\|$", README, re.MULTILINE):
        help_text = CliRunner().invoke(main.rms_deploy, [name, "--help"], catch_exceptions=False).output
        for option in re.findall(r"`(--[a-z-]+)", text):
            assert option in help_text, (name, option)


def test_links_exist() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_ops_and_attributes_are_those_of_the_contract() -> None:
    for op in contract.OPS.values():
        inputs, outputs = (", ".join(f"{n}: {t}" for n, t in names) for names in (op.inputs, op.outputs))
        assert f"{op.name}({inputs}) -> {outputs}" in README
        for attribute in op.attributes:
            assert f"| `{attribute.name}` |" in README


def test_the_table_of_fusers_is_the_committed_result() -> None:
    """Its columns are those of the whole table, with the graphs that have no norm added to wrong and invalid."""

    def rows(text: str) -> dict[str, list[str]]:
        lines = re.findall(r"^\| ([^|(][^|]*?) \| (\d[^|]*) \|(.+)\|$", text, re.MULTILINE)
        return {name: [version, *cells.replace(" ", "").split("|")] for name, version, cells in lines}

    (section,) = re.findall(r"## What is fused, beside other fusers\n(.+?)\n## ", README, re.DOTALL)
    whole = (ROOT / "benchmarks/fusion/results/compare.md").read_text()
    graphs = re.findall(r"\d+", whole)[:2]
    assert re.findall(r"(\d+) (?:small graphs|that only)", section) == graphs
    expected = {}
    for name, (version, *cells) in rows(whole).items():
        right, missed, wrong, broken, crash, _, other_wrong, other_broken, other_crash = map(int, cells)
        invalid = broken + crash + other_broken + other_crash
        expected[name] = [version, str(right), str(missed), str(wrong + other_wrong), str(invalid)]
    assert rows(section) == expected
    assert {"rms-deploy", "ONNX Runtime", "onnxsim", "onnxslim", "OpenVINO"} <= set(expected)


def test_the_gains_of_models_are_the_committed_result() -> None:
    """A ratio is named only where the two intervals lie apart."""
    models = json.loads((ROOT / "benchmarks/paper/results/latency.json").read_text())["models"]
    expected = []
    for measured in models.values():
        before, after = (measured[f"rmsnorm, {form}"]["milliseconds"] for form in ("decomposed", "one op"))
        apart = after[2] < before[1] or before[2] < after[1]
        cells = (f"{median:.2f} ({low:.2f} ... {high:.2f})" for median, low, high in (before, after))
        expected.append((*cells, f"{before[0] / after[0]:.2f}x" if apart else "within the noise"))
    cell = r"(\d+\.\d\d \([\d. ]+\))"
    assert sorted(re.findall(rf"^\| [^|]+ \| {cell} \| {cell} \| ([^|]+) \|$", README, re.MULTILINE)) == sorted(
        expected
    )


def test_what_is_supported_is_what_the_tests_do() -> None:
    """Each cell holds the dtypes X of which a test has in its name, with the op or what stands for it."""
    files = [
        "onnxruntime/test_op.py",
        "onnxruntime/test_gate.py",
        "onnxruntime/test_shift_and_sum.py",
        "onnxruntime/test_quantize.py",
        "tensorrt/test_build.py",
        "kernels/cuda/test_kernels.py",
    ]
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", *(f"tests/plugins/{file}" for file in files)]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    patterns = {
        "RMSNorm": (r"::test_rms_norm\[{}", r"::test_a_node_builds_\w+\[{}-\w+-RMSNorm", r"float64\[cpu-lengths-{}"),
        "PartialRMSNorm": (
            r"::test_partial_rms_norm\[{}",
            r"::test_a_node_builds_\w+\[{}-\w+-PartialRMSNorm",
            r"float64\[cpu-partial-{}",
        ),
        "AddRMSNorm": (
            r"::test_add_rms_norm\[{}",
            r"::test_a_node_builds_\w+\[{}-\w+-AddRMSNorm",
            r"float64\[cpu-in_place-{}",
        ),
    }
    for op in ("RMSNorm", "PartialRMSNorm", "AddRMSNorm"):
        patterns[f"{op}Reciprocal"] = (
            rf"::test_a_rounded_reciprocal\[[a-z-]+-{op}-{{}}",
            rf"::test_a_node_builds_\w+\[{{}}-\w+-{op}Reciprocal",
            r"float64\[cpu-reciprocal-{}",
        )
    for op in (op.name for op in contract.OPS.values() if op.is_gated):
        patterns[op] = (
            rf"test_gate.py::test_against_the_reference\[{{}}-[\w-]+-{op}\]",
            rf"::test_a_node_builds_\w+\[{{}}-\w+-{op}",
            r"float64\[cpu-gates-{}",
        )
    for op in contract.OPS.keys() - patterns.keys():
        patterns[op] = (
            rf"test_quantize\.py::\w+\[[\w-]+-{op}-\('{{}}'"
            if contract.OPS[op].is_quantized
            else rf"test_shift_and_sum\.py::test_against_the_reference\[{{}}-[\w-]+-{op}-",
            rf"::test_a_node_builds_\w+\[{{}}-\w+-{op}",
            r"float64\[cpu-kinds-{}",
        )
    several_rows = "with a scale of several rows"
    patterns[several_rows] = (
        r"test_op.py::test_a_scale_of_several_rows\[{}",
        r"test_build.py::test_a_scale_of_several_rows\[{}",
        r"float64\[cpu-scale_rows-{}",
    )
    for op in (*contract.OPS, several_rows):
        cells = (
            ", ".join(dtype for dtype in contract.ELEMENT_TYPES if re.search(pattern.format(dtype), names))
            for pattern in patterns[op]
        )
        assert f"| {op} | {' | '.join(cells)} |" in README
