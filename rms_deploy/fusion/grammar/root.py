"""rms(x): the root of the mean square, with the three constants of the contract, or its inverse.

1. Add, Sum of two, Sub of a negative constant: epsilon to the mean square, rms_epsilon to the root.
2. Sqrt, Pow(0.5); Pow(-0.5).
3. Reciprocal, Div(1, .), Pow(-1): of the mean square or of the root.
4. The root squared again, before any constant: what ReduceL2 is used for.
"""

from __future__ import annotations

import math
from dataclasses import replace

import onnx_ir as ir

from rms_deploy.fusion.grammar.match import Match, Stage
from rms_deploy.onnx_model.analysis import Facts
from rms_deploy.onnx_model.constants import scalar, why_not_scalar

__all__ = ["add_epsilon", "invert", "power", "sqrt", "subtract_epsilon", "undo_root"]

_INVERSE = {Stage.MEAN_SQUARE: Stage.INVERSE_MEAN_SQUARE, Stage.ROOT: Stage.INVERSE_ROOT}
_ROOT = {Stage.MEAN_SQUARE: Stage.ROOT, Stage.INVERSE_MEAN_SQUARE: Stage.INVERSE_ROOT}


def add_epsilon(match: Match, node: ir.Node, facts: Facts) -> Match | None:
    """mean square + epsilon, root + rms_epsilon"""
    if match.stage not in (Stage.MEAN_SQUARE, Stage.ROOT):
        return None
    others = [value for value in node.inputs if value is not match.value]
    if len(node.inputs) != 2 or len(others) != 1:
        return match.at(node.outputs[0]) if len(node.inputs) == 1 else None
    return _added(match, node, others[0], scalar(others[0], facts, beside=match.ranked(facts)), facts)


def subtract_epsilon(match: Match, node: ir.Node, facts: Facts) -> Match | None:
    """mean square - (-epsilon), root - (-rms_epsilon)"""
    if match.stage not in (Stage.MEAN_SQUARE, Stage.ROOT) or node.inputs[0] is not match.value:
        return None
    value = scalar(node.inputs[1], facts, beside=match.ranked(facts))
    return None if value is None else _added(match, node, node.inputs[1], -value, facts)


def _added(match: Match, node: ir.Node, other: ir.Value | None, value: float | None, facts: Facts) -> Match:
    name = "epsilon" if match.stage is Stage.MEAN_SQUARE else "rms_epsilon"
    step = match.at(node.outputs[0])
    if value is None:
        return step.doubting(name, node, f"{name} {why_not_scalar(other, facts)}")
    if not math.isfinite(value) or value < 0:
        return step.doubting(name, node, f"{name} is {value:g}; it must be finite and not negative")
    if match.rms_min is not None:
        return (
            step if value == 0 else step.doubting(name, node, f"{name} is added after the floor; the op adds it before")
        )
    if getattr(match, name):
        return step if value == 0 else step.doubting(name, node, f"{name} is added twice")
    return replace(step, epsilon=value) if name == "epsilon" else replace(step, rms_epsilon=value)


def sqrt(match: Match, node: ir.Node, facts: Facts) -> Match | None:  # noqa: ARG001 - as every piece
    """root of the mean square, or of its inverse"""
    stage = _ROOT.get(match.stage)
    return None if stage is None else match.at(node.outputs[0], stage)


def invert(match: Match, node: ir.Node, facts: Facts) -> Match | None:
    """1 / value, by Reciprocal or Div"""
    stage = _INVERSE.get(match.stage)
    if stage is None:
        return None
    if node.op_type == "Div" and scalar(node.inputs[0], facts, beside=match.ranked(facts)) != 1:
        return None
    return match.at(node.outputs[0], stage)


def undo_root(match: Match, node: ir.Node, facts: Facts) -> Match | None:  # noqa: ARG001
    """root * root: the mean square again, as after ReduceL2"""
    if match.stage is not Stage.ROOT or (node.op_type == "Mul" and node.inputs[0] is not node.inputs[1]):
        return None
    if match.epsilon is not None or match.rms_epsilon is not None or match.rms_min is not None:
        return match.at(node.outputs[0], Stage.MEAN_SQUARE).doubting("root", node, "a root with a constant is squared")
    return match.at(node.outputs[0], Stage.MEAN_SQUARE)


def power(match: Match, node: ir.Node, facts: Facts) -> Match | None:
    """Pow(0.5), Pow(-0.5), Pow(-1)"""
    if match.is_norm or node.inputs[0] is not match.value:
        return None
    exponent = scalar(node.inputs[1], facts, beside=match.ranked(facts))
    if exponent == 1:
        return match.at(node.outputs[0])
    if exponent == 0.5:
        return sqrt(match, node, facts)
    if exponent == 2 and match.stage is Stage.ROOT:
        return undo_root(match, node, facts)
    stage = _INVERSE.get(match.stage) if exponent == -1 else None
    if exponent == -0.5 and match.stage is Stage.MEAN_SQUARE:
        stage = Stage.INVERSE_ROOT
    if stage is not None:
        return match.at(node.outputs[0], stage)
    reason = (
        f"the exponent {why_not_scalar(node.inputs[1], facts)}" if exponent is None else f"the exponent is {exponent:g}"
    )
    return match.at(node.outputs[0], Stage.ROOT).doubting("root", node, f"{reason}; a norm has 0.5, -0.5 or -1")
