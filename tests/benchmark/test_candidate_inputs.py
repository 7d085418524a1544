"""All candidates get the same arrays, where names and types are the same."""

from __future__ import annotations

import numpy as np
import pytest

from rms_deploy.benchmark.candidate_inputs import candidate_inputs, write_inputs
from rms_deploy.benchmark.candidates import candidates
from rms_deploy.benchmark.model_files import ModelFiles
from rms_deploy.benchmark.result import CandidateResult
from rms_deploy.benchmark.worker.inputs import read
from rms_deploy.errors import InputError

from ..made_models import write


def steps_of(folder, *paths, **options):
    files = ModelFiles(folder)
    given = files.take(paths)
    return candidate_inputs(given[0].path, candidates(given, files), files, **options)


def test_an_input_of_the_same_name_and_type_is_the_same_array(tmp_path):
    """The second model's own name for its batch is not the one that was given."""
    a = write(tmp_path / "a.onnx")
    b = write(tmp_path / "b.onnx", inputs="float[n,8] x, float[3] z")
    (step,) = steps_of(tmp_path, a, b, a, dims={"batch": 3})
    assert step.inputs[0]["x"] is step.inputs[1]["x"]
    assert step.inputs[0] is step.inputs[2]
    assert step.inputs[0]["x"].shape == (3, 8)
    assert list(step.inputs[1]) == ["x", "z"]
    written = write_inputs(step.inputs, tmp_path)
    assert written[0] is written[2]
    assert written[0]["file"] != written[1]["file"]
    assert np.array_equal(read(written[1])["x"], step.inputs[0]["x"])


def test_another_type_gets_an_array_of_its_own(tmp_path):
    double = write(tmp_path / "b.onnx", inputs="double[batch,8] x")
    (step,) = steps_of(tmp_path, write(tmp_path / "a.onnx"), double)
    assert [arrays["x"].dtype for arrays in step.inputs] == [np.float32, np.float64]


def test_a_step_for_every_combination(tmp_path):
    path = write(tmp_path / "a.onnx", inputs="float[batch,seq] x")
    steps = steps_of(tmp_path, path, sweep={"batch": (1, 2), "seq": (4, 8)})
    assert [step.dims for step in steps] == [{"batch": b, "seq": s} for b in (1, 2) for s in (4, 8)]
    assert [step.inputs[0]["x"].shape for step in steps] == [(1, 4), (1, 8), (2, 4), (2, 8)]


def test_arrays_may_be_given(tmp_path):
    given = {"x": np.ones((5, 8), np.float32)}
    (step,) = steps_of(tmp_path, write(tmp_path / "a.onnx"), inputs=given)
    assert step.inputs[0]["x"] is given["x"]
    with pytest.raises(InputError, match="dtype float64 was given; the model takes float32"):
        steps_of(tmp_path, tmp_path / "a.onnx", inputs={"x": np.ones((5, 8))})


def test_a_candidate_that_does_not_run_gets_the_advice(tmp_path):
    """What failed for another reason, or at sizes that were given, gets none."""
    path = write(tmp_path / "a.onnx", inputs="float[batch,seq] x")
    failures = ("it does not run: 16 by 32", "it crashed", None)
    results = [CandidateResult("a.onnx", failure=failure) for failure in failures]
    (step,) = steps_of(tmp_path, path, dims={"batch": 3})
    first, *others = (result.failure for result in step.advised(results))
    assert first == (
        "it does not run: 16 by 32; these sizes were guessed: seq=16; "
        "give those that do not fit, such as `dims={'seq': 16}`"
    )
    assert others == ["it crashed", None]
    (step,) = steps_of(tmp_path, path, shapes={"x": (3, 4)})
    assert step.advised(results) == tuple(results)
