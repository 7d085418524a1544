"""Tensors of more than 2^31 elements: no index is an int32 anywhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rms_deploy.ops.reference import rms_norm
from rms_deploy.runtime import onnxruntime_session as runtime

from .one_node import assert_close, node_model, samples, weights

pytestmark = pytest.mark.slow

NEEDED = 12 << 30
"""Bytes; the output takes 4.3e9. The zeros of the input are no memory: nobody writes to their pages."""


def available():
    for line in Path("/proc/meminfo").read_text().splitlines() if Path("/proc/meminfo").exists() else []:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return 0


@pytest.mark.parametrize(("shape", "axis"), [((2**19 + 3, 4096), 1), ((2, 64, 2**24 + 3), 1)], ids=["rows", "columns"])
def test_more_than_2_to_the_31_elements(shape, axis):
    if available() < NEEDED:
        pytest.skip(f"{available() >> 30} GiB of memory available, {NEEDED >> 30} needed")
    x = np.zeros(shape, np.float16)
    assert x.size > 2**31
    spots = (slice(0, 2), slice(-2, None)) if axis == len(shape) - 1 else (np.s_[:, :, :5], np.s_[:, :, -5:])
    for seed, spot in enumerate(spots):
        x[spot] = samples(x[spot].shape, "float16", seed=seed)
    scale = weights((shape[axis],) + (1,) * (len(shape) - 1 - axis), "float32")
    y = np.zeros(shape, np.float16)  # of numpy, which asks for huge pages: two million usual ones take half a minute
    inputs = {"X": x, "scale": scale}
    runtime.bound_run(runtime.session(node_model("RMSNorm", inputs, axes=[axis]), threads=2), inputs, {"Y": y})()
    for spot in spots:
        assert_close(y[spot], rms_norm(x[spot], scale, axes=[axis]))
    middle = shape[-2] // 2 if axis == len(shape) - 1 else slice(None)
    assert not y[..., middle, 1000:2000].any()
