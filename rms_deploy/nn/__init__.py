"""RMSNorm, pRMSNorm, residual Add + RMSNorm, gated RMSNorm, and a LayerNorm twin, as torch modules.

There is none for `RMSNormQuantize` and `AddRMSNormQuantize`: a quantised result has no gradient. `rms-deploy fuse`
makes them of a quantised model.

| what stands around the norm | module | op |
|---|---|---|
| nothing | `RMSNorm` | `RMSNorm` |
| a bias, or a shift at the call: norm(x) * (1 + s) + t | `RMSNorm(bias=True)`, `norm(x, s, t)` | `RMSNormShift` |
| a residual | `AddRMSNorm`, with or without a shift | `AddRMSNorm`, `AddRMSNormShift` |
| a residual stream in float32 | `AddRMSNorm(residual_in_fp32=True)` | `AddRMSNorm` |
| a sum that is normalised before it is rounded | `AddRMSNorm(round_before_norm=False)` | `AddFloat32RMSNorm` |
| a gate | `GatedRMSNorm` | `RMSNormSiluGate`, `RMSNormSigmoidGate`, `SiluGateRMSNorm` |
"""

from __future__ import annotations

from rms_deploy.ops import torch_check  # noqa: F401 - first: it says what is missing

# isort: split
from rms_deploy.nn.add_rms_norm import AddRMSNorm
from rms_deploy.nn.gated_rms_norm import GatedRMSNorm
from rms_deploy.nn.layer_norm import LayerNorm
from rms_deploy.nn.rms_norm import PartialRMSNorm, RMSNorm

__all__ = ["AddRMSNorm", "GatedRMSNorm", "LayerNorm", "PartialRMSNorm", "RMSNorm"]
