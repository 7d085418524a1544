"""A match: how far a norm has been recognised in a graph, and what speaks against fusing it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

import onnx_ir as ir

from rms_deploy.fusion.near_miss import NearMiss, near_miss
from rms_deploy.onnx_model.analysis import Facts

__all__ = ["Match", "Stage"]


class Stage(IntEnum):
    """What a value has been recognised as. A norm may end at NORMED and every stage after it."""

    MEAN_SQUARE = 0
    INVERSE_MEAN_SQUARE = 1
    ROOT = 2
    INVERSE_ROOT = 3
    ROUNDED_INVERSE = 4
    """1 / rms, rounded from the type of the statistics to a half type."""
    NORMED = 5
    """x / rms, in the type that the statistics are computed in."""
    SCALED = 6
    """x / rms * scale, not yet rounded to the type of x."""
    ROUNDED = 7
    """x / rms, rounded to the type of x."""
    DONE = 8
    """Scaled and of the type of x, in either order."""


@dataclass(frozen=True)
class Match:
    """x has been squared at `anchor`, and everything since then up to `value` has been recognised.

    value = what `stage` says, with the constants below. None stands for: not met yet.
    """

    stage: Stage
    value: ir.Value
    anchor: ir.Node
    x: ir.Value
    """What is normalised."""
    axes: tuple[int, ...]
    n: int | None
    """Number of elements normalised over, where all dims of the block are static."""
    dtype: ir.DataType = ir.DataType.FLOAT
    """Element type of `value`."""
    is_sum: bool = False
    """Whether the squares were summed and not averaged yet: `value` and the constants are off by a power of n."""
    keeps_axes: bool = True
    """Whether the reduced axes are still there as ones, or not needed, so that the statistics broadcast against x."""
    layout: tuple[int | str, ...] = ()
    """How the statistics lie against x: (): as x with ones; `layout.RESHAPED`; or which axis of x each of theirs is."""
    source: ir.Value | None = None
    """Of what x and what was squared are views, where x is not what was squared."""
    epsilon: float | None = None
    rms_epsilon: float | None = None
    rms_min: float | None = None
    partial_size: int | None = None
    scale: ir.Value | None = None
    scale_shape: tuple[int, ...] | None = None
    """What scale has to be expanded to, where it has fewer elements than the block of axes."""
    factor: ir.Value | None = None
    """What x / rms, scaled, is multiplied by last, of a shape that the op does not take (`ops/scale_shape.py`)."""
    rounds_before_scale: bool = False
    """Whether x / rms was rounded to the type of x before it was scaled."""
    rounds_reciprocal: bool = False
    """Whether 1 / rms was rounded to the type of x before x was multiplied by it."""
    doubt: NearMiss | None = None
    """Set where the rest may still look like a norm, but must not be fused."""
    gain: NearMiss | None = None
    """Set where the model rounds its statistics to a half type, which the op does not."""

    def at(self, value: ir.Value, stage: Stage | None = None, **changes: Any) -> Match:
        """The match one step further, at `value`."""
        return replace(self, value=value, stage=self.stage if stage is None else stage, **changes)

    def doubting(self, piece: str, node: ir.Node, reason: str) -> Match:
        """The same with a reason not to fuse it. The first reason stays."""
        return self if self.doubt else replace(self, doubt=near_miss(piece, node, reason))

    def gaining(self, node: ir.Node, reason: str) -> Match:
        """The same with a rounding that the op would not make. The first reason stays."""
        return self if self.gain else replace(self, gain=near_miss("casts", node, reason))

    def keeping_precision(self, node: ir.Node) -> Match:
        """The same where 1 / rms was rounded, and `node` does other than multiply x by it: the op would not round."""
        if self.stage is not Stage.ROUNDED_INVERSE:
            return self
        reason = f"1 / rms is rounded to {self.dtype.name.lower()}, and something else than x is multiplied by it"
        step = replace(self, stage=Stage.INVERSE_ROOT)
        return step.gaining(node, f"{reason}; the op keeps it in float32")

    @property
    def summed(self) -> int | None:
        """Number of elements that the mean is over."""
        return self.n if self.partial_size is None else self.partial_size

    def ranked(self, facts: Facts) -> ir.Value:
        """A value of the rank that `value` has, or may be broadcast to: x, where that of `value` is not known."""
        return self.x if self.keeps_axes and facts.rank(self.value) is None else self.value

    @property
    def is_norm(self) -> bool:
        """Whether the value is x / rms, whatever follows."""
        return self.stage >= Stage.NORMED

    @property
    def is_narrow(self) -> bool:
        """Whether the value was rounded from the type of the statistics to the type of x."""
        return self.stage >= Stage.ROUNDED
