"""Every instruction-set level that this machine has gives the same bits, and `RMS_DEPLOY_ISA` names them."""

from __future__ import annotations

import os

import pytest

from rms_deploy.libraries import onnxruntime_library

from ..kernels.cpu.levels import LEVELS, X86, has
from .portable_cases import all_cases, assert_expected, results, run_cases, write_cases


@pytest.fixture(scope="module")
def cases():
    return all_cases()


@pytest.fixture(scope="module")
def lowest(cases, tmp_path_factory):
    """Folder with the results of the lowest level."""
    folder = tmp_path_factory.mktemp("levels") / LEVELS[0]
    write_cases(folder, cases)
    done = run_cases(folder, onnxruntime_library(), {**os.environ, "RMS_DEPLOY_ISA": LEVELS[0]})
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("level", [*LEVELS, ""])
def test_levels_agree(level, cases, lowest, tmp_path):
    if not has(level):
        pytest.skip(f"this CPU has no {level}")
    write_cases(tmp_path / "cases", cases)
    done = run_cases(tmp_path / "cases", onnxruntime_library(), {**os.environ, "RMS_DEPLOY_ISA": level})
    assert done.returncode == 0, done.stderr
    for name, case in cases.items():
        model, _, expected = case
        actual = results(tmp_path / "cases", name, expected)
        reference = results(lowest, name, expected)
        assert_expected(case, actual)
        for output, array in actual.items():
            assert array.tobytes() == reference[output].tobytes(), f"{name} {output} {model.graph.node[0].op_type}"


@pytest.mark.parametrize(
    ("level", "text"), [("sse9", "RMS_DEPLOY_ISA is not"), ("avx512", "the CPU lacks the instructions")]
)
def test_a_level_that_cannot_be_had_is_refused(level, text, tmp_path):
    if level == "avx512" and (not X86 or has("avx512")):
        pytest.skip("this CPU has avx512, or is of another family")
    write_cases(tmp_path / "none", {})
    done = run_cases(tmp_path / "none", onnxruntime_library(), {**os.environ, "RMS_DEPLOY_ISA": level})
    assert done.returncode == 1
    assert f"rms_deploy: {text}" in done.stderr
