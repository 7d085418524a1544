"""A model in a wider float type, at any size: a weight is widened while the node that reads it runs, and not before."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import LiftConstantsToInitializersPass

from rms_deploy.errors import RunError
from rms_deploy.onnx_model.analysis import Facts, is_op
from rms_deploy.onnx_model.body_faults import body_faults
from rms_deploy.onnx_model.fold_constants import FoldConstants
from rms_deploy.onnx_model.inline_functions import inline_functions
from rms_deploy.onnx_model.names import Names
from rms_deploy.onnx_model.upcast import Upcast
from rms_deploy.ops.element_types import is_float
from rms_deploy.ops.functions import attach_functions
from rms_deploy.ops.nodes import norm_nodes
from rms_deploy.runtime import onnxruntime_session as runtime
from rms_deploy.verification.late_casts import LateCasts
from rms_deploy.verification.memory import return_freed, return_pages
from rms_deploy.verification.unrounded import unround

__all__ = ["Wide", "lacks_functions", "run_streamed", "stream_weights", "wide_feeds", "widened"]

_Arrays = Mapping[str, NDArray[Any]]
_Weights = dict[str, ir.TensorProtocol]

_NO_KERNEL: Final = re.compile(
    r"Could not find an implementation for (\w+)\(|"
    r"Type 'tensor\(double\)' of input parameter \S+ of operator \((\w+)\)"
)
"""What ONNX Runtime says of an op that has no kernel in float64, and of one that has no float64 in its schema."""

_WITHIN: Final = {"Erf": "Gelu"}
"""Ops that ONNX Runtime makes of others, which a model has in their place."""

_LIFT_ALL: Final = LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)

_COPIES: Final = 2
"""Of the largest weight, in memory at once: the widened one, and what a node makes of it."""


@dataclass(frozen=True)
class Wide:
    """A copy of a model in a wider type, its norms inlined, whose weights are inputs."""

    model: ir.Model
    weights: _Weights
    """By the name of the input: in the type that the model has them in, which a Cast behind the input widens."""
    to: ir.DataType
    is_wider: bool
    """Whether anything in the model was narrower."""
    alone: tuple[str, ...] = ()
    """Of a cast model: the weights that are none of the original, rounded."""

    @property
    def nbytes(self) -> int:
        """An estimate of the bytes that a run needs for weights."""
        largest = max((tensor.size for tensor in self.weights.values()), default=0)
        constant = sum(value.const_value.size for value in self.model.graph.initializers.values() if value.const_value)
        return int(self.to.itemsize) * (_COPIES * largest + constant)

    def prepare(self, in_float32: tuple[str, ...] = ()) -> tuple[partial[dict[str, NDArray[Any]]], tuple[str, ...]]:
        """What runs the model on inputs in the wider type, and the types of ops that run in float32.

        An op that has no float64, or for which ONNX Runtime has no kernel in it, runs in float32, between casts;
        `in_float32` already do.

        Raises:
            RunError: ONNX Runtime refuses the model.
        """
        return_freed()
        model = self.model.clone()
        LateCasts(self.weights)(model)
        try:
            session = runtime.session(model, optimize=False, library=False, in_order=True)
        except RunError as error:
            missing = _NO_KERNEL.search(str(error))
            op_type = "" if missing is None else missing[1] or missing[2]
            if self.to != ir.DataType.DOUBLE or not op_type or not _run_in_float32(self.model, op_type):
                raise
            return self.prepare((*in_float32, op_type))
        return partial(run_streamed, session, self.weights), in_float32


def widened(model: ir.Model, to: ir.DataType, *, cast_from: ir.Model | None = None) -> Wide:
    """A copy in type `to`, its constants rounded as `model` rounds them.

    `cast_from`: the float32 model of which `model` is a copy in half precision. Its weights are then not rounded.
    """
    wide = _inlined(model)
    alone: tuple[str, ...] = ()
    if cast_from is None:
        FoldConstants()(wide)
        LiftConstantsToInitializersPass()(wide)
    else:
        original = _inlined(cast_from)
        FoldConstants()(original)
        _LIFT_ALL(original)
        _LIFT_ALL(wide)
        unround(wide, original)
        FoldConstants()(wide)  # which rounds where it casts
        _LIFT_ALL(wide)
        alone = unround(wide, original)
    weights = {value: value.const_value for value in wide.graph.initializers.values()}
    is_wider = Upcast(to)(wide).modified
    return Wide(wide, stream_weights(wide, weights, to), to, is_wider, alone)


def _inlined(model: ir.Model) -> ir.Model:
    """A copy without functions."""
    copied = model.clone()
    if lacks_functions(copied):
        attach_functions(copied)
    inline_functions(copied)
    return copied


def wide_feeds(feeds: _Arrays, to: ir.DataType) -> dict[str, NDArray[Any]]:
    """Inputs of a model, for its copy in a wider type."""
    dtype = np.dtype(to.numpy())
    return {n: a.astype(dtype) if is_float(a.dtype) and a.dtype != dtype else a for n, a in feeds.items()}


def lacks_functions(model: ir.Model) -> bool:
    """Whether one of our ops has no body in the model, or one that other tools left behind."""
    return any(True for _ in norm_nodes(model)) and bool(body_faults(model, Facts(model)))


def stream_weights(
    model: ir.Model, tensors: Mapping[ir.Value, ir.TensorProtocol | None], to: ir.DataType | None = None
) -> _Weights:
    """Make inputs of the initialisers that are float matrices, so that ONNX Runtime takes no copy of them.

    Those that nothing reads go.

    Args:
        model: changed in place.
        tensors: what is fed, by initialiser: the weight in its own type.
        to: the type that the model reads them in, where that is another: each reader gets a Cast of its own, so that
            no widened weight is kept from one to the next.

    Returns:
        What to feed, by the name of the input.
    """
    weights: _Weights = {}
    names = Names([model.graph])
    for value, tensor in tensors.items():
        if tensor is None or value.name is None or value.is_graph_input() or value.is_graph_output():
            continue
        if not _is_matrix(tensor):
            continue
        del model.graph.initializers[value.name]
        value.const_value = None
        if not value.uses():
            continue
        source = value
        if to is not None and tensor.dtype != to:
            source = ir.val(value.name, tensor.dtype, tensor.shape.numpy())
            for node, index in tuple(value.uses()):
                _cast_before(node, index, source, to, names)
        model.graph.inputs.append(source)
        weights[value.name] = tensor
    return weights


def run_streamed(session: Any, weights: _Weights, feeds: _Arrays) -> dict[str, NDArray[Any]]:
    """All outputs of a session whose weights are inputs, by name.

    Raises:
        RunError: ONNX Runtime refuses the inputs, or a kernel fails.
    """
    try:
        return runtime.run(session, {**feeds, **{name: tensor.numpy() for name, tensor in weights.items()}})
    finally:
        return_pages(weights.values())


def _is_matrix(tensor: ir.TensorProtocol) -> bool:
    if tensor.dtype == ir.DataType.STRING or not is_float(np.dtype(tensor.dtype.numpy())):
        return False
    return sum(size > 1 for size in tensor.shape.numpy()) > 1


def _cast_before(node: ir.Node, index: int, source: ir.Value, to: ir.DataType, names: Names) -> None:
    """A Cast of `source` that `node` reads as its input `index`."""
    assert node.graph is not None
    cast = ir.node("Cast", [source], {"to": int(to)})
    _describe(cast.outputs[0], names.unique(f"{source.name}_{to.name.lower()}"), to)
    node.graph.insert_before(node, cast)
    node.replace_input_with(index, cast.outputs[0])


def _run_in_float32(model: ir.Model, op_type: str) -> bool:
    """Put the nodes of a type between casts to float32 and back; whether there was one in float64."""
    facts, names = Facts(model), Names([model.graph])
    modified = False
    for node in [node for node in model.graph.all_nodes() if is_op(node, op_type, _WITHIN.get(op_type, op_type))]:
        assert node.graph is not None
        inputs = [i for i, value in enumerate(node.inputs) if value and facts.dtype(value) == ir.DataType.DOUBLE]
        results = [value for value in node.outputs if facts.dtype(value) == ir.DataType.DOUBLE]
        for index in inputs:
            source = node.inputs[index]
            assert source is not None
            _cast_before(node, index, source, ir.DataType.FLOAT, names)
        for value in results if inputs else ():
            back = ir.node("Cast", [value], {"to": int(ir.DataType.DOUBLE)})
            value.replace_all_uses_with(back.outputs[0], replace_graph_outputs=True)
            back.replace_input_with(0, value)
            _describe(back.outputs[0], value.name, ir.DataType.DOUBLE)
            back.outputs[0].shape = value.shape
            _describe(value, names.unique(f"{value.name}_float"), ir.DataType.FLOAT)
            node.graph.insert_after(node, back)
        modified |= bool(inputs)
    return modified


def _describe(value: ir.Value, name: str | None, dtype: ir.DataType) -> None:
    value.name, value.type = name, ir.TensorType(dtype)
