"""Sessions over engines: what is checked on the host, with a device of numpy arrays; and on a GPU, the whole."""

from __future__ import annotations

from types import SimpleNamespace

import ml_dtypes
import numpy as np
import onnx
import onnx.parser
import pytest

import rms_deploy
from rms_deploy.errors import InputError, InstallationError, ModelFileError, RunError
from rms_deploy.onnx_model.optimization_profiles import ShapeRange
from rms_deploy.runtime import onnxruntime_session as cpu
from rms_deploy.runtime import tensorrt_api
from rms_deploy.runtime import tensorrt_session as tensorrt
from rms_deploy.runtime.gpus import gpus
from rms_deploy.runtime.tensorrt_session import EngineSession, matching_profile

MODEL = """<ir_version: 8, opset_import: ["" : 18, "rms_deploy" : 1]>
one_norm (float[b, 64] X, float[64] scale) => (float[b, 64] Y) { Y = rms_deploy.RMSNorm (X, scale) }"""


class Device:
    """Memory is arrays, found by their addresses."""

    stream = 7

    def __init__(self):
        self.memory = {}

    def allocate(self, nbytes):
        array = np.zeros(nbytes, np.uint8)
        self.memory[array.ctypes.data] = array
        return SimpleNamespace(address=array.ctypes.data, nbytes=nbytes)

    def upload(self, buffer, array):
        self.memory[buffer.address][:] = array.reshape(-1).view(np.uint8)

    def download(self, array, buffer):
        array.reshape(-1).view(np.uint8)[:] = self.memory[buffer.address]

    def synchronize(self):
        pass

    def capture(self, enqueue):
        enqueue()
        return enqueue


class Context:
    """Gives its one input back."""

    active_optimization_profile = 0

    def __init__(self, device):
        self.device, self.shape, self.address, self.runs, self.fails = device, None, {}, 0, False

    def set_optimization_profile_async(self, index, _stream):
        self.active_optimization_profile = index

    def set_input_shape(self, _name, shape):
        self.shape = shape

    def set_tensor_address(self, name, address):
        self.address[name] = address

    def infer_shapes(self):
        return []

    def get_tensor_shape(self, _name):
        return self.shape

    def execute_async_v3(self, stream):
        assert stream == self.device.stream
        self.device.memory[self.address["y"]][:] = self.device.memory[self.address["x"]]
        self.runs += 1
        return not self.fails


class Api:
    name = "tensorrt-rtx"
    module = SimpleNamespace(TensorLocation=SimpleNamespace(HOST="host"))
    captures = True

    def execution_context(self, engine):
        return engine.create_execution_context()

    def can_capture(self, _context, _stream):
        return self.captures

    def errors(self):
        return self

    def __enter__(self):
        return ["it broke In there at /a.cpp:1"]

    def __exit__(self, *_):
        pass


@pytest.fixture
def running():
    def make(dtype=np.float32, *, cuda_graph=False):
        device = Device()
        context = Context(device)
        engine = SimpleNamespace(get_tensor_location=lambda _: "device", create_execution_context=lambda: context)
        profiles = tuple({"x": ShapeRange((low, 4), (low, 4), (high, 4))} for low, high in ((1, 2), (3, 8)))
        types = {"x": np.dtype(dtype)}, {"y": np.dtype(dtype)}
        return EngineSession(Api(), device, engine, context, *types, profiles, cuda_graph)

    return make


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16, np.int64, np.bool_])
@pytest.mark.parametrize(("rows", "profile"), [(1, 0), (3, 1), (8, 1)])
def test_a_run(dtype, rows, profile, running):
    session = running(dtype)
    x = np.arange(rows * 8).reshape(rows, 8).astype(dtype)[:, ::2]  # not contiguous
    out = tensorrt.run(session, {"x": x})
    assert out["y"].dtype == x.dtype
    np.testing.assert_array_equal(out["y"], x)
    assert session.context.active_optimization_profile == profile


@pytest.mark.parametrize("cuda_graph", [False, True])
def test_a_bound_run_runs_each_time(cuda_graph, running):
    session = running(cuda_graph=cuda_graph)
    run = tensorrt.bound_run(session, {"x": np.ones((2, 4), np.float32)})
    before = session.context.runs
    run()
    run()
    assert session.context.runs == before + 2


