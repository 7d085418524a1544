"""What a server loads: ONNX models; and engines by their records, made by hand, as TensorRT builds none here."""

from __future__ import annotations

import json

import ml_dtypes
import numpy as np
import onnx
import pytest

from rms_deploy.deployment import sources
from rms_deploy.deployment.sources import EngineSource, OnnxSource
from rms_deploy.errors import InputError, InstallationError, ModelFileError
from rms_deploy.onnx_model.file import load_model

RECORD = {
    "runtime": "tensorrt",
    "inputs": {"x": {"dtype": "bfloat16", "shape": ["batch", 8]}},
    "outputs": {"y": {"dtype": "float32", "shape": ["batch", None]}},
    "optimization_profiles": [{"x": {"min": [1, 8], "opt": [2, 8], "max": [4, 8]}}],
    "plugin": None,
}


def engine(path, **record):
    path.write_bytes(b"plan")
    (path.parent / f"{path.name}.json").write_text(json.dumps({**RECORD, **record}))
    return path


@pytest.fixture
def plugins(tmp_path, monkeypatch):
    """The plugin library and its loader."""
    paths = tmp_path / "lib.so", tmp_path / "librms_deploy_tensorrt_loader.so"
    for path in paths:
        path.touch()
    monkeypatch.setattr(sources, "tensorrt_library", lambda: paths[0])
    return paths


def test_a_fused_model_brings_its_library(norm):
    source = OnnxSource(norm, "onnxruntime")
    (library,) = source.libraries
    assert source.op_library == library.name == "librms_deploy_onnxruntime.so"
    assert [spec.describe() for spec in (*source.inputs, *source.outputs)] == ["float32[batch,8]"] * 2
    assert source.shapes({}, {"batch": 3}) == {"x": (3, 8)}
    assert source.server_options("/models/m") == ()


def test_neither_a_plain_model_nor_the_python_backend_needs_it(norm, write):
    for source in (OnnxSource(write(), "onnxruntime"), OnnxSource(norm, "python")):
        assert (source.libraries, source.op_library) == ((), None)


@pytest.mark.parametrize("backend", ["onnxruntime", "python"])
def test_external_data_travels(tmp_path, norm, backend):
    model = onnx.load(norm)
    (weight,) = model.graph.initializer
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight), "w"))  # as raw data
    onnx.save(model, norm, save_as_external_data=True, location="weights.bin", size_threshold=0)
    folder = tmp_path / "version"
    folder.mkdir()
    OnnxSource(norm, backend).write(folder)
    norm.unlink()
    (tmp_path / "weights.bin").unlink()
    names = {"model.onnx", "model.onnx.data"} | ({"model.py"} if backend == "python" else set())
    assert {path.name for path in folder.iterdir()} == names
    weight = load_model(folder / "model.onnx").graph.initializers["w"].const_value
    assert np.array_equal(weight.numpy(), np.arange(1, 9, dtype=np.float32))


def test_norms_that_are_not_fused_are_said(tmp_path, caplog):
    text = (
        '<ir_version: 8, opset_import: ["" : 18]> g (float[b,8] x) => (float[b,8] y) '
        "<float e = {1e-6}, int64[1] last = {-1}> { s = Mul(x, x) m = ReduceMean(s, last) a = Add(m, e) r = Sqrt(a) "
        "y = Div(x, r) }"
    )
    onnx.save(onnx.parser.parse_model(text), tmp_path / "plain.onnx")
    OnnxSource(tmp_path / "plain.onnx", "onnxruntime")
    assert "1 norms are not fused; run `rms_deploy.fuse` first" in caplog.text


def test_an_engine_is_what_its_record_says(tmp_path):
    source = EngineSource(engine(tmp_path / "e.engine"))
    assert [spec.describe() for spec in (*source.inputs, *source.outputs)] == ["bfloat16[batch,8]", "float32[batch,?]"]
    assert source.inputs[0].dtype == ml_dtypes.bfloat16
    assert (source.libraries, source.op_library, source.server_options("/models/m")) == ((), None, ())
    assert (source.profile_count, source.largest_batch) == (1, 4)
    assert source.shapes({}, {}) == {"x": (2, 8)}
    assert source.shapes({"x": [3, 8]}, {}) == {"x": (3, 8)}
    folder = tmp_path / "version"
    folder.mkdir()
    source.write(folder)
    assert (folder / "model.plan").read_bytes() == b"plan"
    assert json.loads((folder / "model.plan.json").read_text()) == RECORD


def test_the_largest_batch_of_all_optimization_profiles(tmp_path):
    profiles = [
        {name: {"min": [1, 8], "opt": [1, 8], "max": [largest, 8]} for name, largest in maxima}
        for maxima in ([("x", 2), ("z", 8)], [("x", 5), ("z", 4)])
    ]
    source = EngineSource(engine(tmp_path / "e.engine", optimization_profiles=profiles))
    assert (source.profile_count, source.largest_batch) == (2, 4)


def test_a_plugin_in_the_engine_and_one_beside_it(tmp_path, plugins):
    inside = EngineSource(engine(tmp_path / "a.engine", plugin={"embedded": True}))
    assert (inside.libraries, inside.op_library) == ((), None)
    assert inside.server_options("/models/m") == ("--backend-config=tensorrt,version-compatible=true",)
    beside = EngineSource(engine(tmp_path / "b.engine", plugin={"embedded": False}))
    assert beside.libraries == plugins
    option = "--backend-config=tensorrt,plugins=/models/m/librms_deploy_tensorrt_loader.so"
    assert beside.server_options("/models/m") == (option,)


def test_a_plugin_library_without_its_loader(tmp_path, plugins):
    plugins[1].unlink()
    with pytest.raises(InstallationError, match=r"librms_deploy_tensorrt_loader.so is not beside .*; reinstall"):
        EngineSource(engine(tmp_path / "b.engine", plugin={"embedded": False}))


def test_what_is_no_such_engine_is_one_line(tmp_path, norm):
    with pytest.raises(ModelFileError, match="no such file"):
        EngineSource(tmp_path / "missing.engine")
    bare = tmp_path / "bare.engine"
    bare.touch()
    for model, message in (
        (norm, r"norm.onnx: the backend tensorrt takes an engine; make one with `rms_deploy.build`"),
        (onnx.load(norm), "the model: the backend tensorrt takes an engine"),
        (bare, "bare.engine.json beside it does not say its inputs; build it with this version"),
        (engine(tmp_path / "rtx.plan", runtime="tensorrt-rtx"), "rtx.plan: was built for tensorrt-rtx; the server's"),
    ):
        with pytest.raises(InputError, match=message):
            EngineSource(model)
    with pytest.raises(InputError, match=r'e\.engine: is an engine; give `backend="tensorrt"`'):
        OnnxSource(engine(tmp_path / "e.engine"), "onnxruntime")


def test_shapes_that_do_not_fit_an_engine(tmp_path):
    source = EngineSource(engine(tmp_path / "e.engine"))
    for shapes, dims, message in (
        ({"z": (1, 8)}, {}, "no input 'z'"),
        ({"x": (1, 9)}, {}, r"shape \[1, 9\] was given; the model takes bfloat16\[batch,8\]"),
        ({}, {"batch": 1}, "an engine has no named dimensions; give `shapes`"),
    ):
        with pytest.raises(InputError, match=message):
            source.shapes(shapes, dims)
