"""What a case is, and how its text becomes a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx.helper
import onnx.parser

__all__ = ["CONSTANTS", "Case", "Formula", "norm", "parse"]

Arrays = Mapping[str, Any]
Formula = Callable[[Arrays], "list[Any]"]

_WEIGHT = [1.5, -0.7, 0.3, 2.1, -1.2, 0.9, 1.1, 0.4]
CONSTANTS: dict[str, Any] = {
    "eps": np.float32(1e-6),
    "eps1": np.float32([1e-6]),
    "eps111": np.float32([[[1e-6]]]),
    "floor": np.float32(0.3),
    "tiny": np.float32(1e-12),
    "zero": np.float32(0),
    "one": np.float32(1),
    "two": np.float32(2),
    "half": np.float32(0.5),
    "minus_half": np.float32(-0.5),
    "minus_one": np.float32(-1),
    "eight": np.float32(8),
    "eighth": np.float32(0.125),
    "root8": np.float32(8**0.5),
    "inverse_root8": np.float32(8**-0.5),
    "last": np.int64([-1]),
    "int_two": np.int64(2),
    "w": np.float32(_WEIGHT),
    "v": np.float32(_WEIGHT[::-1]),
    "w1": np.float32([_WEIGHT]),
    "w11": np.float32([[_WEIGHT]]),
    "w_scalar": np.float32(1.7),
    "w_one": np.float32([1.7]),
    "w16": np.float16(_WEIGHT),
    "wb": np.array(_WEIGHT, ml_dtypes.bfloat16),
    "bias": np.float32(_WEIGHT[::-1]) / 3,
}
"""Constants that a text may name without declaring them."""


@dataclass(frozen=True)
class Case:
    """One graph, and what a fuser owes it."""

    group: str
    name: str
    text: str
    """Constants need no declaration; `_` is an input or output that is left out."""
    norms: int | tuple[int, ...] | None
    """RMSNorms in it, or each number that is right. None: may be fused or not; only the numbers count."""
    inputs: str = "float[b,s,8] x"
    outputs: str = "float[b,s,8] y"
    opset: int = 18
    constants: Arrays = field(default_factory=dict)
    dims: Mapping[str, int] = field(default_factory=dict)
    """Sizes of symbolic dimensions, where they are not the usual ones."""
    kinds: tuple[str, ...] | None = None
    """The ops that `fuse` is to make, sorted; None: any."""
    epsilon: float | None = None
    """The exact epsilon of the first norm."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of `fuse`."""
    reason: str = ""
    """What a near miss has to mention."""
    is_like_a_norm: bool = True
    """False: no near miss speaks of it, as of a LayerNorm."""
    formula: Formula | None = None
    """The truth, where no evaluator knows the ops."""
    feeds: Arrays = field(default_factory=dict)
    """Values of graph inputs that cannot be random."""
    zero_row: bool = True
    """Whether a row of zeros is defined."""
    cancels: bool = False
    """Whether an addition follows that can cancel: errors are then relative to the largest number."""
    runs: bool = True
    """Whether any evaluator can run it."""
    onnxruntime: str = ""
    """The first version of ONNX Runtime that runs it, where the oldest supported one does not."""
    valid: bool = True
    """Whether the original passes the checker."""
    shapes: bool = True
    """Whether the shapes of graph inputs are declared; without them no model passes the checker."""
    functions: str = ""
    """Local functions, in ONNX text."""
    domains: tuple[str, ...] = ()
    gains: bool = False
    """Whether the fused model is to be nearer to the truth than the original: within a few roundings of it only."""
    missing: str = ""
    """Why it does not pass yet: an expected failure."""
    overridable: tuple[str, ...] = ()
    """Constants that are graph inputs too."""

    @property
    def id(self) -> str:
        return f"{self.group}: {self.name}"

    def model(self) -> onnx.ModelProto:
        return parse(self)


def norm(
    *,
    square: str = "q = Pow (x, two)",
    mean: str = "m = ReduceMean <keepdims=1> (q, last)",
    root: str = "e = Add (m, eps) r = Sqrt (e)",
    inverse: str = "n = Div (x, r)",
    scale: str = "y = Mul (n, w)",
) -> str:
    """The text of a norm: x -> square q -> mean m -> root r -> normalised n -> scaled y; each piece may be replaced."""
    return " ".join((square, mean, root, inverse, scale))


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _graphs(attribute.g)


def _undeclared(graph: onnx.GraphProto) -> list[str]:
    graphs = list(_graphs(graph))
    declared = {value.name for g in graphs for value in (*g.input, *g.initializer)}
    declared |= {name for g in graphs for node in g.node for name in node.output}
    read = [name for g in graphs for node in g.node for name in node.input if name]
    return [name for name in dict.fromkeys(read) if name not in declared]


def parse(case: Case) -> onnx.ModelProto:
    """The model of a case. What the text names and nobody makes is a constant."""
    domains = "".join(f', "{domain}" : 1' for domain in case.domains)
    header = f'<ir_version: {10 if case.opset > 20 else 8}, opset_import: ["" : {case.opset}{domains}]>'
    graph = f"g ({case.inputs}) => ({case.outputs}) {{ {case.text} }}"
    model = onnx.parser.parse_model(f"{header} {graph} {case.functions}")
    for node in model.graph.node:  # the text has no name that is empty
        for names in (node.input, node.output):
            names[:] = ["" if name == "_" else name for name in names]
    constants = {**CONSTANTS, **case.constants}
    for name in _undeclared(model.graph):
        array = np.asarray(constants[name])
        kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        raw = np.ascontiguousarray(array).tobytes()
        model.graph.initializer.append(onnx.helper.make_tensor(name, kind, array.shape, raw, raw=True))
        if name in case.overridable:
            model.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, array.shape))
    if not case.shapes:
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.ClearField("shape")
    return model
