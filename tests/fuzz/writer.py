"""A scope of an ONNX graph as it is written: nodes, constants and names, each operator in the form of its opset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

__all__ = ["DTYPES", "Scope", "Style", "tensor", "typed"]

DTYPES: dict[str, np.dtype[Any]] = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float64": np.dtype(np.float64),
}
_THEIRS = ("rms_deploy_unit_scale", "Normed", "Two", "Root0", "val_0", "_x", "_v_1", "node_1_1", "RMSNorm")


def tensor(name: str, array: Any) -> onnx.TensorProto:
    """A tensor with its bytes in raw_data."""
    array = np.asarray(array)
    kind = helper.np_dtype_to_tensor_dtype(array.dtype)
    return helper.make_tensor(name, kind, array.shape, array.tobytes(), raw=True)


@dataclass
class Style:
    """What holds for every scope of one model."""

    rng: np.random.Generator
    opset: int
    dtype: str
    node_names: str
    """`unique`, `none`, `same` or `some`: all of them legal."""
    counts: dict[str, int] = field(default_factory=dict)
    domains: set[str] = field(default_factory=set)
    functions: dict[str, onnx.FunctionProto] = field(default_factory=dict)
    stale: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    """Shapes that values are declared to have and have not."""

    @property
    def numpy(self) -> np.dtype[Any]:
        return DTYPES[self.dtype]

    def pick(self, *choices: Any) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def name(self, hint: str) -> str:
        self.counts[hint] = self.counts.get(hint, 0) + 1
        if self.chance(0.01):  # a name that the product would choose for something of its own
            taken = self.pick(*_THEIRS)
            if taken not in self.counts:
                self.counts[taken] = 0
                return taken
        return f"{hint}_{self.counts[hint]}"


@dataclass
class Scope:
    """A graph, a branch or a function under construction; `values` all have the main shape and type."""

    style: Style
    rank: int
    last: int
    """Size of the last axis, which is static."""
    values: list[str] = field(default_factory=list)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)
    layout: tuple[Any, ...] = ()
    """The main shape as it is declared: sizes, names and None."""
    in_function: bool = False
    depth: int = 0

    def op(self, kind: str, *inputs: str, domain: str = "", outputs: int = 1, **attributes: Any) -> str:
        """Write a node; the name of its first output."""
        names = [self.style.name(kind.lower()) for _ in range(outputs)]
        self.node(kind, inputs, names, domain=domain, **attributes)
        return names[0]

    def node(
        self, kind: str, inputs: Sequence[str], outputs: Sequence[str], *, domain: str = "", **attributes: Any
    ) -> onnx.NodeProto:
        style = self.style
        naming = style.pick("unique", "none") if style.node_names == "some" else style.node_names
        name = {"unique": style.name("node"), "same": "node", "none": None}[naming]
        node = helper.make_node(kind, list(inputs), list(outputs), name=name, domain=domain, **attributes)
        if domain:
            style.domains.add(domain)
        self.nodes.append(node)
        return node

    def constant(self, array: Any) -> str:
        """As an initialiser where the scope can have one, or as a Constant."""
        name = self.style.name("c")
        writable = np.asarray(array).dtype.kind in "fV" or self.style.opset >= 9  # Constant is for floats before
        if self.in_function or (writable and self.style.chance(0.3)):
            return self.op("Constant", value=tensor(name, array))
        self.initializers.append(tensor(name, array))
        return self.op("Identity", name) if self.style.chance(0.1) else name

    def number(self, value: float, dtype: Any = None, *, rank: int | None = None) -> str:
        """A scalar, or a tensor of ones as dimensions that does not raise the rank."""
        rank = self.rank if rank is None else rank
        shape = (1,) * int(self.style.rng.integers(rank + 1))
        return self.constant(np.full(shape, value, self.style.numpy if dtype is None else dtype))

    def random(self, shape: Sequence[int], dtype: Any = None) -> NDArray[Any]:
        rng = self.style.rng
        array = rng.uniform(0.25, 2, shape) * rng.choice([-1, 1], shape)
        return np.asarray(array).astype(self.style.numpy if dtype is None else dtype)

    def either_way(self, kind: str, a: str, b: str) -> str:
        return self.op(kind, *self.style.pick((a, b), (b, a)))

    def cast(self, value: str, dtype: Any) -> str:
        return self.op("Cast", value, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def reduce(self, kind: str, value: str, axes: Sequence[int], *, keep: bool = True) -> str:
        """A reduction over `axes`, as an attribute or an input."""
        negative = self.style.opset >= 11  # negative axes came with it
        chosen = [axis if negative and self.style.chance(0.7) else axis % self.rank for axis in axes]
        keepdims = {} if keep and self.style.chance(0.5) else {"keepdims": int(keep)}
        if self.style.opset >= (13 if kind == "ReduceSum" else 18):
            return self.op(kind, value, self.constant(np.array(chosen, np.int64)), **keepdims)
        return self.op(kind, value, axes=chosen, **keepdims)

    def unsqueeze(self, value: str, axes: Sequence[int]) -> str:
        written = sorted(axis % self.rank for axis in axes)
        if self.style.opset >= 13:
            return self.op("Unsqueeze", value, self.constant(np.array(written, np.int64)))
        return self.op("Unsqueeze", value, axes=written)


def typed(style: Style, name: str, shape: Sequence[Any] | None = None) -> onnx.ValueInfoProto:
    """A value of the main element type."""
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(style.numpy), shape)
