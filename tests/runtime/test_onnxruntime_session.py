"""Sessions, runs with bfloat16, and errors that name what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

import rms_deploy
from rms_deploy.errors import InputError, InstallationError, ModelFileError, RunError
from rms_deploy.runtime import onnxruntime_session as runtime


def one_node(op="RMSNorm", domain="rms_deploy", dtype=TensorProto.FLOAT, **attributes):
    node = helper.make_node(op, ["X", "scale"], ["Y"], name="norm", domain=domain, **attributes)
    inputs = [helper.make_tensor_value_info("X", dtype, ["n", 8]), helper.make_tensor_value_info("scale", dtype, [8])]
    graph = helper.make_graph([node], "one_node", inputs, [helper.make_tensor_value_info("Y", dtype, ["n", 8])])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(domain, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def feeds(dtype=np.float32):
    return {"X": np.arange(16).reshape(2, 8).astype(dtype), "scale": np.ones(8, dtype)}


def test_the_library_is_there():
    assert rms_deploy.onnxruntime_library().is_file()
    assert rms_deploy.onnxruntime_library().is_absolute()


def test_a_missing_library_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(rms_deploy, "__path__", [str(tmp_path)])
    with pytest.raises(InstallationError, match=r"librms_deploy_onnxruntime\.so is not built; .*pip install"):
        runtime.onnxruntime_library()


def test_every_kind_of_model(tmp_path):
    model = one_node()
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    results = [
        runtime.run(rms_deploy.session(kind), feeds())["Y"].tobytes()
        for kind in (model, model.SerializeToString(), path, str(path), ir.from_proto(model))
    ]
    assert len(set(results)) == 1


def test_a_provider_that_is_not_there_is_named():
    with pytest.raises(InstallationError, match=r"has no NoSuchProvider, only .*CPUExecutionProvider"):
        rms_deploy.session(one_node(), provider="NoSuchProvider")


def test_a_provider_that_does_not_start_is_not_replaced_by_the_cpu(monkeypatch):
    """ONNX Runtime would go on on the CPU; a session without the provider stands for that."""
    monkeypatch.setattr(runtime.ort, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(runtime.ort, "InferenceSession", lambda *_, **__: SimpleNamespace(get_providers=list))
    with pytest.raises(InstallationError, match="CUDAExecutionProvider does not start here; "):
        rms_deploy.session(one_node(), provider="CUDAExecutionProvider")


def test_the_node_stays_in_the_optimised_graph(tmp_path):
    runtime.session(one_node(), optimized_path=tmp_path / "optimized.onnx")
    nodes = onnx.load(tmp_path / "optimized.onnx").graph.node
    assert [(node.domain, node.op_type) for node in nodes] == [("rms_deploy", "RMSNorm")]


@pytest.mark.parametrize("optimize", [False, True])
def test_optimisation_is_optional(optimize, tmp_path):
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"]), helper.make_node("Neg", ["y"], ["z"])],
        "identity",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    runtime.session(model, optimize=optimize, library=False, optimized_path=tmp_path / "optimized.onnx")
    nodes = onnx.load(tmp_path / "optimized.onnx").graph.node
    assert [node.op_type for node in nodes] == (["Neg"] if optimize else ["Identity", "Neg"])


@pytest.mark.parametrize("in_order", [False, True])
def test_nodes_may_run_in_the_order_of_the_file(in_order, tmp_path):
    """By default ONNX Runtime casts both weights first, and holds them."""
    text = """<ir_version: 8, opset_import: ["" : 18]>
        g (float[2,2] x, float16[2,2] v, float16[2,2] w) => (float[2,2] y)
        { a = Cast<to=1>(v) b = MatMul(x, a) c = Cast<to=1>(w) y = MatMul(b, c) }"""
    model = onnx.parser.parse_model(text)
    session = runtime.session(model, optimize=False, library=False, in_order=in_order, profile_prefix=tmp_path / "p")
    weight = np.eye(2, dtype=np.float16)
    runtime.run(session, {"x": np.eye(2, dtype=np.float32), "v": weight, "w": weight})
    events = json.loads(Path(session.end_profiling()).read_text())
    ran = [event["args"]["op_name"] for event in events if event["name"].endswith("_kernel_time")]
    assert (ran == ["Cast", "MatMul", "Cast", "MatMul"]) == in_order


def test_a_profile_is_written(tmp_path):
    session = runtime.session(one_node(), profile_prefix=tmp_path / "profile")
    runtime.run(session, feeds())
    assert "RMSNorm" in Path(session.end_profiling()).read_text()


def test_threads():
    assert runtime.session(one_node(), threads=2).get_session_options().intra_op_num_threads == 2
    with pytest.raises(InputError, match="threads is 0; use at least 1"):
        runtime.session(one_node(), threads=0)


@pytest.mark.parametrize("shape", [(2, 8), (0, 8)])
def test_bfloat16_goes_in_and_comes_out(shape):
    x = np.random.default_rng(0).standard_normal(shape).astype(ml_dtypes.bfloat16)
    session = runtime.session(one_node(dtype=TensorProto.BFLOAT16))
    out = runtime.run(session, {"X": x, "scale": np.ones(8, ml_dtypes.bfloat16)})
    assert list(out) == ["Y"]
    assert (out["Y"].dtype, out["Y"].shape) == (ml_dtypes.bfloat16, shape)
    wide = x.astype(np.float64)
    expected = wide / np.sqrt(np.mean(wide**2, axis=-1, keepdims=True) + 1e-6)
    # One rounding to 8 bits.
    np.testing.assert_allclose(out["Y"].astype(np.float64), expected, rtol=2.0**-8)


def identity(dtype):
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "identity",
        [helper.make_tensor_value_info("x", dtype, None)],
        [helper.make_tensor_value_info("y", dtype, None)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


@pytest.mark.parametrize("direct", [True, False], ids=["from-memory", "through-a-cast"])
def test_every_bfloat16_passes_unchanged(direct, monkeypatch):
    """Both ways to a bfloat16 value: the second is that of onnxruntime 1.18 and 1.19."""
    if not direct:
        monkeypatch.delattr(runtime.ort.OrtValue, "ortvalue_from_numpy_with_onnx_type")
    bits = np.arange(65536, dtype=np.uint16)
    values = bits.view(ml_dtypes.bfloat16)
    number = ~np.isnan(values.astype(np.float32))
    session = runtime.session(identity(TensorProto.BFLOAT16))
    for given in (values, np.stack([values, values], axis=1)[:, 0], values.reshape(256, 256).T):
        y = runtime.run(session, {"x": given})["y"]
        assert y.shape == given.shape
        same = y.view(np.uint16) == np.ascontiguousarray(given).view(np.uint16)
        assert (same | np.isnan(given.astype(np.float32))).all()
    assert number.sum() > 65000


def test_float8_comes_out():
    values = np.array([[0.0, -1.5, 448.0], [2**-9, 17.0, 1e6]], np.float32)
    expected = np.array([[0.0, -1.5, 448.0], [2**-9, 16.0, 448.0]])
    nodes = [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT8E4M3FN)]
    ends = [helper.make_tensor_value_info("x", 1, None), helper.make_tensor_value_info("y", 17, None)]
    graph = helper.make_graph(nodes, "cast", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    y = runtime.run(runtime.session(model), {"x": values})["y"]
    assert y.dtype == ml_dtypes.float8_e4m3fn
    np.testing.assert_array_equal(y.astype(np.float64), expected)


def test_a_bfloat16_scalar():
    y = runtime.run(runtime.session(identity(TensorProto.BFLOAT16)), {"x": np.array(1.5, ml_dtypes.bfloat16)})["y"]
    assert (y.shape, float(y)) == ((), 1.5)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"X": feeds()["X"]}, r"Required inputs \(\['scale'\]\) are missing from input feed \(\['X'\]\)\."),
        ({**feeds(), "extra": np.ones(1, np.float32)}, "Invalid input name: extra"),
        ({**feeds(), "X": np.ones((2, 8))}, r"Unexpected input data type\. Actual: \(tensor\(double\)\)"),
        ({**feeds(), "X": np.ones(8, np.float32)}, "Invalid rank for input: X Got: 1 Expected: 2"),
    ],
)
def test_wrong_inputs_are_one_line(given, text):
    with pytest.raises(RunError, match=text) as error:
        runtime.run(runtime.session(one_node()), given)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ModelFileError, match=r"nothing\.onnx: no such file"):
        runtime.session(tmp_path / "nothing.onnx")


def test_a_file_that_is_no_model_is_named(tmp_path):
    path = tmp_path / "text.onnx"
    path.write_text("not a model")
    with pytest.raises(RunError, match=r"text\.onnx: .*[Pp]rotobuf parsing failed"):
        runtime.session(path)


def test_missing_external_data_is_named(tmp_path):
    model = identity(TensorProto.FLOAT)
    model.graph.node[0].input[0] = "w"
    tensor = helper.make_tensor("w", TensorProto.FLOAT, [4096], np.ones(4096, np.float32).tobytes(), raw=True)
    model.graph.initializer.append(tensor)
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(RunError, match=r"model\.onnx: .*weights\.bin") as error:
        runtime.session(path)
    assert "\n" not in str(error.value)


def test_our_op_without_the_library_says_what_to_do():
    with pytest.raises(RunError, match=r"^one_node: op rms_deploy::RMSNorm is unknown to onnxruntime .* custom-op lib"):
        runtime.session(one_node(), library=False)


def test_an_op_of_others_is_named():
    with pytest.raises(
        RunError, match=r"^one_node: op somewhere::Magic is unknown to onnxruntime .* library of that op"
    ):
        runtime.session(one_node("Magic", "somewhere"))


def test_a_refused_node_is_one_line():
    with pytest.raises(
        RunError, match=r"^one_node: RMSNorm node 'norm': epsilon is -1; use a finite number, at least 0$"
    ):
        runtime.session(one_node(epsilon=-1.0))


def test_without_onnxruntime_the_pip_command_is_given():
    program = (
        "import sys; sys.modules['onnxruntime'] = None\n"
        "import rms_deploy\n"
        "from rms_deploy.errors import MissingDependencyError\n"
        "try: rms_deploy.session\n"
        "except MissingDependencyError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "run: pip install onnxruntime (or onnxruntime-gpu, never both)" in done.stdout
