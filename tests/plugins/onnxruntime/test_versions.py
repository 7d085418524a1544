"""One library in every onnxruntime from 1.18 on: the oldest that this Python has, one between, and the newest."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from rms_deploy.libraries import onnxruntime_library
from rms_deploy.ops.contract import OPS, QUANTIZED_TYPES
from rms_deploy.ops.functions import attach_functions
from rms_deploy.ops.reference import outputs_of
from rms_deploy.ops.ulp import ulp_distance

from .one_node import node_model, op_inputs
from .portable_cases import all_cases, assert_expected, behind_casts, results, run_cases, write_cases

pytestmark = [pytest.mark.network, pytest.mark.slow]

OLDEST = (1, 18)


def pip(*arguments):
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


def available():
    """The releases that pip offers this Python, oldest first. It lists them when it cannot find the one asked for."""
    listed = re.search(r"from versions: (.*)\)", pip("download", "--no-deps", "onnxruntime==0").stderr)
    assert listed is not None
    releases = [version for version in listed[1].split(", ") if re.fullmatch(r"\d+\.\d+\.\d+", version)]
    return sorted(tuple(map(int, version.split("."))) for version in releases)


@pytest.fixture(scope="module")
def releases():
    newer = [release for release in available() if release >= OLDEST]
    return {"oldest": newer[0], "between": newer[len(newer) // 2], "newest": newer[-1]}


@pytest.fixture(scope="module", params=["oldest", "between", "newest"])
def environment(request, releases, tmp_path_factory):
    """The environment of a process that finds that onnxruntime first."""
    release = releases[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    numpy = ["numpy<2"] if release < (1, 19) else []  # 1.18 is compiled for numpy 1
    done = pip("install", "--target", str(folder), f"onnxruntime=={'.'.join(map(str, release))}", *numpy)
    assert done.returncode == 0, done.stderr
    return {**os.environ, "PYTHONPATH": str(folder)}, ".".join(map(str, release))


@pytest.fixture(scope="module")
def cases():
    return all_cases()


def test_the_library_loads_and_computes(environment, cases, tmp_path):
    variables, version = environment
    write_cases(tmp_path / "cases", cases)
    done = run_cases(tmp_path / "cases", onnxruntime_library(), variables)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == version
    for name, case in cases.items():
        assert_expected(case, results(tmp_path / "cases", name, case[2]))


def with_function(model: onnx.ModelProto) -> onnx.ModelProto:
    portable = ir.from_proto(behind_casts(model))
    attach_functions(portable)
    return ir.to_proto(portable)


@pytest.mark.parametrize("name", [name for name, op in OPS.items() if op.is_quantized])
def test_a_function_that_quantises_runs_our_kernel(environment, name, tmp_path):
    """Of bfloat16 the CPU provider has no kernels for the primitives: that it runs at all is the proof."""
    variables, _ = environment
    inputs = op_inputs(OPS[name], (9, 131), (131,), ("bfloat16", "bfloat16"))
    attributes = {"scale_type": 16, "y_scale": 0.03, "output_dtype": QUANTIZED_TYPES["int8"]}
    expected = dict(zip(("Y", "Sum"), outputs_of(OPS[name], inputs, **attributes), strict=False))
    case = node_model(name, inputs, **attributes), inputs, expected
    write_cases(tmp_path / "functions", {"quantized": case}, with_function)
    done = run_cases(tmp_path / "functions", onnxruntime_library(), variables)
    assert done.returncode == 0, done.stderr
    actual = results(tmp_path / "functions", "quantized", expected)
    assert np.mean(actual["Y"] != expected["Y"]) < 0.01


def test_the_function_runs_without_the_library(environment, cases, tmp_path):
    """bfloat16 is left out: the CPU provider has no kernels for its primitives. So are the first rows of the float32
    cases, whose squares overflow in primitives. float16 in the order that rounds twice may be rounded once, because
    ONNX Runtime drops pairs of casts: scale and quotient may each be half an ulp, up to 2 of the result, away.
    float32: four roundings more than the kernel's. With a gate: 1e-5 of the largest result more, as ONNX Runtime's
    Sigmoid is off by some 1e-7 however small it is, and a shut gate may stand beside an x a hundred times the usual.
    With a shift, which may cancel what is rounded before it: of |y| + |shift|.
    """
    variables, _ = environment
    plain = {name: case for name, case in cases.items() if "bfloat16" not in name}
    write_cases(tmp_path / "functions", plain, with_function)
    done = run_cases(tmp_path / "functions", None, variables)
    assert done.returncode == 0, done.stderr
    for name, (model, inputs, expected) in plain.items():
        actual = results(tmp_path / "functions", name, expected)
        if OPS[model.graph.node[0].op_type].is_gated:
            y = expected["Y"][1:].astype(np.float64)
            ulps = 8 * 2.0**-10 if expected["Y"].dtype == np.float16 else 16 * 2.0**-23
            error = np.abs(actual["Y"][1:].astype(np.float64) - y) - ulps * np.abs(y)
            assert error.max() <= 1e-5 * np.abs(y).max(), name
            continue
        if OPS[model.graph.node[0].op_type].is_shifted:
            y = expected["Y"][1:].astype(np.float64)
            ulps = 4 * 2.0**-10 if expected["Y"].dtype == np.float16 else 8 * 2.0**-23
            error = np.abs(actual["Y"][1:].astype(np.float64) - y)
            assert (error <= ulps * (np.abs(y) + np.abs(inputs["shift"].astype(np.float64)))).all(), name
            continue
        distance = ulp_distance(actual["Y"][1:], expected["Y"][1:])
        assert distance.max() <= (4 if expected["Y"].dtype == np.float16 else 7), name
