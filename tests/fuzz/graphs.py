"""One integer, one valid ONNX model: reproducible, small, and of every kind that a file can be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from .decoration import decorate
from .surroundings import step
from .writer import Scope, Style, typed

__all__ = ["DATA_FILE", "Sample", "generate"]

DATA_FILE = "weights.bin"
"""External data of a sample, beside its model."""

_LAYOUTS: tuple[tuple[Any, ...], ...] = (
    ("b", 8), ("b", "s", 8), ("b", "s", 8), (2, 3, 8), ("b", 2, "s", 4), (5,), ("n",), ("b", "h"), ("b", "s", "h"),
    ("b", 1), (None, 8), (None, None, 8), (1, 1, 7), ("b", "s", 0), (0, 8), ("z", 8), (2, 0, 8), ("b", "s", 2, 3, 4),
    ("b", "b", 8), ("b", "b"), ("s", "b", "b"),
)  # fmt: skip
"""Shapes as they are declared; the last three give one name to different sizes, which runtimes run."""

_NAMES = ["unique"] * 10 + ["none"] * 5 + ["some"] * 5 + ["same"]
_SIZES = {"b": 3, "s": 5, "h": 8, "n": 6, "z": 0, None: 2}


@dataclass
class Sample:
    """A model, what it is run on, and the data file beside it."""

    model: onnx.ModelProto
    feeds: dict[str, NDArray[Any]]
    data: bytes = b""
    labels: list[str] = field(default_factory=list)
    """What is in it, to be counted."""


def generate(seed: int) -> Sample:
    """The model of this number."""
    rng = np.random.default_rng(seed)
    opset = int(rng.integers(7, 26))
    dtypes = ["float32"] * 6 + ["float16"] * 2 + ["float64"] + ["bfloat16"] * 2 * (opset >= 15)
    style = Style(rng, opset, str(rng.choice(dtypes)), str(rng.choice(_NAMES)))
    layout = _LAYOUTS[int(rng.integers(len(_LAYOUTS)))]
    sizes = [
        size if isinstance(size, int) else 7 if size in layout[:axis] and size else _SIZES[size]
        for axis, size in enumerate(layout)
    ]
    scope = Scope(style, rank=len(sizes), last=sizes[-1], layout=layout)
    feeds = {}
    for name in ("x", "r")[: int(rng.integers(1, 3))]:
        scope.values.append(name)
        array = rng.standard_normal(sizes) * 10.0 ** rng.integers(-2, 2, [*sizes[:-1], 1])
        feeds[name] = array.astype(style.numpy)
    for _ in range(int(rng.integers(2, 7))):
        step(scope)
    sample = Sample(_model(scope, list(feeds), layout), feeds)
    sample.labels += [f"opset {opset}", style.dtype]
    decorate(sample, rng)
    sample.labels.append(f"IR {sample.model.ir_version}")
    return sample


def _model(scope: Scope, inputs: list[str], layout: tuple[Any, ...]) -> onnx.ModelProto:
    style = scope.style
    element = helper.np_dtype_to_tensor_dtype(style.numpy)
    results = [scope.values[-1], *(value for value in scope.values[:-1] if style.chance(0.2))]
    outputs = [scope.op("Identity", value) if value in inputs else value for value in dict.fromkeys(results)]
    declared = layout if style.chance(0.5) else [None] * len(layout)
    graph = helper.make_graph(
        scope.nodes,
        "fuzz",
        [helper.make_tensor_value_info(name, element, layout) for name in inputs],
        [helper.make_tensor_value_info(name, element, declared) for name in outputs],
        scope.initializers,
    )
    graph.value_info.extend(typed(style, name, shape) for name, shape in style.stale.items())
    functions = list(style.functions.values())
    domains = style.domains | {function.domain for function in functions}
    imports = [helper.make_opsetid("", style.opset), *(helper.make_opsetid(domain, 1) for domain in sorted(domains))]
    return helper.make_model(graph, opset_imports=imports, functions=functions)
