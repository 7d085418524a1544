"""What the passes that take a part of a model into a norm share."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from rms_deploy.fusion.proof.prove_pass import PassProver
from rms_deploy.onnx_model.analysis import Facts

__all__ = ["FusePart", "FuseResult"]


@dataclass
class FuseResult(ir.passes.PassResult):
    """The model, and whether all was known that decides."""

    is_decided: bool
    """False: something stayed outside of a norm, maybe because a shape is not known."""


class FusePart(ir.passes.InPlacePass):
    """A pass that takes what stands around a norm into it."""

    def __init__(self, facts: Facts | None = None, *, prove: bool = False) -> None:
        """`facts` of the model, where several passes share them, and whether to run what is fused."""
        super().__init__()
        self.facts = facts
        self.prove = prove

    def prover(self, facts: Facts) -> PassProver | None:
        """What runs each subgraph before and after this pass; None: nothing is run."""
        return PassProver(type(self)(), facts) if self.prove else None
