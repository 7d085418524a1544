"""What a benchmark of generation needs to know of a decoder: its key-value cache, and a prompt without a past."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import onnx_ir as ir

from rms_deploy.errors import InputError
from rms_deploy.onnx_model.signature import input_specs, output_specs

__all__ = ["cache_pairs", "without_past"]


def cache_pairs(inputs: Sequence[str], outputs: Sequence[str]) -> dict[str, str]:
    """Each input of the cache, and the output that takes its place: `past_key_values.0.key` and `present.0.key`."""
    pairs = {name: re.sub(r"^past(_key_values)?", "present", name) for name in inputs if name.startswith("past")}
    return {name: present for name, present in pairs.items() if present in outputs}


def without_past(model: ir.Model, shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """The sizes of named dimensions with which the cache is empty, unless `shapes` say how long it is.

    Empty is each dimension that the output has longer, under another name: that of the tokens.

    Raises:
        InputError: the model has no cache among its inputs and outputs.
    """
    specs, outputs = input_specs(model), output_specs(model)
    pairs = cache_pairs(list(specs), list(outputs))
    if not pairs:
        raise InputError(
            "`generate` feeds a key-value cache back, and the model has none: no inputs past_key_values.* with outputs "
            "present.*; `rms_deploy.export` writes them, with `with_past=True`"
        )
    if shapes.keys() & pairs.keys():
        return {}
    grown: list[ir.SymbolicDim] = []
    for name, present in pairs.items():
        after = list(outputs[present].shape or ())
        dims = enumerate(specs[name].shape or ())
        grown += (dim for axis, dim in dims if isinstance(dim, ir.SymbolicDim) and dim not in after[axis : axis + 1])
    return {dim.value: 0 for dim in grown if dim.value is not None and dim.free_symbols() == {dim.value}}
