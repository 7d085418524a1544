"""A case: its shape, its tensors, and the bytes that it moves."""

from __future__ import annotations

import numpy as np
import pytest

from rms_deploy.benchmark.op.bench_op import SHAPES
from rms_deploy.benchmark.op.cases import OpCase, case_inputs, parse_shape, tensor_bytes
from rms_deploy.errors import InputError

CASE = OpCase("norm", "float32", (4, 64), -1, 1)


def test_shapes():
    assert parse_shape("1x256x56x56@1") == ((1, 256, 56, 56), 1)
    assert all(parse_shape(text) for text in SHAPES)
    for text in ("", "4x", "0x4", "4x4@2", "4x4@a"):
        with pytest.raises(InputError, match="use sizes as in 16x4096"):
            parse_shape(text)


def test_the_name_tells_an_axis_that_is_not_the_last():
    assert [OpCase("norm", "float32", (4, 8, 64), axis, 1).name for axis in (-1, 2, 1)] == [
        "4x8x64",
        "4x8x64",
        "4x8x64 axis 1",
    ]


def test_each_tensor_is_moved_once():
    assert tensor_bytes(CASE) == 2 * 4 * 64 * 4
    assert tensor_bytes(OpCase("add-norm", "bfloat16", (4, 64), -1, 1)) == 4 * 4 * 64 * 2
    assert tensor_bytes(OpCase("gate-norm", "float16", (4, 64), -1, 1)) == 3 * 4 * 64 * 2
    assert tensor_bytes(OpCase("norm-shift", "float16", (4, 64), -1, 1)) == 2 * 4 * 64 * 2
    assert tensor_bytes(OpCase("add-float32-norm", "float16", (4, 64), -1, 1)) == 4 * 4 * 64 * 2


def test_inputs_start_with_a_page():
    assert all(array.ctypes.data % 4096 == 0 for array in case_inputs(CASE).values())
    assert np.isfinite(case_inputs(CASE)["X"]).all()
