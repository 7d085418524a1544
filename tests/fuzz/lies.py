"""Declarations that no runtime enforces: shapes that change in a loop, differ between branches, or are out of date."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from onnx import TensorProto, helper

from .norms import near_norm, norm
from .writer import Scope, typed

__all__ = ["lie"]


def lie(scope: Scope) -> str:
    """A norm of a value that is not of the shape that it is declared to have."""
    style = scope.style
    way = style.pick(_growing_loop, _growing_branch, _stale)
    total = scope.op("ReduceSum", way(scope), keepdims=0)
    return scope.either_way("Add", scope.values[-1], total)


def _taller(scope: Scope, value: str) -> str:
    """`value` twice, along a new first axis."""
    return scope.either_way(
        "Mul", value, scope.constant(np.reshape([1, 5], (2, *[1] * scope.rank)).astype(scope.style.numpy))
    )


def _growing_loop(scope: Scope) -> str:
    """Each iteration adds an axis to the carried value, which is declared as it is at first."""
    style = scope.style
    iteration, going, carried = (style.name(hint) for hint in ("iteration", "going", "carried"))
    inner = replace(scope, values=[carried], nodes=[], initializers=[], depth=2)
    grown = _taller(inner, norm(inner, carried))
    goes_on = inner.op("Identity", going)
    inputs = [
        helper.make_tensor_value_info(iteration, TensorProto.INT64, []),
        helper.make_tensor_value_info(going, TensorProto.BOOL, []),
        typed(style, carried, scope.layout),
    ]
    outputs = [helper.make_tensor_value_info(goes_on, TensorProto.BOOL, []), typed(style, grown)]
    body = helper.make_graph(inner.nodes, "body", inputs, outputs, inner.initializers)
    trips, yes = scope.constant(np.array(2, np.int64)), scope.constant(np.array(True))
    return scope.op("Loop", trips, yes, scope.values[-1], body=body)


def _growing_branch(scope: Scope) -> str:
    """One branch gives the main shape, the other one axis more; the norm counts its axes from either end."""
    style = scope.style
    value = scope.values[-1]
    graphs = []
    for name in ("then", "else"):
        inner = replace(scope, nodes=[], initializers=[], depth=2)
        result = _taller(inner, value) if name == "else" else inner.op("Neg", value)
        graphs.append(helper.make_graph(inner.nodes, name, [], [typed(style, result)], inner.initializers))
    condition = scope.constant(np.array(style.chance(0.3)))
    return norm(scope, scope.op("If", condition, then_branch=graphs[0], else_branch=graphs[1]))


def _stale(scope: Scope) -> str:
    """A value of which the file says another last size, as an editor leaves it; a count may fit the lie."""
    value = scope.op("Neg", scope.values[-1])
    if scope.layout and isinstance(scope.layout[-1], int):
        scope.style.stale[value] = (*scope.layout[:-1], scope.last + 1)
    return near_norm(scope, value)
