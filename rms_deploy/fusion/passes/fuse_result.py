"""What a pass that fuses gives back."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

__all__ = ["FuseResult"]


@dataclass
class FuseResult(ir.passes.PassResult):
    """The model, and whether all was known that decides."""

    is_decided: bool
    """False: something stayed outside of a norm, maybe because a shape is not known."""
