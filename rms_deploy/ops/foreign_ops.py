"""The norms that ONNX and ONNX Runtime have as one operator: names, domains, inputs and defaults, in one table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import onnx
import onnx_ir as ir

from rms_deploy.ops.forms import NormForm

__all__ = [
    "CONTRIB_DOMAIN",
    "FOREIGN_NORMS",
    "RMS_NORMALIZATION",
    "SIMPLIFIED_LAYER_NORMALIZATION",
    "SKIP_LAYER_NORMALIZATION",
    "SKIP_SIMPLIFIED_LAYER_NORMALIZATION",
    "ForeignNorm",
    "foreign_norm",
]

CONTRIB_DOMAIN: Final = "com.microsoft"
"""Domain of ONNX Runtime's own operators."""


@dataclass(frozen=True)
class ForeignNorm:
    """One operator that is a whole norm."""

    op_type: str
    domains: tuple[str, ...]
    """In which a runtime knows it; the first is where we write it."""
    form: NormForm
    epsilon: float
    """The default of its schema."""
    scale: int = 1
    """Index of the input that is its scale."""
    is_rms: bool = True
    """Whether it is an RMSNorm; False: it subtracts the mean."""
    adds_residual: bool = False
    """Whether it normalises the sum of its first two inputs."""


RMS_NORMALIZATION: Final = ForeignNorm("RMSNormalization", ("",), NormForm.STANDARD, 1e-5)
SIMPLIFIED_LAYER_NORMALIZATION: Final = ForeignNorm(
    "SimplifiedLayerNormalization", ("", CONTRIB_DOMAIN), NormForm.ONNXRUNTIME, 1e-5
)
SKIP_SIMPLIFIED_LAYER_NORMALIZATION: Final = ForeignNorm(
    "SkipSimplifiedLayerNormalization", (CONTRIB_DOMAIN,), NormForm.ONNXRUNTIME, 1e-12, scale=2, adds_residual=True
)
_LAYER_NORMALIZATION: Final = ForeignNorm("LayerNormalization", ("",), NormForm.STANDARD, 1e-5, is_rms=False)
SKIP_LAYER_NORMALIZATION: Final = ForeignNorm(
    "SkipLayerNormalization", (CONTRIB_DOMAIN,), NormForm.ONNXRUNTIME, 1e-12, scale=2, is_rms=False, adds_residual=True
)

FOREIGN_NORMS: Final[dict[str, ForeignNorm]] = {
    norm.op_type: norm
    for norm in (
        RMS_NORMALIZATION,
        SIMPLIFIED_LAYER_NORMALIZATION,
        SKIP_SIMPLIFIED_LAYER_NORMALIZATION,
        _LAYER_NORMALIZATION,
        SKIP_LAYER_NORMALIZATION,
    )
}
"""By the name of the operator."""


def foreign_norm(node: ir.Node | onnx.NodeProto) -> ForeignNorm | None:
    """The norm that `node` is as a whole; None: it is none, or one of ours."""
    norm = FOREIGN_NORMS.get(node.op_type)
    return norm if norm is not None and node.domain in norm.domains else None
