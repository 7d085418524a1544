"""`unfuse`: every fused norm back to the operators that any runtime knows."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

from rms_deploy.fusion.grammar import Facts
from rms_deploy.fusion.inspect import described, opened
from rms_deploy.fusion.norm import NearMiss, Norm, near_miss
from rms_deploy.fusion.passes.expand_skip_norm import is_skip_norm
from rms_deploy.fusion.passes.fuse_rms_norm import FuseRMSNorm, FuseRMSNormResult
from rms_deploy.fusion.passes.lower_to_plugins import raise_plugins
from rms_deploy.fusion.replacement import NATIVE_OPS
from rms_deploy.fusion.targets import lower
from rms_deploy.onnx_model import file as modelfile
from rms_deploy.ops.functions import norm_nodes

__all__ = ["UnfusionResult", "unfuse"]


@dataclass(frozen=True)
class UnfusionResult:
    """What `unfuse` did."""

    model: ir.Model
    norms: tuple[Norm, ...]
    """Norms that were one op."""
    left: tuple[NearMiss, ...]
    """Ops that are a norm and were left."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON; without the model."""
        return {
            "unfused": len(self.norms),
            "norms": [asdict(norm) for norm in self.norms],
            "left": [asdict(miss) for miss in self.left],
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
        modelfile.check_target(Path(output))
    unfused = opened(model)
    raise_plugins(unfused)
    facts = Facts(unfused)
    result = FuseRMSNorm(facts, skip=_is_decomposed)(unfused)
    assert isinstance(result, FuseRMSNormResult)
    norms = tuple(described(node, facts) for node in norm_nodes(unfused))
    unfused = lower(unfused, "primitives")
    if output is not None:
        modelfile.save(unfused, output)
    return UnfusionResult(unfused, norms, tuple(near_miss(refusal) for refusal in result.refusals))


def _is_decomposed(node: ir.Node, facts: Facts) -> bool:  # noqa: ARG001 - the signature of a filter
    return node.op_type not in NATIVE_OPS and not is_skip_norm(node)
