"""`fuse`: every RMSNorm that the grammar can prove becomes one op."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

from rms_deploy import modelfile
from rms_deploy.functions import attach_functions, norm_nodes
from rms_deploy.inspection import described, opened
from rms_deploy.passes.fuse_add_rms_norm import FuseAddRMSNorm
from rms_deploy.passes.fuse_rms_norm import FuseRMSNorm, FuseRMSNormResult
from rms_deploy.passes.grammar import Facts
from rms_deploy.passes.report import NearMiss, Norm, near_miss

__all__ = ["FusionResult", "fuse"]


@dataclass(frozen=True)
class FusionResult:
    """What `fuse` did."""

    model: ir.Model
    norms: tuple[Norm, ...]
    """Norms that are one op now and were not before."""
    already: tuple[Norm, ...]
    """Norms that were one of our ops before."""
    left: tuple[NearMiss, ...]
    """What looks like RMSNorm and was left alone."""

    @property
    def found(self) -> int:
        """Number of norms, fused and left."""
        return len(self.norms) + len(self.already) + len(self.left)

    def to_dict(self) -> dict[str, Any]:
        """For JSON; without the model."""
        return {
            "found": self.found,
            "fused": len(self.norms),
            "norms": [asdict(norm) for norm in self.norms],
            "already": [asdict(norm) for norm in self.already],
            "left": [asdict(miss) for miss in self.left],
        }


def fuse(
    model: str | os.PathLike[str] | onnx.ModelProto | ir.Model,
    output: str | os.PathLike[str] | None = None,
    *,
    residual: bool = True,
    allow_precision_gain: bool = False,
) -> FusionResult:
    """Find the decomposed and native RMSNorms of a model and make each one op of the domain `rms_deploy`.

    What cannot be proven to be RMSNorm is left alone, and the reason is given in `left`. The order of rounding that
    the model has is kept. Nothing but the norms and what only they read is changed; a model without any stays, byte
    for byte, what it was, and so does one that was fused before.

    Args:
        model: a file, a proto or an onnx-ir model. A given model is not changed: its graph is copied, its weights
            are shared with the result.
        output: where to write the fused model; may be the file that was read.
        residual: also fuse a residual Add into the norm of its sum (`AddRMSNorm`).
        allow_precision_gain: also fuse norms that take their statistics in a half type. The op takes them in float32,
            so the result differs, and is nearer to the exact one; the note of such a norm says so.

    Raises:
        ModelFileError: the file cannot be read.
        OutputError: `output` cannot be written.
        InputError: the opset is too old for the body of an op that the model needs.
    """
    if output is not None:
        modelfile.check_target(Path(output))
    fused = opened(model)
    before = set(norm_nodes(fused))
    facts = Facts(fused)
    result = FuseRMSNorm(facts, allow_gain=allow_precision_gain)(fused)
    assert isinstance(result, FuseRMSNormResult)
    modified = result.modified
    if residual:
        modified |= FuseAddRMSNorm(facts)(fused).modified
    if modified:
        attach_functions(fused)
    after = [(node, described(node, facts)) for node in norm_nodes(fused)]
    if output is not None:
        modelfile.save(fused, output)
    return FusionResult(
        fused,
        norms=tuple(norm for node, norm in after if node not in before),
        already=tuple(norm for node, norm in after if node in before),
        left=tuple(near_miss(refusal) for refusal in result.refusals),
    )
