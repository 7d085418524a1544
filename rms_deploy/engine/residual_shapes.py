"""The shapes of X and R of each sum, and of X and Z of each gate, in the optimization profiles of an engine."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from rms_deploy.errors import InputError
from rms_deploy.onnx_model.analysis import Facts
from rms_deploy.onnx_model.optimization_profiles import OptimizationProfile
from rms_deploy.ops.contract import OPS
from rms_deploy.ops.nodes import label, norm_nodes, shaped_inputs

__all__ = ["check_residuals"]


def check_residuals(model: ir.Model, profiles: Sequence[OptimizationProfile]) -> None:
    """X and R, or X and Z, have one shape at the min, opt and max shapes of each profile, as far as that is known.

    Raises:
        InputError: they differ, so that the op takes no input of these shapes.
    """
    if all(_is_proven(node, facts) for facts in [Facts(model)] for node in _residuals(model)):
        return
    for number, profile in enumerate(profiles, 1):
        for which in ("min", "opt", "max"):
            sized = model.clone()
            for value in sized.graph.inputs:
                shapes = profile.get(value.name or "")
                if shapes is not None:
                    value.shape = ir.Shape(getattr(shapes, which))
            facts = Facts(sized)
            for node in _residuals(sized):
                _check(node, facts, f"the {which} shapes of profile {number}")


def _residuals(model: ir.Model) -> list[ir.Node]:
    return [node for node in norm_nodes(model) if len(shaped_inputs(node)) == 2]


def _is_proven(node: ir.Node, facts: Facts) -> bool:
    x, r = node.inputs[:2]
    return x is not None and r is not None and facts.same_shape(x, r, exactly=False)


def _check(node: ir.Node, facts: Facts, where: str) -> None:
    x, r = node.inputs[:2]
    if x is None or r is None:
        return
    shapes = [facts.shape(value) for value in (x, r)]
    if None in shapes:
        return
    one, other = (tuple(shape or ()) for shape in shapes)
    known = [(a, b) for a, b in zip(one, other, strict=False) if isinstance(a, int) and isinstance(b, int)]
    if len(one) != len(other) or any(a != b for a, b in known):
        name = OPS[node.op_type].inputs[1][0]
        raise InputError(
            f"node {label(node)} ({node.op_type}): in {where} X ({x.name}) is {_text(one)} and {name} ({r.name}) "
            f"{_text(other)}; they need one shape: give `optimization_profiles` in which they have it"
        )


def _text(shape: Sequence[object]) -> str:
    return f"[{','.join('?' if size is None else str(size) for size in shape)}]"
