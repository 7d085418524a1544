"""A near miss: what looks like RMSNorm and is not fused, and why."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from rms_deploy.ops.nodes import label, place_of

__all__ = ["NearMiss", "near_miss"]


@dataclass(frozen=True)
class NearMiss:
    """Something that looks like RMSNorm and is not fused."""

    node: str
    piece: str
    """The piece of the grammar that failed."""
    reason: str
    place: str
    """The module that it came from, where the exporter wrote it down."""

    def __str__(self) -> str:
        return f"{self.node}: {self.reason}"


def near_miss(piece: str, node: ir.Node, reason: str) -> NearMiss:
    """The near miss at `node`, where `piece` of the grammar failed for `reason`."""
    return NearMiss(label(node), piece, reason, place_of(node))