def test_what_cannot_be_captured_runs_without_a_graph_and_says_so(running, caplog):
    session = running(cuda_graph=True)
    assert tensorrt.bound_run(session, {"x": np.ones((2, 4), np.float32)}).cuda_graph
    session.api.captures = False
    run = tensorrt.bound_run(session, {"x": np.ones((2, 4), np.float32)})
    before = session.context.runs
    run()
    assert (run.cuda_graph, session.context.runs) == (False, before + 1)
    assert caplog.messages == ["tensorrt-rtx cannot capture the engine as a CUDA graph; it runs without one"]


def test_copies_are_parts_of_their_own(running):
    session = running()
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    run = tensorrt.bound_run(session, {"x": x})
    x *= 2
    run.upload()
    run()
    received = [array for array in session.device.memory.values() if array.view(np.float32)[-1] == 14]
    assert len(received) == 2, "the input and the output on the device"
    run.download()


def test_a_failure_is_one_line(running):
    session = running()
    session.context.fails = True
    with pytest.raises(RunError, match=r"^the engine does not run: it broke$"):
        tensorrt.run(session, {"x": np.ones((2, 4), np.float32)})


def test_no_memory_for_another_context_is_one_line(running):
    session = running()
    session.engine.create_execution_context = lambda: None
    with pytest.raises(RunError, match=r"^the engine does not run: it broke$"):
        tensorrt.bound_run(session, {"x": np.ones((2, 4), np.float32)})


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, "arrays were given for no input; the engine needs x"),
        ({"z": np.ones((2, 4), np.float32)}, "arrays were given for z; the engine needs x"),
        ({"x": np.ones((2, 4))}, "input x: dtype float64 was given; the engine takes float32"),
        (
            {"x": np.ones((9, 4), np.float32)},
            "input x: shape 9x4 is outside of what the engine was built for, 1x4:1x4:2x4 or 3x4:3x4:8x4",
        ),
        ({"x": np.ones(4, np.float32)}, "input x: shape 4 is outside"),
    ],
)
def test_inputs_that_do_not_fit(feeds, message, running):
    with pytest.raises(InputError, match=message):
        tensorrt.run(running(), feeds)


def test_inputs_that_fit_no_profile_together():
    one, two = (ShapeRange((size,), (size,), (size,)) for size in (1, 2))
    profiles = ({"a": one, "b": one}, {"a": two, "b": two})
    assert matching_profile(profiles, {"a": (2,), "b": (2,)}) == 1
    with pytest.raises(InputError, match="no profile fits them all"):
        matching_profile(profiles, {"a": (1,), "b": (2,)})


def test_no_such_file(tmp_path):
    with pytest.raises(ModelFileError, match=r"no\.engine: no such file"):
        tensorrt.session(tmp_path / "no.engine")


@pytest.mark.skipif(bool(gpus()), reason="there is a GPU here")
def test_no_gpu_is_one_line(tmp_path):
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx-cu13 is not installed")
    (tmp_path / "some.engine").write_bytes(b"plan")
    with pytest.raises(
        InstallationError, match=r"^there is no NVIDIA driver here.*; engines of TensorRT run on a GPU only$"
    ):
        tensorrt.session(tmp_path / "some.engine", runtime="tensorrt-rtx")


@pytest.mark.gpu
@pytest.mark.skipif(not gpus(), reason="there is no GPU here")
@pytest.mark.parametrize("norm", ["plugin", "decomposed"])
@pytest.mark.parametrize("cuda_graph", [False, True])
def test_an_engine_computes_what_the_model_does(norm, cuda_graph, tmp_path):
    if not tensorrt_api.tensorrt().runs_on(gpus()[0].capability):
        pytest.skip("TensorRT-RTX has no engines for this GPU")
    onnx.save(onnx.parser.parse_model(MODEL), tmp_path / "norm.onnx")
    rms_deploy.build(tmp_path / "norm.onnx", tmp_path / "norm.engine", norm=norm)
    rng = np.random.default_rng(0)
    feeds = {"X": rng.standard_normal((5, 64)).astype(np.float32), "scale": rng.standard_normal(64).astype(np.float32)}
    session = tensorrt.session(tmp_path / "norm.engine", cuda_graph=cuda_graph)
    expected = cpu.run(cpu.session(tmp_path / "norm.onnx"), feeds)["Y"]
    # Sums of 64 squares in float32, in another order: a few roundings.
    np.testing.assert_allclose(tensorrt.run(session, feeds)["Y"], expected, rtol=8 * np.finfo(np.float32).eps)
    tensorrt.bound_run(session, feeds)()
