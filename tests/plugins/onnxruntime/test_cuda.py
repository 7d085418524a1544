"""The ops of ONNX Runtime's CUDA provider: compiled for the CPU and in the place of the CPU ops, always; on the GPU,
where there is one and an onnxruntime for it (pip install onnxruntime-gpu).

On a GPU also: compute-sanitizer --tool memcheck python -m pytest -m gpu tests/plugins/onnxruntime/test_cuda.py
"""

from __future__ import annotations

import ctypes
import json
import subprocess
from pathlib import Path

import onnxruntime as ort
import pytest

from rms_deploy.errors import RunError
from rms_deploy.ops.contract import OPS
from rms_deploy.ops.reference import add_rms_norm, gated_rms_norm, rms_norm
from rms_deploy.runtime import onnxruntime_session as runtime
from rms_deploy.runtime.gpus import gpus

from ..kernels.cuda import cases
from ..kernels.cuda.compiling import PLUGINS, compiled_for_cpu
from .one_node import assert_close, node_model, run_node, samples, scale_type, weights
from .portable_cases import all_cases, assert_expected

pytestmark = pytest.mark.slow

PROVIDER = "CUDAExecutionProvider"

SMALL = {"X": samples((2, 8), "float32"), "scale": weights((8,), "float32")}


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """The shell and the CUDA kernels, compiled by g++."""
    folder = tmp_path_factory.mktemp("cuda_on_cpu")
    exports = folder / "exports.map"
    exports.write_text("{ global: RegisterCustomOps; local: *; };")
    shell = [PLUGINS / "onnxruntime" / f"{name}.cpp" for name in ("attributes", "cuda", "kernel", "op", "register")]
    sources = [*PLUGINS.glob("*.cpp"), *shell, Path(__file__).with_name("cuda_on_cpu.cpp")]
    options = ["-O1", "-Wl,-z,nodelete", f"-Wl,--version-script={exports}"]
    return compiled_for_cpu(folder / "cuda_on_cpu.so", *sources, *options)


def test_the_built_library_links_to_nothing_of_cuda():
    built = str(runtime.onnxruntime_library())
    symbols = subprocess.run(["nm", "-D", "--defined-only", built], capture_output=True, text=True, check=True).stdout
    assert [line.split()[-1] for line in symbols.splitlines()] == ["RegisterCustomOps"]
    dynamic = subprocess.run(["readelf", "-d", built], capture_output=True, text=True, check=True).stdout
    needed = {line.split("[")[1].split(".so")[0] for line in dynamic.splitlines() if "(NEEDED)" in line}
    assert needed <= {"libc", "libm", "libdl", "libpthread", "librt", "ld-linux-x86-64", "ld-linux-aarch64"}


@pytest.fixture
def on_cpu(library, monkeypatch):
    monkeypatch.setattr(runtime, "onnxruntime_library", lambda: library)
    return ctypes.CDLL(str(library.with_name("libcuda.so")))


CASES = all_cases()


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize("op", ["RMSNorm", "PartialRMSNorm", "AddRMSNorm"])
@pytest.mark.parametrize("view", [((3, 136), [1]), ((5, 37), [-1]), ((2, 19, 12), [1])], ids=["row", "odd", "columns"])
def test_against_float64(op, view, types, round_before_scale):
    shape, axes = view
    x, r = samples(shape, types[0]), samples(shape, types[0], seed=2)
    scale = weights(shape[1:2] + (1,) * (len(shape) - 2), types[1])
    partial = {"partial_size": 11} if op == "PartialRMSNorm" else {}
    inputs = {"X": x, **({"R": r} if op == "AddRMSNorm" else {}), "scale": scale}
    order = {"scale_type": scale_type(types[0], round_before_scale)}
    out = run_node(op, inputs, axes=axes, **partial, **order)
    options = {"axes": axes, "round_before_scale": round_before_scale, **partial}
    if op == "AddRMSNorm":
        expected, total = add_rms_norm(x, r, scale, **options)
        assert out["Sum"].tobytes() == total.tobytes()
    else:
        expected = rms_norm(x, scale, **options)
    assert_close(out["Y"], expected, round_before_scale=round_before_scale, on_gpu=True)


GATED = [name for name, op in OPS.items() if op.is_gated]


