"""RMSNorm modules of other libraries, replaced by ours."""

from __future__ import annotations

from torch import nn

from rms_deploy.nn import RMSNorm

__all__ = ["find_norms"]


def find_norms(module: nn.Module) -> tuple[dict[nn.Module, RMSNorm], dict[str, str]]:
    return {}, {}
