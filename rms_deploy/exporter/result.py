"""What an export wrote."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import onnx_ir as ir

from rms_deploy.display import Displayed
from rms_deploy.ops.contract import DOMAIN, OPS
from rms_deploy.ops.foreign_ops import RMS_NORMALIZATION, foreign_norm
from rms_deploy.ops.forms import NormForm
from rms_deploy.ops.nodes import label

__all__ = ["ExportResult", "ExportedNorm", "exported_norms"]


@dataclass(frozen=True)
class ExportedNorm:
    """One norm of the exported model that is one node."""

    kind: str
    """Its op."""
    form: NormForm
    """fused: one of ours; standard: that of ONNX."""
    node: str


@dataclass(frozen=True, repr=False)
class ExportResult(Displayed):
    """What `export` did."""

    model: ir.Model = field(repr=False)
    path: Path | None
    """The file; None: it wrote none."""
    norms: tuple[ExportedNorm, ...]
    """In the order of the graph. A decomposed norm is several nodes, and is not among them: `inspect` finds it."""
    cached: bool | None = None
    """Whether the key-value cache is among inputs and outputs; None: the model is none that generates tokens, or it is
    not known to be one."""

    @property
    def opset(self) -> int:
        """Of the ONNX operators."""
        return self.model.opset_imports[""]

    @property
    def dtype(self) -> str:
        """That of most of the weights; `none` where there are no floating ones."""
        weights: Counter[str] = Counter()
        for value in self.model.graph.initializers.values():
            if value.const_value is not None and value.const_value.dtype.is_floating_point():
                weights[str(value.const_value.dtype.numpy())] += value.const_value.size
        return weights.most_common(1)[0][0] if weights else "none"

    def count(self) -> dict[str, int]:
        """How many norms there are of each kind."""
        return dict(Counter(norm.kind for norm in self.norms))

    def _line(self) -> str:
        norms = ", ".join(f"{count} {kind}" for kind, count in self.count().items()) or "no norm op"
        return f"{norms}, opset {self.opset}, {self.dtype}" + ("" if self.path is None else f" -> {self.path}")

    def to_dict(self) -> dict[str, Any]:
        """For JSON; without the model."""
        return {
            "output": None if self.path is None else str(self.path),
            "norm_count": len(self.norms),
            "kind_count": self.count(),
            "norms": [asdict(norm) for norm in self.norms],
            "opset": self.opset,
            "dtype": self.dtype,
            "cached": self.cached,
        }


def exported_norms(model: ir.Model) -> tuple[ExportedNorm, ...]:
    """The norms of `model` that are one node, those of its subgraphs included."""
    return tuple(
        ExportedNorm(node.op_type, form, label(node))
        for node in ir.traversal.RecursiveGraphIterator(model.graph)
        if (form := _form(node)) is not None
    )


def _form(node: ir.Node) -> NormForm | None:
    if node.domain == DOMAIN and node.op_type in OPS:
        return NormForm.FUSED
    return NormForm.STANDARD if foreign_norm(node) is RMS_NORMALIZATION else None
