"""Models of one node, run through ONNX Runtime with the library."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from rms_deploy import contract
from rms_deploy.numerics import element_dtype
from rms_deploy.runtime import onnxruntime as runtime

DTYPES = tuple(contract.ELEMENT_TYPES)
TYPE_PAIRS = [("float32", "float32")] + [(t, s) for t in ("float16", "bfloat16") for s in ("float32", t)]
"""(T, S), each combination that the contract allows."""


def element_type(dtype: Any) -> int:
    return contract.ELEMENT_TYPES[np.dtype(dtype).name]


def node_model(
    op: str, inputs: dict[str, Any], *, outputs: tuple[str, ...] | None = None, initializers: tuple[str, ...] = (), **attributes: Any
) -> onnx.ModelProto:
    """One node named 'norm' of the domain; `inputs` by their names in the contract, dtypes and shapes from the arrays."""
    names = [name for name, _ in contract.OPS[op].outputs] if outputs is None else list(outputs)
    node = helper.make_node(op, list(inputs), names, name="norm", domain=contract.DOMAIN, **attributes)
    values = {n: helper.make_tensor_value_info(n, element_type(a.dtype), a.shape) for n, a in inputs.items()}
    graph = helper.make_graph(
        [node],
        "one_node",
        [value for name, value in values.items() if name not in initializers],
        [helper.make_tensor_value_info(n, element_type(inputs["X"].dtype), None) for n in names if n],
        [
            helper.make_tensor(n, element_type(inputs[n].dtype), inputs[n].shape, inputs[n].tobytes(), raw=True)
            for n in initializers
        ],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(contract.DOMAIN, contract.VERSION)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def run_node(op: str, inputs: dict[str, Any], *, threads: int = 1, **options: Any) -> dict[str, Any]:
    model = node_model(op, inputs, **options)
    feeds = {n: a for n, a in inputs.items() if n not in options.get("initializers", ())}
    return runtime.run(runtime.session(model, threads=threads), feeds)


def samples(shape: tuple[int, ...], dtype: str, seed: int = 0) -> Any:
    """Normal numbers with one channel in 64 a hundred times as large, as transformer activations have."""
    generator = np.random.default_rng(seed)
    values = generator.standard_normal(shape)
    if shape and shape[-1] > 1:
        values[..., generator.integers(0, shape[-1], max(1, shape[-1] // 64))] *= 100
    return values.astype(element_dtype(dtype))


def weights(shape: tuple[int, ...], dtype: str, seed: int = 1) -> Any:
    return (1 + 0.5 * np.random.default_rng(seed).standard_normal(shape)).astype(element_dtype(dtype))


@pytest.fixture(params=TYPE_PAIRS, ids=lambda pair: "-".join(pair))
def types(request):
    return request.param
