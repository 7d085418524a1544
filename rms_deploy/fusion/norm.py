"""What the passes and `inspect` say of each norm that they met."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

from rms_deploy.fusion.grammar import Refusal, label

__all__ = ["NOTE", "PROOF", "NearMiss", "Norm", "near_miss", "place_of"]


NOTE = "rms_deploy.note"
"""Key of a node's `meta`, which is not saved: what `Norm.note` says of it."""


PROOF = "rms_deploy.proof"
"""Key of a node's `meta`: what running the norm that it replaced showed."""


@dataclass(frozen=True)
class Norm:
    """One norm of a model."""

    kind: str
    """Its op: one of ours, or the native one."""
    form: Literal["fused", "native", "decomposed"]
    """fused: one of our ops; native: one node of another domain; decomposed: primitives that `fuse` takes."""
    node: str
    place: str
    """The module that it came from, where the exporter wrote it down."""
    dtype: str | None
    axes: tuple[int, ...] | None
    n: int | None
    """Number of elements normalised over."""
    epsilon: float | None
    rms_epsilon: float
    rms_min: float
    partial_size: int | None
    rounding: Literal["once", "before scale"] | None
    """once: scaled in float32, then rounded; before scale: rounded to the dtype, then scaled; None: float32."""
    scale: str
    """Type and shape of the scale, or 'none'."""
    note: str = ""
    """Why it is not fused, what of it stays outside, or what fusing it changed."""
    max_ulp: int | None = None
    """Largest distance between the norm as it was and as it is now, on the rows that `fuse` ran; None: not run."""
    unproven: str = ""
    """Why `fuse` did not run it."""


@dataclass(frozen=True)
class NearMiss:
    """Something that looks like RMSNorm and was left alone."""

    node: str
    piece: str
    """The piece of the grammar that failed."""
    reason: str
    place: str

    def __str__(self) -> str:
        return f"{self.node}: {self.reason}"


def near_miss(refusal: Refusal) -> NearMiss:
    """The refusal, for people."""
    return NearMiss(label(refusal.node), refusal.piece, refusal.reason, place_of(refusal.node))


def place_of(node: ir.Node) -> str:
    """The module that `node` came from, as torch's exporters write it: in the metadata, or as a path in the name."""
    scopes = node.metadata_props.get("pkg.torch.onnx.name_scopes")
    if scopes:
        try:
            names = ast.literal_eval(scopes)
            return str(names[-2]) if len(names) > 1 else ""
        except (ValueError, SyntaxError, TypeError):
            return ""
    name = node.name or ""
    return name.strip("/").rpartition("/")[0] if name.startswith("/") else ""
