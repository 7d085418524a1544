"""One point, measured from the contents of files."""

from __future__ import annotations

import numpy as np
import pytest

from rms_deploy.benchmark.method import Method
from rms_deploy.benchmark.result_file import from_dict
from rms_deploy.deployment.files import read_file
from rms_deploy.deployment.point import measure_point
from rms_deploy.errors import InputError

from ..made_models import write

QUICK = Method(launches=1, rounds=2, duration=0.02, warmup=0)


def measured(tmp_path, **arguments):
    files = {
        "0/a.onnx": read_file(write(tmp_path / "a.onnx")),
        "1/a.onnx": read_file(write(tmp_path / "b.onnx", "Log")),
    }
    arguments = {"inputs": None, "sizes": {"batch": 3}, "method": QUICK, "options": {"library": False}} | arguments
    return measure_point(files, models=[("first", "0/a.onnx"), ("second", "1/a.onnx")], **arguments)


def test_candidates_have_the_names_of_the_caller(tmp_path):
    result = from_dict(measured(tmp_path))
    (point,) = result.points
    assert [(candidate.name, candidate.failure) for candidate in point.candidates] == [
        ("first", None),
        ("second", None),
    ]
    assert (point.dims, point.shapes) == ({"batch": 3}, {"x": (3, 8)})
    assert point.candidates[1].speedup is not None


def test_inputs_are_arrays(tmp_path):
    (point,) = from_dict(measured(tmp_path, sizes={}, inputs={"x": np.ones((5, 8), np.float32)})).points
    assert point.shapes == {"x": (5, 8)}


def test_a_mistake_is_an_error(tmp_path):
    with pytest.raises(InputError, match="no dynamic dimension 'seq'"):
        measured(tmp_path, sizes={"seq": 1})
