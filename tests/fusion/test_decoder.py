"""The built-in decoder all the way: exported as primitives, its norms fused, and run in both ways."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from rms_deploy import export, fuse, inspect
from rms_deploy.errors import RunError
from rms_deploy.exporter.model_source import resolve
from rms_deploy.nn import RMSNorm
from rms_deploy.runtime import onnxruntime_session as runtime

EPS = {"float32": 2.0**-23, "float16": 2.0**-10}
_IDS = np.random.default_rng(2).integers(0, 256, (3, 9))


def optimized(path: Path, *, library: bool) -> tuple[np.ndarray, Counter[str]]:
    """The logits, and the ops of our domain in the graph that ONNX Runtime made of the file."""
    graph = path.with_suffix(f".{library}.onnx")
    session = runtime.session(path, library=library, optimized_path=graph)
    (logits,) = runtime.run(session, {"input_ids": _IDS}).values()
    return logits, Counter(node.op_type for node in onnx.load(graph).graph.node if node.domain == "rms_deploy")


@pytest.mark.parametrize("exporter", ["dynamo", "legacy"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@torch.no_grad()
def test_every_norm_is_fused_and_runs(dtype, exporter, tmp_path) -> None:
    module = resolve("llama-tiny").module
    epsilons = [norm.epsilon for norm in module.modules() if isinstance(norm, RMSNorm)]
    plain, fused = tmp_path / "plain.onnx", tmp_path / "fused.onnx"
    export("llama-tiny", plain, norm="decomposed", exporter=exporter, dtype=dtype)
    result = fuse(plain, fused)
    assert len(result.norms) == len(epsilons) == 5
    assert not result.near_misses
    assert [norm.epsilon for norm in result.norms] == pytest.approx(epsilons, rel=1e-6)
    assert not inspect(fused).near_misses
    if dtype == "bfloat16":  # of which the CPU provider multiplies no matrices
        with pytest.raises(RunError):
            runtime.session(fused)
        return
    expected = module(torch.from_numpy(_IDS)).double().numpy()
    with_library, ops = optimized(fused, library=True)
    assert ops.total() == len(epsilons)
    assert ops == Counter(norm.kind for norm in result.norms)
    without, ops = optimized(fused, library=False)
    assert not ops
    # Two layers of about 10 roundings each, and sums over up to 160 terms, of values as large as the largest
    bound = 40 * EPS[dtype] * np.abs(expected).max()
    for logits in (with_library, without):
        assert logits.dtype == dtype
        assert np.abs(logits - expected).max() <= bound
