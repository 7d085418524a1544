"""What a loaded engine says of itself, and how it is loaded; objects stand for an engine, which takes a GPU."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest

from rms_deploy.errors import RunError
from rms_deploy.onnx_model.optimization_profiles import ShapeRange
from rms_deploy.runtime import tensorrt_engine
from rms_deploy.runtime.tensorrt_api import TensorRT, tensorrt
from rms_deploy.runtime.tensorrt_engine import deserialized, optimization_profiles, tensor_types

TENSORS = {"x": ("INPUT", "BF16"), "n": ("INPUT", "INT64"), "y": ("OUTPUT", "FLOAT")}


def engine(tensors=TENSORS):
    names = list(tensors)
    return SimpleNamespace(
        num_io_tensors=len(names),
        get_tensor_name=lambda index: names[index],
        get_tensor_dtype=lambda name: SimpleNamespace(name=tensors[name][1]),
        get_tensor_mode=lambda name: tensors[name][0],
        num_optimization_profiles=2,
        get_tensor_profile_shape=lambda _name, index: [[1, 8], [index + 1, 8], [4, 8]],
    )


API = TensorRT("tensorrt", SimpleNamespace(__version__="11.0", TensorIOMode=SimpleNamespace(INPUT="INPUT")))


def test_types_of_inputs_and_outputs():
    inputs, outputs = tensor_types(API, engine())
    assert inputs == {"x": np.dtype(ml_dtypes.bfloat16), "n": np.dtype(np.int64)}
    assert outputs == {"y": np.dtype(np.float32)}


def test_a_type_that_numpy_does_not_have():
    with pytest.raises(RunError, match="x has type int4; supported are float32, float16, bfloat16, "):
        tensor_types(API, engine({"x": ("INPUT", "INT4")}))


def test_optimization_profiles():
    profiles = optimization_profiles(engine(), iter(["x", "n"]))
    assert [profile["n"] for profile in profiles] == [
        ShapeRange((1, 8), (1, 8), (4, 8)),
        ShapeRange((1, 8), (2, 8), (4, 8)),
    ]


@pytest.fixture
def loading(monkeypatch):
    """A TensorRT that gives this engine, and the list of what was done to load it."""

    def make(loaded):
        done = []

        class Runtime:
            def __init__(self, _logger):
                pass

            def __setattr__(self, name, value):
                done.append((name, value))

            def deserialize_cuda_engine(self, plan):
                done.append(plan)
                return loaded

        @contextmanager
        def errors(_self):
            yield ["it is truncated"]

        monkeypatch.setattr(TensorRT, "errors", errors)
        monkeypatch.setattr(TensorRT, "logger", lambda _self: None)
        monkeypatch.setattr(tensorrt_engine, "load_plugins", lambda _api: done.append("plugins"))
        return TensorRT("tensorrt", SimpleNamespace(__version__="11.0", Runtime=Runtime)), done

    return make


@pytest.mark.parametrize(("embedded", "before"), [(True, []), (False, ["plugins"])])
@pytest.mark.parametrize("holds_runtime", [False, True])
def test_code_of_the_engine_runs_only_where_it_holds_some(embedded, before, holds_runtime, loading):
    api, done = loading("an engine")
    given = {"embedded_plugin": embedded, "holds_runtime": holds_runtime}
    assert deserialized(api, b"plan", name="e", **given) == "an engine"
    assert done == [("engine_host_code_allowed", embedded or holds_runtime), *before, b"plan"]


def test_an_engine_that_tensorrt_refuses(loading):
    api, _ = loading(None)
    with pytest.raises(RunError, match=r"^e\.engine: tensorrt 11\.0 does not load it: it is truncated$"):
        deserialized(api, b"plan", name="e.engine", embedded_plugin=False)


def test_tensorrt_rtx_refuses_what_is_no_engine():
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx-cu13 is not installed")
    with pytest.raises(RunError, match=r"^e\.engine: tensorrt-rtx \S+ does not load it: ") as raised:
        deserialized(tensorrt("tensorrt-rtx"), b"plan", name="e.engine", embedded_plugin=True)
    assert "\n" not in str(raised.value)
