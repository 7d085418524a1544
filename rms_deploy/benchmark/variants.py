"""The forms of one model that a benchmark compares: its norms decomposed, fused, and as other runtimes' ops."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rms_deploy.errors import InputError
from rms_deploy.fusion.fuse import FusionResult, fuse
from rms_deploy.fusion.unfuse import unfuse
from rms_deploy.ops.nodes import norm_nodes

__all__ = ["VARIANTS", "Variant", "write_variant"]

VARIANTS: Final[dict[str, str]] = {
    "original": "the file as it is",
    "decomposed": "every norm as primitives",
    "fused": "every norm as one op of ours, run by our library",
    "standard": "every norm as ONNX's RMSNormalization",
    "onnxruntime": "every norm as ONNX Runtime's own op, [Skip]SimplifiedLayerNormalization",
}


@dataclass(frozen=True)
class Variant:
    """A form of the model, as a file."""

    path: Path
    note: str = ""
    """What a reader should know of it."""


def write_variant(model: str | os.PathLike[str], name: str, folder: Path) -> Variant:
    """Write `model` in the form `name`, one of `VARIANTS`, into `folder`.

    Raises:
        InputError: no such form, or the model cannot take it: a norm of it stays in another.
        ModelFileError: the file cannot be read.
        OutputError: `folder` cannot be written.
    """
    if name not in VARIANTS:
        raise InputError(f"variant {name!r} is not known; use {', '.join(VARIANTS)}")
    if name == "original":
        return Variant(Path(model))
    path = folder / f"{name}.onnx"
    if name == "decomposed":
        result = unfuse(model, path)
        if result.near_misses:
            raise InputError(f"a norm stays one op: {result.near_misses[0]}")
        return Variant(path)
    fusion = fuse(model, path, target=name)
    _require(fusion, name)
    left = len(fusion.near_misses)
    return Variant(path, f"{left} left decomposed: {fusion.near_misses[0]}" if left else "")


def _require(fusion: FusionResult, name: str) -> None:
    """Something was fused, and all of it has the form."""
    done = len(fusion.norms) + len(fusion.fused_before)
    if not done:
        raise InputError(
            f"no norm was fused: {fusion.near_misses[0]}" if fusion.near_misses else "the model has no RMSNorm to fuse"
        )
    ours = sum(1 for _ in norm_nodes(fusion.model))
    if name != "fused" and ours:
        raise InputError(f"{ours} of {done} norms cannot take this form; `fuse --target {name}` says why")
