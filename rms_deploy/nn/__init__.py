"""RMSNorm, pRMSNorm, residual Add + RMSNorm, gated RMSNorm, and a LayerNorm twin, as torch modules."""

from __future__ import annotations

from rms_deploy.ops import torch_check  # noqa: F401 - first: it says what is missing

# isort: split
from rms_deploy.nn.add_rms_norm import AddRMSNorm
from rms_deploy.nn.gated_rms_norm import GatedRMSNorm
from rms_deploy.nn.layer_norm import LayerNorm
from rms_deploy.nn.rms_norm import PartialRMSNorm, RMSNorm

__all__ = ["AddRMSNorm", "GatedRMSNorm", "LayerNorm", "PartialRMSNorm", "RMSNorm"]
