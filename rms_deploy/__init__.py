"""Every RMSNorm of a model as one fused kernel, on every runtime.

The names below are loaded on first use, so that importing this package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rms_deploy.benchmark import bench
    from rms_deploy.diagnosis import doctor
    from rms_deploy.engine import build
    from rms_deploy.exporter import export
    from rms_deploy.fusion import fuse
    from rms_deploy.inspection import inspect
    from rms_deploy.runtime.onnxruntime import onnxruntime_library, session
    from rms_deploy.runtime.tensorrt_plugin import tensorrt_library
    from rms_deploy.unfusion import unfuse
    from rms_deploy.verification import verify

    __version__: str

__all__ = [
    "__version__",
    "bench",
    "build",
    "doctor",
    "export",
    "fuse",
    "inspect",
    "onnxruntime_library",
    "session",
    "tensorrt_library",
    "unfuse",
    "verify",
]

_HOME = {
    "bench": "rms_deploy.benchmark",
    "build": "rms_deploy.engine",
    "doctor": "rms_deploy.diagnosis",
    "export": "rms_deploy.exporter",
    "fuse": "rms_deploy.fusion",
    "inspect": "rms_deploy.inspection",
    "onnxruntime_library": "rms_deploy.runtime.onnxruntime",
    "session": "rms_deploy.runtime.onnxruntime",
    "tensorrt_library": "rms_deploy.runtime.tensorrt_plugin",
    "unfuse": "rms_deploy.unfusion",
    "verify": "rms_deploy.verification",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("rms-deploy")
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'rms_deploy' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
