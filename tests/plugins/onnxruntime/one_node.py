"""Models of one node of the domain, run through ONNX Runtime with the library, and inputs for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

from rms_deploy.ops import contract
from rms_deploy.ops.element_types import element_dtype
from rms_deploy.ops.ulp import ulp_distance
from rms_deploy.runtime import onnxruntime_session as runtime


def element_type(dtype: Any) -> int:
    return contract.ELEMENT_TYPES[np.dtype(dtype).name]


def node_model(
    op: str,
    inputs: dict[str, Any],
    *,
    outputs: Sequence[str] | None = None,
    initializers: Sequence[str] = (),
    dynamic: bool = False,
    **attributes: Any,
) -> onnx.ModelProto:
    """One node named 'norm'; `inputs` by their names in the contract, types and shapes from the arrays."""
    names = [name for name, _ in contract.OPS[op].outputs] if outputs is None else list(outputs)
    node = helper.make_node(op, list(inputs), names, name="norm", domain=contract.DOMAIN, **attributes)
    values = [
        helper.make_tensor_value_info(name, element_type(a.dtype), None if dynamic else a.shape)
        for name, a in inputs.items()
        if name not in initializers
    ]
    constants = [
        helper.make_tensor(name, element_type(a.dtype), a.shape, a.tobytes(), raw=True)
        for name, a in inputs.items()
        if name in initializers
    ]
    results = [helper.make_tensor_value_info(name, element_type(inputs["X"].dtype), None) for name in names if name]
    return model_of(helper.make_graph([node], "one_node", values, results, constants))


def model_of(graph: onnx.GraphProto) -> onnx.ModelProto:
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(contract.DOMAIN, contract.VERSION)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def run_node(op: str, inputs: dict[str, Any], *, threads: int = 1, **options: Any) -> dict[str, Any]:
    model = node_model(op, inputs, **options)
    feeds = {n: a for n, a in inputs.items() if n not in options.get("initializers", ())}
    return runtime.run(runtime.session(model, threads=threads), feeds)


def samples(shape: Sequence[int], dtype: str, seed: int = 0) -> Any:
    """Normal numbers with one channel in 64 a hundred times as large, as transformer activations have."""
    generator = np.random.default_rng(seed)
    values = generator.standard_normal(shape)
    if shape[-1] > 1:
        values[..., generator.integers(0, shape[-1], -(-shape[-1] // 64))] *= 100
    return values.astype(element_dtype(dtype))


def gates(shape: Sequence[int], dtype: str, seed: int = 3) -> Any:
    """Normal numbers of a spread at which a gate is open, half open and shut."""
    return (4 * np.random.default_rng(seed).standard_normal(shape)).astype(element_dtype(dtype))


def weights(shape: Sequence[int], dtype: str, seed: int = 1) -> Any:
    return (1 + 0.5 * np.random.default_rng(seed).standard_normal(shape)).astype(element_dtype(dtype))


def scale_type(dtype: str, round_before_scale: bool) -> int:
    return contract.ELEMENT_TYPES[dtype if round_before_scale else "float32"]


def assert_close(actual: Any, expected: Any, *, round_before_scale: bool = False, on_gpu: bool = False) -> None:
    """`actual` is `expected`, up to the rounding that the contract leaves open.

    float32: 3 ulp. Quotient and product are each rounded to half an ulp, the sum of squares costs up to another half,
    and half an ulp of a number with a mantissa near 1 is a whole one for a result with a mantissa near 2. On a GPU 4,
    as ../kernels/cuda/cases.py says.
    16 bits: the statistic's error moves a result over a rounding boundary about once in 2^12 elements, by 1 ulp; where
    the quotient is rounded before it is scaled, the product may then be 2 ulp away.
    """
    distance = ulp_distance(actual, expected)
    if actual.dtype == np.float32:
        assert distance.max(initial=0) <= (4 if on_gpu else 3)
        return
    assert distance.max(initial=0) <= (2 if round_before_scale else 1)
    assert np.count_nonzero(distance) <= max(2, distance.size / 500)


def assert_gated_close(actual: Any, expected: Any, *, round_before_scale: bool = False) -> None:
    """The same for a norm with a gate.

    float32: 7 ulp. To the 3 of the norm the exponential adds 2, and the sum, the quotient and the product half an ulp
    each, some of which are twice as much for a result with a mantissa near 2.
    16 bits: errors of some 2^-22 move a result over a rounding boundary about once in 2^9 elements; with a rounding in
    front of the gate it may then be 3 ulp away.
    """
    distance = ulp_distance(actual, expected)
    if actual.dtype == np.float32:
        assert distance.max(initial=0) <= 7
        return
    assert distance.max(initial=0) <= (3 if round_before_scale else 1)
    assert np.count_nonzero(distance) <= max(2, distance.size / 200)
