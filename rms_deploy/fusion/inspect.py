"""`inspect`: the norms of a model, fused or not, and why."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import onnx
import onnx_ir as ir

from rms_deploy.display import Displayed, Table
from rms_deploy.fusion.describe import describe_foreign, describe_fused, describe_match
from rms_deploy.fusion.grammar.search import search
from rms_deploy.fusion.half_fused import half_fused
from rms_deploy.fusion.near_miss import NearMiss
from rms_deploy.fusion.norm import Norm
from rms_deploy.fusion.norm_faults import note_faults
from rms_deploy.fusion.norm_tables import near_miss_table, norm_table
from rms_deploy.fusion.passes.restore_ops import restore_ops
from rms_deploy.onnx_model.analysis import Facts
from rms_deploy.onnx_model.file import open_model
from rms_deploy.ops.contract import DOMAIN, OPS
from rms_deploy.ops.foreign_ops import foreign_norm
from rms_deploy.ops.nodes import graphs_of

__all__ = ["Inspection", "inspect"]


@dataclass(frozen=True, repr=False)
class Inspection(Displayed):
    """The norms of a model in the order of the graph, and what only looks like one."""

    norms: tuple[Norm, ...]
    near_misses: tuple[NearMiss, ...]
    faults: tuple[str, ...] = ()
    """What other tools broke, which `fuse` mends: `runs only with the library (5 norms): no body`."""

    def count(self) -> dict[str, int]:
        """How many there are of each form and kind, such as `fused RMSNorm`."""
        return dict(Counter(f"{norm.form} {norm.kind}" for norm in self.norms))

    def _line(self) -> str:
        counts = ", ".join(f"{count} {what}" for what, count in self.count().items()) or "no norms"
        return f"{counts}, {len(self.near_misses)} near misses"

    def tables(self) -> Iterable[Table]:
        """The norms, and the near misses."""
        yield norm_table(self.norms)
        yield near_miss_table(self.near_misses)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "norm_count": len(self.norms),
            "near_miss_count": len(self.near_misses),
            "form_count": self.count(),
            "faults": list(self.faults),
            "norms": [asdict(norm) for norm in self.norms],
            "near_misses": [asdict(miss) for miss in self.near_misses],
        }


def inspect(model: str | os.PathLike[str] | onnx.ModelProto | ir.Model) -> Inspection:
    """List the norms of a model. Nothing is changed.

    Args:
        model: a file, a proto or an onnx-ir model.

    Raises:
        ModelFileError: the file cannot be read.
    """
    model = open_model(model)
    restored = restore_ops(model)
    facts = Facts(model)
    faults = note_faults(model, facts, restored)
    norms: list[Norm] = []
    misses: list[NearMiss] = []
    for graph in graphs_of(model):
        for node in graph:
            if node.domain == DOMAIN and node.op_type in OPS:
                norms.append(describe_fused(node, facts))
                continue
            result = search(node, facts)
            if foreign_norm(node) is not None:
                norms.append(describe_foreign(node, facts, result))
                continue
            misses += result.near_misses
            norms += [describe_match(match, facts) for match in result.matches]
    return Inspection(tuple(norms), (*misses, *half_fused(model, facts)), faults)
