"""What stands around norms: elementwise and shape operators, residual sums, branches, loops and local functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import helper

from .lies import lie
from .norms import near_norm, norm, one_op
from .writer import Scope, typed

__all__ = ["step"]

_UNARY = ("Neg", "Abs", "Relu", "Tanh", "Sigmoid", "Identity", "Dropout")


def step(scope: Scope) -> None:
    """Write one thing more, of the values so far; it appends its result to them."""
    choices: list[tuple[float, Callable[[Scope], str]]] = [
        (5, lambda scope: norm(scope, _recent(scope))),
        (2, lambda scope: near_norm(scope, _recent(scope))),
        (2, _residual),
        (2, _elementwise),
        (1, _reshaped),
        (1, lambda scope: one_op(scope, _recent(scope), _any(scope))),
    ]
    if scope.depth < 2 and not scope.in_function:
        choices += [(0.6, _branch), (0.4, _loop), (0.3, _scan)]
    if scope.depth == 0 and not scope.in_function and scope.style.opset >= 13:
        choices.append((0.8, _function))
    if scope.depth == 0 and not scope.in_function:
        choices.append((0.4, lie))
    weights = np.array([weight for weight, _ in choices])
    chosen = choices[int(scope.style.rng.choice(len(choices), p=weights / weights.sum()))][1]
    scope.values.append(chosen(scope))


def _recent(scope: Scope) -> str:
    return scope.values[-1] if scope.style.chance(0.7) else _any(scope)


def _any(scope: Scope) -> str:
    chosen: str = scope.style.pick(*scope.values)
    return chosen


def _residual(scope: Scope) -> str:
    total = scope.either_way("Add", _recent(scope), _any(scope))
    if scope.style.chance(0.6):
        scope.values.append(total)
        return norm(scope, total)
    return total


def _elementwise(scope: Scope) -> str:
    style, value = scope.style, _recent(scope)
    kind = style.pick(*_UNARY, "Mul", "Add", "Softmax", "MatMul", "Where")
    if kind == "Mul":
        return scope.either_way("Mul", value, scope.number(style.pick(0.5, -1.5)))
    if kind == "Add":
        return scope.either_way("Add", value, scope.constant(scope.random([scope.last])))
    if kind == "Softmax":
        return scope.op("Softmax", value, axis=-1 if style.opset >= 11 else scope.rank - 1)
    if kind == "MatMul" and scope.rank > 1 and scope.last:
        return scope.op("MatMul", value, scope.constant(scope.random([scope.last, scope.last])))
    if kind == "Where" and style.opset >= 9:
        condition = scope.constant(np.arange(scope.last) % 2 == 0)
        return scope.op("Where", condition, value, _any(scope))
    return scope.op(kind if kind in _UNARY else "Neg", value)


def _reshaped(scope: Scope) -> str:
    """There and back: a pair of transpositions, a flattening, or halves put together again."""
    style, value = scope.style, _recent(scope)
    if scope.rank > 1 and style.chance(0.4):
        order = list(range(scope.rank))
        order[-1], order[-2] = order[-2], order[-1]
        inner = scope.op("Transpose", value, perm=order)
        return scope.op("Transpose", scope.op(style.pick("Neg", "Identity"), inner), perm=order)
    if style.opset >= 10 and scope.last > 1 and style.chance(0.5):
        bounds = [scope.constant(np.array([at], np.int64)) for at in (0, scope.last // 2, scope.last)]
        axis = scope.constant(np.array([scope.rank - 1], np.int64))
        halves = [scope.op("Slice", value, bounds[i], bounds[i + 1], axis) for i in (0, 1)]
        return scope.op("Concat", *halves, axis=scope.rank - 1)
    if style.opset < 14:  # without allowzero, a size of 0 is one of the input's
        return scope.op("Neg", value)
    shape = scope.op("Shape", value)
    return scope.op("Reshape", scope.unsqueeze(value, [0]), shape, allowzero=1)


def _inner(scope: Scope, values: list[str], *, steps: int) -> Scope:
    inner = replace(scope, values=list(values), nodes=[], initializers=[], depth=scope.depth + 1)
    for _ in range(steps):
        step(inner)
    inner.values.append(inner.op("Identity", inner.values[-1]))
    return inner


def _graph(scope: Scope, name: str, inputs: list[Any], outputs: list[Any]) -> onnx.GraphProto:
    return helper.make_graph(scope.nodes, name, inputs, outputs, scope.initializers)


def _branch(scope: Scope) -> str:
    style = scope.style
    condition = scope.constant(np.array(style.chance(0.5)))
    graphs, before = [], dict(style.counts)
    for name in ("then", "else"):
        if name == "else" and style.chance(0.3):  # the same names as in the other branch, which is legal
            style.counts = before
        before = dict(style.counts)
        inner = _inner(scope, scope.values, steps=int(style.rng.integers(3)))
        graphs.append(_graph(inner, name, [], [typed(inner.style, inner.values[-1])]))
    for hint in list(style.counts):
        style.counts[hint] += 50  # never again a name of either branch
    return scope.op("If", condition, then_branch=graphs[0], else_branch=graphs[1])


def _loop(scope: Scope) -> str:
    style = scope.style
    names = [style.name(hint) for hint in ("iteration", "going", "carried")]
    inner = _inner(scope, [*scope.values, names[2]], steps=int(style.rng.integers(1, 3)))
    goes_on = inner.op("Identity", names[1])
    inputs = [
        helper.make_tensor_value_info(names[0], onnx.TensorProto.INT64, []),
        helper.make_tensor_value_info(names[1], onnx.TensorProto.BOOL, []),
        typed(inner.style, names[2]),
    ]
    outputs = [helper.make_tensor_value_info(goes_on, onnx.TensorProto.BOOL, []), typed(inner.style, inner.values[-1])]
    trips = scope.constant(np.array(style.pick(0, 1, 2), np.int64))
    going = scope.constant(np.array(True))
    return scope.op("Loop", trips, going, scope.values[-1], body=_graph(inner, "body", inputs, outputs))


def _scan(scope: Scope) -> str:
    """Over the first axis, a row at a time; the body has one axis less."""
    style = scope.style
    if style.opset < 9 or scope.rank < 2:
        return norm(scope, _recent(scope))
    row = style.name("row")
    inner = replace(
        scope, values=[row], nodes=[], initializers=[], depth=2, rank=scope.rank - 1, layout=scope.layout[1:]
    )
    step(inner)
    out = inner.op("Identity", inner.values[-1])
    body = _graph(inner, "body", [typed(inner.style, row)], [typed(inner.style, out)])
    return scope.op("Scan", _recent(scope), body=body, num_scan_inputs=1)


def _function(scope: Scope) -> str:
    style = scope.style
    if "Layer" not in style.functions or style.chance(0.3):
        name = "Layer" if "Layer" not in style.functions else "Other"
        parameters = ["f_x", "f_r"]
        inner = replace(scope, values=list(parameters), nodes=[], initializers=[], in_function=True)
        for _ in range(int(style.rng.integers(1, 4))):
            step(inner)
        result = inner.op("Identity", inner.values[-1])
        used = {node.domain for node in inner.nodes if node.domain}
        imports = [helper.make_opsetid("", style.opset), *(helper.make_opsetid(domain, 1) for domain in sorted(used))]
        style.functions[name] = helper.make_function("local", name, parameters, [result], inner.nodes, imports)
    name = style.pick(*(name for name in style.functions if name in ("Layer", "Other")))
    return scope.op(name, _recent(scope), _any(scope), domain="local")
