"""`unfuse`: every fused norm back to the operators that any runtime knows."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

from rms_deploy.display import Displayed, Table
from rms_deploy.fusion.describe import describe_fused
from rms_deploy.fusion.near_miss import NearMiss
from rms_deploy.fusion.norm import Norm
from rms_deploy.fusion.norm_tables import near_miss_table, norm_table
from rms_deploy.fusion.passes.fuse_rms_norm import FuseRMSNorm, FuseRMSNormResult
from rms_deploy.fusion.passes.lower_to_plugins import raise_plugins
from rms_deploy.fusion.passes.restore_ops import restore_ops
from rms_deploy.fusion.targets import lower
from rms_deploy.onnx_model.analysis import Facts
from rms_deploy.onnx_model.file import open_model, save_model
from rms_deploy.ops.foreign_ops import foreign_norm
from rms_deploy.ops.forms import NormForm
from rms_deploy.ops.nodes import norm_nodes
from rms_deploy.output_file import check_output

__all__ = ["UnfusionResult", "unfuse"]


@dataclass(frozen=True, repr=False)
class UnfusionResult(Displayed):
    """What `unfuse` did."""

    model: ir.Model = field(repr=False)
    norms: tuple[Norm, ...]
    """Norms that were one op, and are primitives now."""
    near_misses: tuple[NearMiss, ...]
    """Ops that are a norm, and stay as they are."""

    def _line(self) -> str:
        return f"unfused {len(self.norms)} norms, {len(self.near_misses)} near misses"

    def tables(self) -> Iterable[Table]:
        """The norms, and the near misses."""
        yield norm_table(self.norms)
        yield near_miss_table(self.near_misses)

    def to_dict(self) -> dict[str, Any]:
        """For JSON; without the model."""
        return {
            "norm_count": len(self.norms),
            "near_miss_count": len(self.near_misses),
            "norms": [asdict(norm) for norm in self.norms],
            "near_misses": [asdict(miss) for miss in self.near_misses],
        }


def unfuse(
    model: str | os.PathLike[str] | onnx.ModelProto | ir.Model, output: str | os.PathLike[str] | None = None
) -> UnfusionResult:
    """Write every norm that is one op as Pow, ReduceMean, Add, Sqrt, Div and Mul, in float32 with the casts.

    Our ops, those of `trt.plugins`, RMSNormalization, SimplifiedLayerNormalization and its form with a residual. The
    order of rounding stays that of the op; norms that are decomposed already are not touched.

    Args:
        model: a file, a proto or an onnx-ir model, which is not changed.
        output: where to write the result; may be the file that was read.

    Raises:
        ModelFileError: the file cannot be read.
        OutputError: `output` cannot be written.
        InputError: the opset has no operator for what a norm needs.
    """
    if output is not None:
        check_output(Path(output))
    unfused = open_model(model)
    raised = raise_plugins(unfused) | bool(restore_ops(unfused))
    facts = Facts(unfused)
    result = FuseRMSNorm(facts, skip=_is_decomposed)(unfused)
    assert isinstance(result, FuseRMSNormResult)
    norms = tuple(describe_fused(node, facts) for node in norm_nodes(unfused))
    lowered = lower(unfused, NormForm.DECOMPOSED, facts=facts, modified=raised or result.modified)
    if output is not None:
        unchanged = None if lowered.modified or isinstance(model, ir.Model) else model
        save_model(lowered.model, output, unchanged=unchanged)
    return UnfusionResult(lowered.model, norms, result.near_misses)


def _is_decomposed(node: ir.Node, facts: Facts) -> bool:  # noqa: ARG001 - the signature of a filter
    """Whether `node` is not a whole norm, and so at most a part of one."""
    return (norm := foreign_norm(node)) is None or not norm.is_rms
