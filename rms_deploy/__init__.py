"""Every RMSNorm of a model as one fused kernel, on every runtime.

The names below are loaded on first use, so that importing this package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rms_deploy.benchmark.bench import bench
    from rms_deploy.engine.build import build
    from rms_deploy.engine.doctor import doctor
    from rms_deploy.exporter.export import export
    from rms_deploy.fusion.fuse import fuse
    from rms_deploy.fusion.inspect import inspect
    from rms_deploy.fusion.unfuse import unfuse
    from rms_deploy.libraries import onnxruntime_library, tensorrt_library
    from rms_deploy.runtime.onnxruntime_session import session
    from rms_deploy.verification.verify import verify

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
    "bench": "rms_deploy.benchmark.bench",
    "build": "rms_deploy.engine.build",
    "doctor": "rms_deploy.engine.doctor",
    "export": "rms_deploy.exporter.export",
    "fuse": "rms_deploy.fusion.fuse",
    "inspect": "rms_deploy.fusion.inspect",
    "onnxruntime_library": "rms_deploy.libraries",
    "session": "rms_deploy.runtime.onnxruntime_session",
    "tensorrt_library": "rms_deploy.libraries",
    "unfuse": "rms_deploy.fusion.unfuse",
    "verify": "rms_deploy.verification.verify",
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
