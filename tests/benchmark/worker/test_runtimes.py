"""A runtime loads a model and returns its run, with nothing of ours around it."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import onnx
import onnx.parser
import pytest

from rms_deploy.benchmark.worker.runtimes import Load, _prepared, device_times, first_run, loaded
from rms_deploy.errors import RunError
from rms_deploy.runtime import onnxruntime_session as runtime
from rms_deploy.runtime import tensorrt_session
from rms_deploy.runtime.tensorrt_session import BoundRun

TEXT = '<ir_version: 8, opset_import: ["" : 18]> g (float[n,8] x) => (float[n,8] y) { y = Exp(x) }'


def test_a_model_is_loaded_and_runs(tmp_path):
    onnx.save(onnx.parser.parse_model(TEXT), tmp_path / "a.onnx")
    run = loaded("onnxruntime", Load(str(tmp_path / "a.onnx"), {"x": np.zeros((2, 8), np.float32)}, library=False))
    first_run(run)
    assert np.array_equal(run()[0], np.ones((2, 8), np.float32))


def test_whatever_the_first_run_raises_is_one_line():
    def run():
        raise ValueError("two\n  lines")

    with pytest.raises(RunError, match=r"^it does not run: two lines$"):
        first_run(run)


@pytest.mark.parametrize(("name", "dtype"), [("float", np.float32), ("bfloat16", ml_dtypes.bfloat16)])
def test_what_is_timed_is_the_session_alone(monkeypatch, name, dtype):
    text = TEXT.replace("float[", f"{name}[").replace("Exp", "Identity")
    session = runtime.session(onnx.parser.parse_model(text), library=False)
    run = _prepared(session, {"x": np.ones((4, 8), dtype)})
    monkeypatch.setattr(runtime, "run", lambda *_: pytest.fail("prepares the names and inputs again"))
    run()
    run()
    assert getattr(run, "func", None) == (session.run if name == "float" else None)


@pytest.mark.parametrize("cuda_graph", [True, False])
def test_an_engine_runs_as_it_was_asked_to_and_tells_its_times(monkeypatch, cuda_graph):
    device = SimpleNamespace(elapsed=lambda part: part() or 3.0, synchronize=lambda: None)
    parts = []
    run = BoundRun(device, *(partial(parts.append, name) for name in ("run", "up", "down")))
    asked = {}
    monkeypatch.setattr(tensorrt_session, "session", lambda model, **options: asked.update(model=model, **options))
    monkeypatch.setattr(tensorrt_session, "bound_run", lambda *_: run)
    given = loaded("tensorrt", Load("a.engine", {}, cuda_graph=cuda_graph))
    assert asked == {"model": "a.engine", "cuda_graph": cuda_graph}
    given()
    assert parts == ["run"]
    times = device_times(given)
    assert (times.compute, times.upload, times.download) == (3.0, 3.0, 3.0)
    assert times.enqueue > 0
