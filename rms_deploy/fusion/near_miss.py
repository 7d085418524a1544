"""A near miss: what looks like RMSNorm and is not fused, or only in part, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

from rms_deploy.ops.nodes import label, place_of

__all__ = ["NearMiss", "Part", "near_miss"]

Part = Literal["norm", "scale", "residual", "gate", "shift", "quantization"]
"""What can stay outside: all of a norm, its scale, its residual Add, its gate, its shift, or its QuantizeLinear."""


@dataclass(frozen=True)
class NearMiss:
    """Something that looks like RMSNorm and is not fused, or a part of a norm that stays outside of its op."""

    node: str
    piece: str
    """The piece of the grammar that failed."""
    reason: str
    place: str
    """The module that it came from, where the exporter wrote it down."""
    left: Part = "norm"
    """What is not fused: the norm, or only a part of it, and the rest of it is one op."""

    def __str__(self) -> str:
        return f"{self.node}: {self.reason}"


def near_miss(piece: str, node: ir.Node, reason: str) -> NearMiss:
    """The near miss at `node`, where `piece` of the grammar failed for `reason`."""
    return NearMiss(label(node), piece, reason, place_of(node))
