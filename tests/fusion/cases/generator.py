"""Random spellings of RMSNorm in random graphs, with the number of norms that are really in them.

Each part is a choice of how to square, average, take the root, invert, scale, cast and write constants. A part may be
spoiled in one place: then it is written as wildly as the others, and is no norm.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx.helper
from hypothesis import strategies as st

__all__ = ["Generated", "models"]

_NUMPY: dict[str, Any] = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
_SPOILED = ("cubed", "other numerator", "epsilon is an input", "no root", "maximum", "centred", "root twice", "rows")
_LAYOUTS: dict[str, tuple[tuple[str | int, ...], tuple[int, ...]]] = {
    "matrix": (("b", 16), (-1,)),
    "sequence": (("b", "s", 16), (-1,)),
    "heads": (("b", 2, "s", 8), (-1,)),
    "static": ((2, 3, 16), (-1,)),
    "two axes": (("b", 4, 6), (-2, -1)),
    "channels": (("b", 8, "s", 3), (-3,)),
}
_SIZES = {"b": 3, "s": 5}


@dataclass
class Generated:
    """A model, its inputs, and how many of its parts are norms."""

    model: onnx.ModelProto
    feeds: dict[str, Any]
    norms: int
    parts: list[str]


@dataclass
class _Graph:
    """Nodes as they are written, and the choices of one example."""

    draw: Any
    opset: int
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    feeds: dict[str, Any] = field(default_factory=dict)
    count: int = 0

    def pick(self, *choices: Any) -> Any:
        return self.draw(st.sampled_from(choices))

    def name(self, hint: str) -> str:
        self.count += 1
        return f"{hint}{self.count}"

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        output = self.name(kind.lower())
        self.nodes.append(onnx.helper.make_node(kind, list(inputs), [output], name=self.name("node"), **attributes))
        return output

    def either_way(self, kind: str, a: str, b: str) -> str:
        return self.op(kind, *self.pick((a, b), (b, a)))

    def tensor(self, array: Any) -> onnx.TensorProto:
        array = np.asarray(array)
        kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        raw = np.ascontiguousarray(array).tobytes()
        return onnx.helper.make_tensor(self.name("c"), kind, array.shape, raw, raw=True)

    def constant(self, array: Any) -> str:
        """As initialiser or Constant, perhaps behind an Identity."""
        tensor = self.tensor(array)
        if self.pick(True, False):
            self.initializers.append(tensor)
            name = tensor.name
        else:
            name = self.op("Constant", value=tensor)
        return self.op("Identity", name) if self.pick(False, False, True) else name

    def cast(self, value: str, dtype: Any) -> str:
        return self.op("Cast", value, to=onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def number(self, value: float, rank: int, dtype: Any = np.float32, exact: bool = True) -> str:
        """A scalar of some shape that does not raise the rank, in its type or cast to it."""
        shape = (1,) * self.pick(*range(rank + 1))
        stored = self.pick(dtype, np.float64) if exact else dtype
        array = np.full(shape, value, dtype).astype(stored)
        constant = self.constant(array)
        return constant if stored is dtype else self.cast(constant, dtype)

    def input(self, shape: tuple[str | int, ...], dtype: Any, array: Any) -> str:
        name = self.name("x")
        kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self.inputs.append(onnx.helper.make_tensor_value_info(name, kind, shape))
        self.feeds[name] = np.asarray(array).astype(dtype)
        return name

    def random_input(self, shape: tuple[str | int, ...], dtype: Any) -> str:
        sizes = [_SIZES[size] if isinstance(size, str) else size for size in shape]
        generator = np.random.default_rng(self.draw(st.integers(0, 999)))
        array = generator.standard_normal(sizes) * 10.0 ** generator.integers(-2, 2, [*sizes[:-1], 1])
        return self.input(shape, dtype, array)

    def reduce(self, kind: str, value: str, axes: tuple[int, ...], rank: int, keep: bool) -> str:
        written = tuple(axis % rank for axis in axes) if self.pick(True, False) else axes
        keepdims = {"keepdims": int(keep)} if not keep or self.pick(True, False) else {}
        since = 13 if kind == "ReduceSum" else 18
        if self.opset >= since:
            return self.op(kind, value, self.constant(np.int64(written)), **keepdims)
        return self.op(kind, value, axes=list(written), **keepdims)

    def reduced(self, kind: str, value: str, axes: tuple[int, ...], rank: int) -> str:
        """With its dimensions kept, or put back."""
        if self.pick(True, True, False):
            return self.reduce(kind, value, axes, rank, keep=True)
        flat = self.reduce(kind, value, axes, rank, keep=False)
        return self.op("Unsqueeze", flat, self.constant(np.int64(sorted(axis % rank for axis in axes))))


@dataclass
class _Part:
    """One norm of `x`; the order of the methods is that of the formula."""

    graph: _Graph
    x: str
    shape: tuple[str | int, ...]
    axes: tuple[int, ...]
    dtype: str
    spoiled: str

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def block(self) -> tuple[int, ...]:
        return tuple(size for size in (self.shape[axis] for axis in self.axes) if isinstance(size, int))

    @property
    def n(self) -> int:
        return int(np.prod(self.block))

    def write(self) -> str:
        graph = self.graph
        half = self.dtype != "float32"
        wide = graph.cast(self.x, np.float32) if half else self.x
        numerator = graph.cast(self.x, np.float32) if half and graph.pick(True, False) else wide
        if self.spoiled == "other numerator":
            numerator = graph.op("Abs", graph.op("Cos", wide)) if graph.pick(True, False) else graph.op("Relu", wide)
        if self.spoiled == "centred":
            wide = graph.op("Sub", wide, graph.reduced("ReduceMean", wide, self.axes, self.rank))
            numerator = graph.pick(wide, numerator)
        scale_place = graph.pick("after", "after", "numerator", "inverse", "none")
        round_first = half and scale_place == "after" and graph.pick(True, False)
        if scale_place == "numerator":
            numerator = self.scaled(numerator, np.float32)
        normed = self.divided(numerator, self.root(self.mean_square(wide)), scale_place == "inverse")
        if round_first:
            return self.scaled(graph.cast(normed, _NUMPY[self.dtype]), _NUMPY[self.dtype])
        if scale_place == "after":
            normed = self.scaled(normed, np.float32)
        return graph.cast(normed, _NUMPY[self.dtype]) if half and graph.pick(True, True, False) else normed

    def square(self, wide: str) -> str:
        graph = self.graph
        if graph.pick(False, False, True):
            wide = graph.op("Abs", wide)
        if self.spoiled == "cubed":
            wide = graph.op("Abs", wide)
            return graph.op("Pow", wide, graph.number(3, self.rank))
        if graph.pick(True, False):
            return graph.op("Mul", wide, wide)
        exponent = graph.constant(np.array(2, graph.pick(np.float32, np.int64, np.int32)))
        return graph.op("Pow", wide, exponent)

    def mean_square(self, wide: str) -> str:
        graph = self.graph
        if self.spoiled == "maximum":
            return graph.reduced("ReduceMax", self.square(wide), self.axes, self.rank)
        kinds = ["ReduceMean", "ReduceMean", "ReduceSum"]
        if self.spoiled != "cubed":
            kinds += ["ReduceSumSquare", "ReduceL2"]
        kind = graph.pick(*kinds)
        if kind in ("ReduceMean", "ReduceSum"):
            reduced = graph.reduced(kind, self.square(wide), self.axes, self.rank)
        else:
            reduced = graph.reduced(kind, wide, self.axes, self.rank)
        if kind == "ReduceMean":
            return reduced
        if kind == "ReduceL2":
            reduced = graph.op("Mul", reduced, reduced)
        if graph.pick(True, False):
            return graph.op("Div", reduced, graph.number(self.n, self.rank))
        return graph.either_way("Mul", reduced, graph.number(1 / self.n, self.rank, exact=False))

    def root(self, mean: str) -> tuple[str, bool]:
        """The root, and whether it is inverted already."""
        graph = self.graph
        place = graph.pick("inside", "inside", "inside", "outside", "both", "floor")
        if self.spoiled in ("epsilon is an input", "rows"):
            place = graph.pick("inside", "outside")
        if place in ("inside", "both"):
            mean = graph.either_way("Add", mean, self.epsilon())
        if self.spoiled == "no root":
            return mean, False
        if self.spoiled == "root twice":
            mean = graph.op("Sqrt", mean)
        if place == "inside":
            way = graph.pick("Sqrt", "Sqrt", "Pow", "Pow -0.5", "Reciprocal Sqrt")
            if way == "Pow -0.5":
                return graph.op("Pow", mean, graph.number(-0.5, self.rank)), True
            if way == "Reciprocal Sqrt":
                return graph.op("Sqrt", graph.op("Reciprocal", mean)), True
            if way == "Pow":
                return graph.op("Pow", mean, graph.number(0.5, self.rank)), False
        root = graph.op("Sqrt", mean)
        if place in ("outside", "both"):
            root = graph.either_way("Add", root, self.epsilon())
        if place == "floor":
            root = graph.either_way("Max", root, graph.number(0.125, self.rank))
        return root, False

    def epsilon(self) -> str:
        graph = self.graph
        if self.spoiled == "epsilon is an input":
            return graph.input((), np.float32, np.float32(0.5))
        if self.spoiled == "rows" and isinstance(self.shape[0], int):
            shape = (self.shape[0], *(1 for _ in self.shape[1:]))
            return graph.constant(np.linspace(0.1, 0.9, self.shape[0], dtype=np.float32).reshape(shape))
        if self.spoiled == "rows":
            return graph.op("Abs", graph.reduced("ReduceMax", self.x_wide(), self.axes, self.rank))
        value = graph.pick(1e-5, 1e-6, 1e-12, 3e-4, 0.25)
        kind = graph.pick("float32", "float32", "float16", "bfloat16")
        if kind == "float32":
            return graph.number(value, self.rank, np.float32)
        return graph.cast(graph.constant(np.asarray(value).astype(_NUMPY[kind])), np.float32)

    def x_wide(self) -> str:
        return self.x if self.dtype == "float32" else self.graph.cast(self.x, np.float32)

    def divided(self, numerator: str, root: tuple[str, bool], scale_inverse: bool) -> str:
        graph = self.graph
        value, inverted = root
        if not inverted and not scale_inverse and graph.pick(True, False):
            return graph.op("Div", numerator, value)
        if not inverted:
            way = graph.pick("Reciprocal", "Div", "Pow")
            if way == "Reciprocal":
                value = graph.op("Reciprocal", value)
            elif way == "Div":
                value = graph.op("Div", graph.number(1, self.rank), value)
            else:
                value = graph.op("Pow", value, graph.number(-1, self.rank))
        if scale_inverse:
            value = self.scaled(value, np.float32)
        return graph.either_way("Mul", numerator, value)

    def scaled(self, value: str, dtype: Any) -> str:
        graph = self.graph
        trailing = tuple(1 for _ in range(-1 - self.axes[-1]))
        shape = (*self.block, *trailing)
        kind = graph.pick("vector", "vector", "leading ones", "scalar", "input", "1 + w", "cast")
        generator = np.random.default_rng(graph.draw(st.integers(0, 99)))
        array = generator.uniform(0.25, 2, shape) * generator.choice([-1, 1], shape)
        if kind == "leading ones":
            array = array.reshape((1,) * (self.rank - len(shape)) + shape)
        if kind == "scalar":
            return graph.either_way("Mul", value, graph.number(1.75, self.rank, dtype))
        if kind == "input":
            return graph.either_way("Mul", value, graph.input(shape, dtype, array))
        if kind == "cast":
            stored = graph.constant(array.astype(np.float16))
            return graph.either_way("Mul", value, stored if dtype is np.float16 else graph.cast(stored, dtype))
        weight = graph.constant(array.astype(dtype))
        if kind == "1 + w":
            weight = graph.either_way("Add", weight, graph.number(1, 0, dtype))
        return graph.either_way("Mul", value, weight)


def _before(graph: _Graph, x: str, shape: tuple[str | int, ...], dtype: str) -> str:
    way = graph.pick("nothing", "nothing", "residual", "Relu", "product")
    if way == "residual":
        return graph.op("Add", x, graph.random_input(shape, _NUMPY[dtype]))
    if way == "Relu":
        return graph.op("Neg", graph.op("Relu", x))
    if way == "product":
        return graph.either_way("Mul", x, graph.constant(np.asarray(1.5, _NUMPY[dtype])))
    return x


def _after(graph: _Graph, y: str, x: str) -> list[str]:
    way = graph.pick("nothing", "Neg", "twice", "x too")
    if way == "Neg":
        return [graph.op("Neg", y)]
    if way == "twice":
        return [graph.op("Abs", y), graph.op("Neg", y)]
    return [graph.op("Identity", y), graph.op("Identity", x)] if way == "x too" else [graph.op("Identity", y)]


@st.composite
def models(draw: Any) -> Generated:
    """Graphs of one to three parts, on one tensor or several, of one float type."""
    graph = _Graph(draw, opset=draw(st.sampled_from((13, 15, 17, 18, 20, 21, 23))))
    dtype = graph.pick("float32", "float32", "float16", "bfloat16")
    layout = graph.pick(*_LAYOUTS)
    shape, axes = _LAYOUTS[layout]
    outputs: list[str] = []
    parts: list[str] = []
    x = _before(graph, graph.random_input(shape, _NUMPY[dtype]), shape, dtype)
    for number in range(draw(st.integers(1, 3))):
        if number and graph.pick(True, False):
            x = _before(graph, graph.random_input(shape, _NUMPY[dtype]), shape, dtype)
        spoiled = graph.pick("", "", "", *_SPOILED)
        y = _Part(graph, x, shape, axes, dtype, spoiled).write()
        parts.append(spoiled or "norm")
        outputs += _after(graph, y, x)
    values = [onnx.helper.make_empty_tensor_value_info(name) for name in outputs]
    proto = onnx.helper.make_graph(graph.nodes, "g", graph.inputs, values, graph.initializers)
    model = onnx.helper.make_model(
        proto, opset_imports=[onnx.helper.make_opsetid("", graph.opset)], ir_version=10, producer_name="generator"
    )
    types = {value.name: value for value in onnx.shape_inference.infer_shapes(model).graph.output}
    for value in model.graph.output:  # a part keeps the shape; its type depends on where it casts back
        kind = types[value.name].type.tensor_type.elem_type
        value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, kind, shape))
    return Generated(model, graph.feeds, parts.count("norm"), parts)
