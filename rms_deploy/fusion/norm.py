"""One norm of a model, as `fuse`, `unfuse` and `inspect` list it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rms_deploy.ops.forms import NormForm

__all__ = ["NOTE", "PROOF", "Norm", "Rounding"]


NOTE = "rms_deploy.note"
"""Key of a node's `meta`, which is not saved: what `Norm.note` says of it."""


PROOF = "rms_deploy.proof"
"""Key of a node's `meta`: what running the norm that it replaced showed."""


Rounding = Literal["once", "before scale", "reciprocal"]


@dataclass(frozen=True)
class Norm:
    """One norm of a model."""

    kind: str
    """Its op: ours, or that of ONNX or ONNX Runtime."""
    form: NormForm
    """`NormForm.DECOMPOSED`: primitives that `fuse` would replace."""
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
    rounding: Rounding | None
    """once: scaled in float32, then rounded; before scale: rounded to the dtype, then scaled; reciprocal: 1 / rms is
    rounded to the dtype, then multiplied by x, then by scale; None: float32."""
    scale: str
    """Type and shape of the scale, or 'none'."""
    note: str = ""
    """Why it is not fused, what of it stays outside, or what fusing it changed."""
    max_ulp: int | None = None
    """Largest distance between the norm as it was and as it is now, on the rows that `fuse` ran; None: not run."""
    unproven: str = ""
    """Why `fuse` did not run it."""
    sum_dtype: str | None = None
    """dtype of the sum that it gives besides; None: it makes none, or nobody knows it."""
    output_dtype: str | None = None
    """int8 or float8e4m3fn, to which its result is quantised; None: it is not."""
    y_scale: float | None = None
    """What its result is divided by then."""