def gated_case(op, types, round_before_scale, shape=(6, 136)):
    """Model, inputs and Y; the scale has a row for each of two groups."""
    x, z, scale = samples(shape, types[0]), cases.gates(shape, types[0]), weights((2, 1, shape[-1]), types[1])
    inputs = {name: a.reshape(2, 3, -1) for name, a in (("X", x), ("Z", z))} | {"scale": scale}
    options = {"gate": OPS[op].gate, "before": OPS[op].gates_first, "round_before_scale": round_before_scale}
    expected = gated_rms_norm(*inputs.values(), **options)
    return node_model(op, inputs, scale_type=scale_type(types[0], round_before_scale)), inputs, expected


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize("shape", [(6, 136), (6, 37), (6, 9000)], ids=["row", "odd", "long"])
@pytest.mark.parametrize("op", GATED)
def test_a_gate_against_float64(op, shape, types, round_before_scale):
    model, inputs, expected = gated_case(op, types, round_before_scale, shape)
    y = runtime.run(runtime.session(model), inputs)["Y"]
    cases.assert_close(y, expected, round_before_scale=round_before_scale, is_gated=True)


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize("name", [name for name in CASES if "-2d-" in name and name.endswith("-reciprocal")])
def test_a_rounded_reciprocal(name):
    model, inputs, _ = CASES[name]
    assert_expected(CASES[name], runtime.run(runtime.session(model), inputs), on_gpu=True)


def has_shift_or_wide_sum(name):
    model, inputs, _ = CASES[name]
    op = OPS[model.graph.node[0].op_type]
    return op.is_shifted or op.prologue == "AddFloat32" or (op.is_add and inputs["R"].dtype != inputs["X"].dtype)


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize("name", [name for name in CASES if has_shift_or_wide_sum(name)])
def test_a_shift_or_a_wide_sum(name):
    """A sum is wide that is float32 beside another X, or normalised as it is before it is rounded."""
    model, inputs, _ = CASES[name]
    assert_expected(CASES[name], runtime.run(runtime.session(model), inputs), on_gpu=True)


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize("shape", [(0, 8), (3, 0)], ids=str)
def test_an_empty_tensor(shape):
    inputs = {"X": samples(shape, "float16"), "scale": weights((shape[-1] or 1,), "float16")}
    assert run_node("RMSNorm", inputs)["Y"].shape == shape


@pytest.mark.usefixtures("on_cpu")
def test_a_float32_x_that_holds_16_bit_values_is_refused():
    """Only the CPU provider promotes nodes."""
    text = "scale_type is 10 and X is float32, which the CPU provider alone takes; use 1 \\(float32\\)"
    with pytest.raises(RunError, match=f"RMSNorm node 'norm': {text}"):
        run_node("RMSNorm", SMALL, scale_type=10)


@pytest.fixture
def broken(on_cpu):
    """Switches CUDA off."""
    yield lambda: on_cpu.set_multiprocessors(0)
    on_cpu.set_multiprocessors(4)


def test_an_error_of_cuda_is_that_of_the_session(broken):
    broken()
    with pytest.raises(RunError, match="RMSNorm node 'norm': the kernels cannot be loaded: invalid argument"):
        runtime.session(node_model("RMSNorm", SMALL))


def test_the_error_of_a_launch_is_that_of_the_run(broken):
    session = runtime.session(node_model("RMSNorm", SMALL))
    broken()
    with pytest.raises(RunError, match="RMSNorm node 'norm': the launch failed: invalid argument"):
        runtime.run(session, SMALL)


def cuda_session(model, folder):
    """Fails where a node would run on the CPU."""
    options = ort.SessionOptions()
    options.register_custom_ops_library(str(runtime.onnxruntime_library()))
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    return ort.InferenceSession(model.SerializeToString(), options, providers=[PROVIDER])


def providers_of(session):
    """Of each op that ran."""
    events = json.loads(Path(session.end_profiling()).read_text())
    arguments = [event["args"] for event in events if event["cat"] == "Node"]
    return {a["op_name"]: a["provider"] for a in arguments if "provider" in a}


def needs_a_gpu(test):
    has_provider = PROVIDER in ort.get_available_providers()
    test = pytest.mark.skipif(not has_provider, reason=f"this onnxruntime has no {PROVIDER}")(test)
    return pytest.mark.gpu(pytest.mark.skipif(not gpus(), reason="there is no GPU here")(test))


@needs_a_gpu
@pytest.mark.parametrize("name", CASES)
def test_on_a_gpu(tmp_path, name):
    model, inputs, _ = CASES[name]
    session = cuda_session(model, tmp_path)
    actual = runtime.run(session, inputs)
    assert providers_of(session) == {model.graph.node[0].op_type: PROVIDER}
    assert_expected(CASES[name], actual, on_gpu=True)


@needs_a_gpu
@pytest.mark.parametrize("op", GATED)
def test_a_gate_on_a_gpu(tmp_path, op, types, round_before_scale):
    model, inputs, expected = gated_case(op, types, round_before_scale)
    session = cuda_session(model, tmp_path)
    y = runtime.run(session, inputs)["Y"]
    assert providers_of(session) == {op: PROVIDER}
    cases.assert_close(y, expected, round_before_scale=round_before_scale, is_gated=True)
