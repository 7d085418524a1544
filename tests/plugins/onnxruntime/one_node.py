"""Models of one node of the domain, run through ONNX Runtime with the library, and inputs for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

from rms_deploy.ops import contract
from rms_deploy.ops.element_types import element_dtype, float_info
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
    kinds = contract.OPS[op].inputs
    types = {kind: element_type(inputs[name].dtype) for name, kind in kinds} | {"Q": attributes.get("output_dtype")}
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
    results = [
        helper.make_tensor_value_info(name, types[kind], None)
        for name, (_, kind) in zip(names, contract.OPS[op].outputs, strict=False)
        if name
    ]
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
    return np.asarray(1 + 0.5 * np.random.default_rng(seed).standard_normal(shape)).astype(element_dtype(dtype))


def shifts(shape: Sequence[int], dtype: str, seed: int = 7) -> Any:
    return np.asarray(np.random.default_rng(seed).standard_normal(shape)).astype(element_dtype(dtype))


def op_inputs(
    op: contract.Op,
    shape: Sequence[int],
    scale_shape: Sequence[int],
    types: tuple[str, str],
    sum_type: str | None = None,
) -> dict[str, Any]:
    """The inputs of `op`. `types` are those of X and scale; R has that of X, unless `sum_type` says another."""
    arrays = {
        "X": samples(shape, types[0]),
        "R": samples(shape, sum_type or types[0], seed=5),
        "Z": gates(shape, types[0]),
        "scale": weights(scale_shape, types[1]),
        "shift": shifts(scale_shape, types[1]),
    }
    return {name: arrays[name] for name, _ in op.inputs}


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


def assert_shifted_close(
    actual: Any, expected: Any, shift: Any, *, round_before_scale: bool = False, on_gpu: bool = False
) -> None:
    """The same for a norm with a shift, which may cancel what was rounded before it: relative to |y| + |shift|.

    float32: 5 units of 2^-23, 1 more than without; on a GPU 6. 16 bits: as without, in units of the type's epsilon.
    """
    with np.errstate(invalid="ignore"):
        error = np.abs(actual.astype(np.float64) - expected.astype(np.float64))
        size = np.abs(expected.astype(np.float64)) + np.abs(np.asarray(shift).astype(np.float64))
        units = error / (float_info(actual.dtype).eps * size)
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected))
    number = np.isfinite(size)
    if actual.dtype == np.float32:
        assert units[number].max(initial=0) <= (6 if on_gpu else 5)
        return
    assert units[number].max(initial=0) <= (2 if round_before_scale else 1)
    assert np.count_nonzero(error[number]) <= max(2, error.size / 500)
