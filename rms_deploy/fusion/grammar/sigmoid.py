"""sigmoid(z), and silu(z) = z * sigmoid(z), in the spellings that exporters have.

1. Mul(z, Sigmoid(z)), in either order. The sigmoid may be spelled 1 / (1 + exp(-z)) too.
2. Swish with an alpha of one (opset 24).
3. Div(z, 1 + exp(-z)).
"""

from __future__ import annotations

import onnx_ir as ir

from rms_deploy.onnx_model.analysis import Facts, is_op
from rms_deploy.onnx_model.constants import scalar

__all__ = ["sigmoid_of", "silu_of"]


def silu_of(value: ir.Value | None, facts: Facts) -> ir.Value | None:
    """The z of which `value` is silu(z), in the type of z; None: it is not that."""
    node = None if value is None else facts.origin(value).producer()
    if node is None or node.domain != "" or not node.inputs or node.inputs[0] is None:
        return None
    if node.op_type == "Swish":  # case 2
        alpha = node.attributes.get("alpha")
        is_one = alpha is None or (not alpha.is_ref() and alpha.as_float() == 1)
        return node.inputs[0] if is_one else None
    if node.op_type not in ("Mul", "Div"):
        return None
    a, b = node.inputs
    pairs = [(a, _exponent_of(b, facts))]  # case 3
    if node.op_type == "Mul":  # case 1
        pairs = [(a, _sigmoid_of(b, facts)), (b, _sigmoid_of(a, facts))]
    return next((z for z, other in pairs if z is not None and other is not None and _is_one_z(z, other, facts)), None)


def sigmoid_of(value: ir.Value | None, facts: Facts) -> ir.Value | None:
    """The z of which `value` is sigmoid(z), in the type of z; None: it is not that."""
    return None if value is None else _sigmoid_of(facts.origin(value), facts)


def _is_one_z(z: ir.Value, other: ir.Value, facts: Facts) -> bool:
    return facts.dtype(z) == facts.dtype(other) and facts.same(z, other)


def _sigmoid_of(value: ir.Value | None, facts: Facts) -> ir.Value | None:
    node = None if value is None else value.producer()
    if node is None or node.domain != "":
        return None
    if node.op_type == "Sigmoid":
        return node.inputs[0]
    if node.op_type == "Reciprocal":
        return _exponent_of(node.inputs[0], facts)
    is_inverse = node.op_type == "Div" and scalar(node.inputs[0], facts, beside=node.inputs[1]) == 1
    return _exponent_of(node.inputs[1], facts) if is_inverse else None


def _exponent_of(value: ir.Value | None, facts: Facts) -> ir.Value | None:
    """The z of 1 + exp(-z)."""
    add = None if value is None else value.producer()
    if add is None or not is_op(add, "Add"):
        return None
    a, b = add.inputs
    for power, one in ((a, b), (b, a)):
        negative = _operand(_operand(power, "Exp"), "Neg")
        if negative is not None and scalar(one, facts, beside=power) == 1:
            return negative
    return None


def _operand(value: ir.Value | None, op_type: str) -> ir.Value | None:
    node = None if value is None else value.producer()
    return node.inputs[0] if node is not None and is_op(node, op_type) else None
