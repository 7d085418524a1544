"""Models that give the values between their nodes, and models that are given them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import onnx_ir as ir
from numpy.typing import NDArray

from rms_deploy.onnx_model.analysis import Facts

__all__ = ["exposed", "given"]

_GIVEN: Final = "rms_deploy_given_{}"
"""The input that stands for a value."""


def exposed(
    model: ir.Model, names: Sequence[str], *, cut: bool = False, dtype: ir.DataType = ir.DataType.FLOAT
) -> ir.Model:
    """A copy that gives the values of these names as outputs too; cut: what reads them reads inputs instead.

    `dtype` is the type of a value of which nothing says the type.
    """
    model = model.clone()
    facts = Facts(model)
    values = {value.name: value for node in model.graph for value in node.outputs}
    for index, value in enumerate(values[name] for name in names):
        value.type = ir.TensorType(facts.dtype(value) or dtype)
        if cut:
            stand_in = ir.val(_GIVEN.format(index), type=value.type)
            value.replace_all_uses_with(stand_in)
            model.graph.inputs.append(stand_in)
        model.graph.outputs.append(value)
    return model


def given(arrays: Sequence[NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The inputs of a cut model for its values, in the order in which they were named."""
    return {_GIVEN.format(index): array for index, array in enumerate(arrays)}
