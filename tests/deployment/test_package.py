"""Whole packages: what lies where, what the server is told, and one line for every mistake."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest

import rms_deploy
from rms_deploy.deployment import sources
from rms_deploy.deployment.engine_index import IndexedEngine, write_index
from rms_deploy.errors import InputError, InstallationError, ModelFileError, OutputError

from .made_config import parsed


def tree(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_for_the_onnxruntime_backend(tmp_path, norm):
    models = tmp_path / "models"
    result = rms_deploy.package(norm, models, max_batch_size=8, threads=2, warmup=True, dims={"batch": 3})
    assert tree(models) == ["norm/1/model.onnx", "norm/config.pbtxt", "norm/librms_deploy_onnxruntime.so"]
    assert sorted(result.files) == tree(models)
    assert result.command == ("tritonserver", f"--model-repository={models}")
    assert (result.name, result.version, result.backend, result.notes) == ("norm", 1, "onnxruntime", ())
    assert json.loads(json.dumps(result.to_dict()))["name"] == "norm"
    library = models / "norm" / "librms_deploy_onnxruntime.so"
    assert library.read_bytes() == rms_deploy.onnxruntime_library().read_bytes()
    read = parsed((models / "norm" / "config.pbtxt").read_text())
    assert list(read.model_operations.op_library_filename) == [str(library)]
    assert (read.backend, read.max_batch_size, read.model_warmup[0].batch_size) == ("onnxruntime", 8, 3)
    assert [(group.count, group.kind) for group in read.instance_group] == [(1, 2)]
    assert read.parameters["intra_op_thread_count"].string_value == "2"


def test_the_packaged_model_is_the_model(tmp_path, norm):
    rms_deploy.package(norm, tmp_path / "models")
    feeds = {"x": np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)}
    before, after = (
        rms_deploy.session(path).run(None, feeds)[0]
        for path in (norm, tmp_path / "models" / "norm" / "1" / "model.onnx")
    )
    assert np.array_equal(before, after)


def test_for_a_server_that_sees_the_repository_elsewhere(tmp_path, norm):
    result = rms_deploy.package(norm, tmp_path / "models", server_path="/models/")
    read = parsed((tmp_path / "models" / "norm" / "config.pbtxt").read_text())
    assert list(read.model_operations.op_library_filename) == ["/models/norm/librms_deploy_onnxruntime.so"]
    assert result.command == ("tritonserver", "--model-repository=/models")


def test_for_the_python_backend(tmp_path, norm):
    rms_deploy.package(norm, tmp_path / "models", backend="python", name="decoder", version=3)
    assert tree(tmp_path / "models") == ["decoder/3/model.onnx", "decoder/3/model.py", "decoder/config.pbtxt"]
    read = parsed((tmp_path / "models" / "decoder" / "config.pbtxt").read_text())
    assert (read.name, read.backend, read.HasField("model_operations")) == ("decoder", "python", False)


def test_an_engine_of_a_folder(tmp_path):
    record = {"runtime": "tensorrt", "optimization_profiles": [{"x": {"min": [1, 8], "opt": [2, 8], "max": [4, 8]}}]}
    record |= {
        end: {name: {"dtype": "float16", "shape": ["batch", 8]}} for end, name in (("inputs", "x"), ("outputs", "y"))
    }
    engines = []
    for gpu_type in ("L4", "H100"):
        engines.append(
            IndexedEngine(gpu_type, "sm0", f"n-{gpu_type}.engine", f"n-{gpu_type}.engine.json", "../norm.onnx")
        )
        (tmp_path / engines[-1].engine).write_text(gpu_type)
        (tmp_path / engines[-1].record).write_text(json.dumps({**record, "plugin": {"embedded": True}}))
    write_index(tmp_path, engines)
    rms_deploy.package(tmp_path, tmp_path / "models", backend="tensorrt", gpu_type="H100")
    assert (tmp_path / "models" / "norm" / "1" / "model.plan").read_text() == "H100"
    with pytest.raises(InputError, match="give `gpu_type`, one of L4, H100"):
        rms_deploy.package(tmp_path, tmp_path / "m", backend="tensorrt")
    with pytest.raises(InputError, match="`gpu_type` is 'A10'; the folder has L4, H100"):
        rms_deploy.package(tmp_path, tmp_path / "m", backend="tensorrt", gpu_type="A10")
    with pytest.raises(InputError, match=r'is a folder; give a model, or `backend="tensorrt"` for its engines'):
        rms_deploy.package(tmp_path, tmp_path / "m", gpu_type="L4")
    with pytest.raises(InputError, match="`gpu_type` chooses from a folder of engines"):
        rms_deploy.package(tmp_path / "n-L4.engine", tmp_path / "m", backend="tensorrt", gpu_type="L4")
    assert not (tmp_path / "m").exists()


def test_for_the_tensorrt_backend(tmp_path):
    record = {
        "runtime": "tensorrt",
        "inputs": {"x": {"dtype": "float16", "shape": ["batch", 8]}},
        "outputs": {"y": {"dtype": "float16", "shape": ["batch", 8]}},
        "optimization_profiles": [{"x": {"min": [1, 8], "opt": [2, 8], "max": [4, 8]}}],
        "plugin": {"embedded": True},
    }
    (tmp_path / "norm.engine").write_bytes(b"plan")
    (tmp_path / "norm.engine.json").write_text(json.dumps(record))
    result = rms_deploy.package(tmp_path / "norm.engine", tmp_path / "models", backend="tensorrt", max_batch_size=4)
    assert tree(tmp_path / "models") == ["norm/1/model.plan", "norm/1/model.plan.json", "norm/config.pbtxt"]
    assert result.command[2:] == ("--backend-config=tensorrt,version-compatible=true",)
    with pytest.raises(InputError, match="`max_batch_size` is 5; the engine was built for 4 at most"):
        rms_deploy.package(tmp_path / "norm.engine", tmp_path / "m", backend="tensorrt", max_batch_size=5)
    read = parsed((tmp_path / "models" / "norm" / "config.pbtxt").read_text())
    assert (read.backend, list(read.input[0].dims), read.input[0].data_type) == ("tensorrt", [8], 10)
    assert [(group.count, group.kind) for group in read.instance_group] == [(1, 1)]


def test_several_models_and_versions_in_one_repository(tmp_path, norm):
    models = tmp_path / "models"
    rms_deploy.package(norm, models, name="a")
    rms_deploy.package(norm, models, name="b", backend="python")
    again = rms_deploy.package(norm, models, name="a", version=2, instances={"cpu": 4})
    assert again.notes == (f"{models / 'a' / 'config.pbtxt'} was there and keeps its options",)
    assert again.files == ("a/config.pbtxt", "a/librms_deploy_onnxruntime.so", "a/2/model.onnx")
    assert tree(models) == [
        *("a/1/model.onnx", "a/2/model.onnx", "a/config.pbtxt", "a/librms_deploy_onnxruntime.so"),
        *("b/1/model.onnx", "b/1/model.py", "b/config.pbtxt"),
    ]
    assert parsed((models / "a" / "config.pbtxt").read_text()).version_policy.HasField("all")


def test_a_model_in_memory(tmp_path, norm):
    rms_deploy.package(onnx.load(norm), tmp_path / "models")
    assert tree(tmp_path / "models")[0] == "model/1/model.onnx"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"server": "torchserve"}, "`server` is 'torchserve'; use triton"),
        ({"backend": "openvino"}, "`backend` is 'openvino'; use onnxruntime, tensorrt, python"),
        ({"version": 0}, "`version` is 0; use 1 to 2147483647"),
        ({"max_batch_size": 2**31}, "`max_batch_size` is 2147483648; use 0 to"),
        ({"threads": 0}, "`threads` is 0; use 1 to"),
        ({"max_queue_delay": 5}, "`max_queue_delay` is given, and nothing to wait for: give `max_batch_size`"),
        ({"threads": 1, "backend": "tensorrt"}, "`threads` is for sessions of ONNX Runtime; an engine has none"),
        ({"instances": {"tpu": 1}}, "names the device 'tpu'"),
        ({"name": "a/b"}, "the model's name is 'a/b'; give a `name` of letters, digits"),
        ({"name": ".."}, r"the model's name is '\.\.'"),
        ({"warmup": True, "dims": {"z": 1}}, "no dynamic dimension 'z'"),
        ({"backend": "tensorrt"}, "takes an engine"),
    ],
)
def test_a_wrong_option_is_one_line_and_nothing_is_written(tmp_path, norm, options, message):
    before = tree(tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        rms_deploy.package(norm, tmp_path / "models", **options)
    assert "\n" not in str(caught.value)
    assert tree(tmp_path) == before
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("signature", "options", "message"),
    [
        ({"inputs": "float x", "outputs": "float y"}, {}, r"input x is float32\[\]; a tensor of Triton"),
        ({"inputs": "string[2] x", "outputs": "string[2] y"}, {}, "only tensors of numbers are supported"),
        (
            {"inputs": "float[2,8] x", "outputs": "float[2,8] y"},
            {"max_batch_size": 2},
            "its first dimension is no batch",
        ),
        ({"inputs": "bfloat16[8] x", "outputs": "bfloat16[8] y"}, {"backend": "python"}, "numpy has no bfloat16"),
    ],
)
def test_a_model_that_triton_cannot_serve(tmp_path, write, signature, options, message):
    with pytest.raises(InputError, match=message):
        rms_deploy.package(write(**signature), tmp_path / "models", **options)
    assert not (tmp_path / "models").exists()


def test_other_mistakes(tmp_path, norm, monkeypatch):
    with pytest.raises(ModelFileError, match="no such file"):
        rms_deploy.package(tmp_path / "missing.onnx", tmp_path / "models")
    with pytest.raises(OutputError, match="does not exist; create it first"):
        rms_deploy.package(norm, tmp_path / "no" / "models")

    def missing():
        raise InstallationError("the library is not built")

    monkeypatch.setattr(sources, "onnxruntime_library", missing)
    with pytest.raises(InstallationError, match="not built"):
        rms_deploy.package(norm, tmp_path / "models")
    rms_deploy.package(norm, tmp_path / "models", backend="python")
