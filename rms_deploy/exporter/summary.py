"""What an exported model is, in a line."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import onnx_ir as ir

from rms_deploy.ops.contract import DOMAIN, OPS
from rms_deploy.ops.foreign_ops import RMS_NORMALIZATION, foreign_norm

__all__ = ["ExportSummary", "summarize"]


@dataclass(frozen=True)
class ExportSummary:
    """Attributes: norms: number of nodes by op type; opset: of the ONNX operators; dtype: of most of the weights."""

    norms: dict[str, int]
    opset: int
    dtype: str

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def summarize(model: ir.Model) -> ExportSummary:
    """Count the norm nodes of `model`, and its weights by element type."""
    norms: Counter[str] = Counter()
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        if (node.domain == DOMAIN and node.op_type in OPS) or foreign_norm(node) is RMS_NORMALIZATION:
            norms[node.op_type] += 1
    weights: Counter[str] = Counter()
    for value in model.graph.initializers.values():
        if value.const_value is not None and value.const_value.dtype.is_floating_point():
            weights[str(value.const_value.dtype.numpy())] += value.const_value.size
    dtype = weights.most_common(1)[0][0] if weights else "none"
    return ExportSummary(dict(norms), model.opset_imports[""], dtype)
