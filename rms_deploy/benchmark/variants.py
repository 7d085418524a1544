"""The forms of one model that a benchmark compares: its norms decomposed, fused, and as other runtimes' ops."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import onnx_ir as ir

from rms_deploy.errors import InputError
from rms_deploy.fusion.fuse import FusionResult, fuse
from rms_deploy.fusion.unfuse import unfuse
from rms_deploy.ops.forms import NormForm
from rms_deploy.ops.nodes import norm_nodes

__all__ = ["ORIGINAL", "VARIANTS", "Variant", "write_variant"]

ORIGINAL: Final = "original"

VARIANTS: Final[dict[str, str]] = {
    ORIGINAL: "the file as it is",
    NormForm.DECOMPOSED.value: "every norm as primitives",
    NormForm.FUSED.value: "every norm as one op of ours, run by our library",
    NormForm.STANDARD.value: "every norm as ONNX's RMSNormalization",
    NormForm.ONNXRUNTIME.value: "every norm as ONNX Runtime's own op, [Skip]SimplifiedLayerNormalization",
}


@dataclass(frozen=True)
class Variant:
    """A form of the model, and the file that it was written to."""

    path: Path
    model: ir.Model
    note: str = ""
    """What a reader should know of it."""


def write_variant(model: ir.Model, form: str, folder: Path) -> Variant:
    """Write `model` into `folder`, its norms in another form.

    Args:
        model: is not changed.
        form: one of `VARIANTS`, other than the original.
        folder: for the file.

    Raises:
        InputError: the model cannot take the form: a norm of it stays in another.
        OutputError: `folder` cannot be written.
    """
    path = folder / f"{form}.onnx"
    if form == NormForm.DECOMPOSED:
        result = unfuse(model, path)
        if result.near_misses:
            raise InputError(f"a norm stays one op: {result.near_misses[0]}")
        return Variant(path, result.model)
    fusion = fuse(model, path, target=form)
    _require(fusion, form)
    left = [miss for miss in fusion.near_misses if miss.left == "norm"]
    return Variant(path, fusion.model, f"{len(left)} left decomposed: {left[0]}" if left else "")


def _require(fusion: FusionResult, form: str) -> None:
    """Raise InputError unless something was fused, and all of it has the form."""
    done = len(fusion.norms) + len(fusion.fused_before)
    if not done:
        raise InputError(
            f"no norm was fused: {fusion.near_misses[0]}" if fusion.near_misses else "the model has no RMSNorm to fuse"
        )
    ours = sum(1 for _ in norm_nodes(fusion.model))
    if form != NormForm.FUSED and ours:
        raise InputError(f"{ours} of {done} norms cannot take this form; `rms_deploy.fuse` with target {form} says why")
