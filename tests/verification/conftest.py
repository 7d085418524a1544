"""A small decoder whose residual is so large that the whole model hides a wrong epsilon."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from rms_deploy.ops.functions import attach_functions

LAYERS = 3
HIDDEN = 16

_DECOMPOSED = """
    {p}wide = Cast<to=1>({x}) {p}square = Pow({p}wide, two) {p}mean = ReduceMean<keepdims=1>({p}square, axes)
    {p}biased = Add({p}mean, {p}epsilon) {p}root = Sqrt({p}biased) {p}normed = Div({p}wide, {p}root)
    {p}scaled = Mul({p}normed, {p}scale) {p}y = Cast<to={code}>({p}scaled)
"""
_FUSED = "{p}y = rms_deploy.RMSNorm<epsilon={epsilon}>({x}, {p}scale)"


@pytest.fixture
def decoder() -> Callable[..., ir.Model]:
    return _decoder


def _decoder(
    *,
    fused: bool = False,
    epsilons: tuple[float, ...] = (1e-5,) * LAYERS,
    scales: tuple[int, ...] = tuple(range(LAYERS)),
    bump: float = 0.0,
    dtype: str = "float",
    residual: float = 1000.0,
) -> ir.Model:
    """x = table[ids]; x = x + tanh(RMSNorm(x) W), for each layer; y = x V.

    Args:
        fused: the norms as our op, or as primitives.
        epsilons: of the norms.
        scales: which of the scales each norm has.
        bump: added to one element of the last scale.
        dtype: of the weights; the scales are float32.
        residual: about the size of x.
    """
    rng = np.random.default_rng(0)
    element = np.float16 if dtype == "float16" else np.float32
    weights = {"table": (residual * rng.standard_normal((20, HIDDEN))).astype(element)}
    weights |= {f"w{i}": rng.standard_normal((HIDDEN, HIDDEN)).astype(element) for i in range(LAYERS)}
    weights["head"] = rng.standard_normal((HIDDEN, 7)).astype(element)
    vectors = [(1 + 0.1 * rng.standard_normal(HIDDEN)).astype(np.float32) for _ in range(LAYERS)]
    vectors[-1][3] += bump
    body = "x0 = Gather(table, ids)"
    for i in range(LAYERS):
        code = 10 if dtype == "float16" else 1
        body += (_FUSED if fused else _DECOMPOSED).format(p=f"n{i}_", x=f"x{i}", epsilon=epsilons[i], code=code)
        body += f" m{i} = MatMul(n{i}_y, w{i}) t{i} = Tanh(m{i}) x{i + 1} = Add(x{i}, t{i})"
        weights[f"n{i}_scale"] = vectors[scales[i]]
        weights[f"n{i}_epsilon"] = np.array(epsilons[i], np.float32)
    body += f" y = MatMul(x{LAYERS}, head)"
    header = '<ir_version: 8, opset_import: ["" : 18, "rms_deploy" : 1]>'
    text = f"{header} g (int64[batch,seq] ids) => ({dtype}[batch,seq,7] y) <float two = {{2}}, int64[1] axes = {{-1}}>"
    model = onnx.parser.parse_model(f"{text} {{ {body} }}")
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in weights.items())
    result = ir.from_proto(model)
    attach_functions(result)
    return result
