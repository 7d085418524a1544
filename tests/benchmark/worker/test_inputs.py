"""Arrays are the same when they are read back."""

from __future__ import annotations

import json

import ml_dtypes
import numpy as np

from rms_deploy.benchmark.worker.inputs import read, write


def test_arrays_keep_names_order_and_types(tmp_path):
    arrays = {
        "b/x": np.arange(6, dtype=np.float32).reshape(2, 3),
        "a": np.arange(4, dtype=np.int64),
        "half": np.ones((2, 2), ml_dtypes.bfloat16),
    }
    written = json.loads(json.dumps(write(arrays, tmp_path / "inputs.npz")))
    again = read(written)
    assert list(again) == list(arrays)
    for name, array in arrays.items():
        assert again[name].dtype == array.dtype
        assert np.array_equal(again[name], array)
