"""The compute capability of a GPU type, for nodes that announce one and have no GPU that could be asked."""

from __future__ import annotations

import re
from typing import Final

from rms_deploy.errors import InputError

__all__ = ["capability_of"]

_TYPES: Final = {
    "sm75": ("T4",),
    "sm80": ("A30", "A100", "A800"),
    "sm86": ("A2", "A10", "A10G", "A16", "A40", "RTX-A6000", "GeForce-RTX-3090"),
    "sm89": ("L4", "L40", "L40S", "L20", "GeForce-RTX-4090", "RTX-6000"),
    "sm90": ("H20", "H100", "H200", "GH200"),
    "sm100": ("B200", "GB200"),
    "sm103": ("B300", "GB300"),
    "sm120": ("GeForce-RTX-5090", "RTX-PRO-6000"),
}
"""By compute capability, the names that Ray makes of NVIDIA's. From NVIDIA's list of CUDA GPUs."""

_CAPABILITIES: Final = {name.lower(): capability for capability, names in _TYPES.items() for name in names}


def capability_of(gpu_type: str) -> str:
    """The compute capability of a GPU type, such as sm89 of L4. A type may also be a compute capability itself.

    Raises:
        InputError: it is not known.
    """
    name = gpu_type.lower()
    if re.fullmatch(r"sm\d{2,3}", name):
        return name
    if name not in _CAPABILITIES:
        raise InputError(
            f"GPU type {gpu_type}: its compute capability is not known, and its node has no GPU to ask; start the node "
            "with the resource accelerator_type:sm89, or whichever it is"
        )
    return _CAPABILITIES[name]
