"""Where the compiled libraries of this installation are."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from rms_deploy.errors import InstallationError

__all__ = ["onnxruntime_library", "tensorrt_library", "torch_library"]

_ONNXRUNTIME: Final = "librms_deploy_onnxruntime.so"
_TENSORRT: Final = "librms_deploy_tensorrt.so"
_TORCH: Final = "librms_deploy_torch.so"


def onnxruntime_library() -> Path:
    """The custom-op library, for `SessionOptions.register_custom_ops_library`.

    Raises:
        InstallationError: the installation has none.
    """
    return _library(_ONNXRUNTIME, needs="a C++17 compiler at hand")


def tensorrt_library() -> Path:
    """The TensorRT plugin library, for `IPluginRegistry.load_library`, and for `trtexec --dynamicPlugins`.

    Raises:
        InstallationError: the installation has none.
    """
    return _library(_TENSORRT, needs="a CUDA compiler at hand (pip installs one)")


def torch_library() -> Path:
    """The library of the torch modules' compiled kernels, which `rms_deploy.nn` loads by itself.

    Raises:
        InstallationError: the installation has none.
    """
    return _library(_TORCH, needs="a C++17 compiler at hand")


def _library(name: str, *, needs: str) -> Path:
    # An editable installation has two folders: the source, and what was built.
    folders = [Path(folder) for folder in sys.modules["rms_deploy"].__path__]
    for folder in folders:
        path = folder / "lib" / name
        if path.is_file():
            return path
    raise InstallationError(_why_not(name, folders, needs))


def _why_not(name: str, folders: list[Path], needs: str) -> str:
    """The source tree holds no libraries; an installation without one was built without a compiler."""
    package, root = folders[0], folders[0].parent
    if len(folders) > 1 or not (root / "pyproject.toml").is_file():
        return f"{name} is not built; reinstall rms-deploy with {needs}: pip install ."
    if _is_installed():
        return (
            f"{name} is not in {package}: Python imported the source tree, which has no compiled libraries, and "
            f"not the installed rms-deploy; start Python in another folder than {root}"
        )
    return f"{name} is not in {package}, the source tree; build it with {needs}: pip install -e {root}"


def _is_installed() -> bool:
    try:
        return distribution("rms-deploy") is not None
    except PackageNotFoundError:
        return False
