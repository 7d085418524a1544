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

    Raises:
        InputError: the model has no cache among its inputs and outputs.
    """
    specs = input_specs(model)
    pairs = cache_pairs(list(specs), list(output_specs(model)))
    if not pairs:
        raise InputError(
            "`generate` feeds a key-value cache back, and the model has none: no inputs past_key_values.* with outputs "
            "present.*; `rms_deploy.export` writes them, with `with_past=True`"
        )
    if shapes.keys() & pairs.keys():
        return {}
    dims = (dim for name in pairs for dim in (specs[name].shape or ())[1:] if isinstance(dim, ir.SymbolicDim))
    return {dim.value: 0 for dim in dims if dim.value is not None and dim.free_symbols() == {dim.value}}
