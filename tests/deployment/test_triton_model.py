"""model.py as the Python backend calls it, with that backend's module made up; test_serving.py has the real one."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import onnx
import onnx.parser
import pytest

from rms_deploy.deployment import sources

MODEL = (
    '<ir_version: 8, opset_import: ["" : 18]> g (int64[b,n] ids, bool[b] flip) => (float[b,n,2] y, bool[b] z) '
    "<float[3,2] table = {1, 2, 3, 4, 5, 6}> { y = Gather(table, ids) z = Not(flip) }"
)


class Tensor:
    """The backend's tensor: it takes over the memory of a capsule, and gives it back as DLPack."""

    def __init__(self, name, array):
        self.name, self.array = name, array

    @classmethod
    def from_dlpack(cls, name, capsule):
        holder = SimpleNamespace(__dlpack__=lambda **_: capsule, __dlpack_device__=lambda: (1, 0))
        return cls(name, np.array(np.from_dlpack(holder)))

    def __dlpack__(self, **_):
        return self.array.__dlpack__()

    def __dlpack_device__(self):
        return (1, 0)


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A TritonPythonModel, and the sizes of the runs of its session."""
    backend = ModuleType("triton_python_backend_utils")
    backend.Tensor = Tensor
    backend.TritonError = str
    backend.Logger = SimpleNamespace(log_verbose=lambda _: None)
    backend.InferenceResponse = lambda tensors=(), error=None: ({t.name: t.array for t in tensors}, error)
    backend.get_input_tensor_by_name = lambda request, name: Tensor(name, request[name])
    monkeypatch.setitem(sys.modules, backend.__name__, backend)
    shutil.copyfile(sources._PYTHON_MODEL, tmp_path / "model.py")
    onnx.save(onnx.parser.parse_model(MODEL), tmp_path / "model.onnx")
    spec = importlib.util.spec_from_file_location("triton_model_copy", tmp_path / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made = module.TritonPythonModel()
    config = {"max_batch_size": 8, "parameters": {"intra_op_thread_count": {"string_value": "1"}}}
    made.initialize({"model_config": json.dumps(config), "model_instance_kind": "CPU"})
    sizes = []
    original = made._session

    def run(names, feeds):
        sizes.append(len(feeds["ids"]))
        return original.run(names, feeds)

    made._session = SimpleNamespace(run=run, options=original.get_session_options())
    return made, sizes


def request(*rows, flip=False):
    return {"ids": np.array(rows, np.int64), "flip": np.full(len(rows), flip)}


def expected(rows):
    return np.array([[[2 * i + 1, 2 * i + 2] for i in row] for row in rows], np.float32)


def test_one_request(model):
    made, sizes = model
    ((outputs, error),) = made.execute([request([0, 2], flip=True)])
    assert error is None
    assert np.array_equal(outputs["y"], expected([[0, 2]]))
    assert outputs["y"].dtype == np.float32
    assert outputs["z"].tolist() == [False]
    assert sizes == [1]
    assert made._session.options.intra_op_num_threads == 1


def test_requests_of_a_batch_run_as_one_and_each_gets_its_rows(model):
    made, sizes = model
    answers = made.execute([request([0], [1]), request([2], flip=True), request([1], [1], [0])])
    assert sizes == [6]
    assert [error for _, error in answers] == [None] * 3
    for (outputs, _), rows in zip(answers, ([[0], [1]], [[2]], [[1], [1], [0]]), strict=True):
        assert np.array_equal(outputs["y"], expected(rows))
    assert [outputs["z"].tolist() for outputs, _ in answers] == [[True, True], [False], [True] * 3]


def test_without_a_batch_every_request_runs_on_its_own(model):
    made, sizes = model
    made._is_batched = False
    assert [error for _, error in made.execute([request([0]), request([1])])] == [None, None]
    assert sizes == [1, 1]


def test_a_wrong_request_fails_alone(model):
    made, sizes = model
    good, bad, other = made.execute([request([0]), request([99]), request([2])])
    assert sizes == [3, 1, 1, 1]
    assert np.array_equal(good[0]["y"], expected([[0]]))
    assert np.array_equal(other[0]["y"], expected([[2]]))
    assert bad[0] == {}
    assert "idx=99 must be within the inclusive range" in bad[1]
    assert "\n" not in bad[1]
