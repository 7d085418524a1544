"""A fault of the pip wheel of TensorRT-RTX, mended before it can kill the process.

The ONNX parser of that wheel opens `libtensorrt_rtx.so` when it adds a plugin to a network, but the wheel has only
`libtensorrt_rtx.so.1`. The process then ends in std::terminate. The parser looks in the folder that it was itself
loaded from, so a link of that name there is all that is missing.
"""

from __future__ import annotations

import atexit
import ctypes
import importlib.util
import os
import shutil
import sys
import tempfile
from pathlib import Path

from rms_deploy.errors import InstallationError

__all__ = ["link_of", "mend"]

_PACKAGE = "tensorrt_rtx_libs"
_LINK = "libtensorrt_rtx.so"


def mend() -> None:
    """Give the wheel its link.

    It is made in the wheel's own folder. Where that is read-only, it is made in a private folder beside links to the
    libraries, which are then loaded from there; that folder lasts as long as this process.

    Does nothing where the wheel is not installed, or has the link.

    Raises:
        InstallationError: the folder is read-only and `tensorrt_rtx` was imported already, from that folder.
    """
    link = link_of()
    if link is None or link.exists():
        return
    libraries = sorted(link.parent.glob("*.so.*"))
    target = next((library for library in libraries if library.name.startswith(f"{_LINK}.")), None)
    if target is None:
        return  # not the wheel that we know
    try:
        _link(link, target.name)
    except OSError as error:
        if "tensorrt_rtx_bindings" in sys.modules:
            raise InstallationError(
                f"{link} is missing and cannot be written, and without it TensorRT-RTX ends the process at the first "
                f"plugin; load it through rms_deploy before you import tensorrt_rtx, or run: ln -s {target.name} {link}"
            ) from error
        _load_from_private_folder(libraries, target)


def link_of() -> Path | None:
    """Where the wheel's link belongs; None: the wheel is not installed."""
    try:
        spec = importlib.util.find_spec(_PACKAGE)
    except ValueError:  # a module without a spec, or None in its place
        return None
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / _LINK


def _link(link: Path, target: str) -> None:
    """Make the link under another name and move it: another process may make it now, or an old one may dangle here."""
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    try:
        temporary.symlink_to(target)
        temporary.replace(link)
    finally:
        temporary.unlink(missing_ok=True)


def _load_from_private_folder(libraries: list[Path], target: Path) -> None:
    """A process loads a library once: whoever loads it later gets the one of this folder."""
    folder = Path(tempfile.mkdtemp(prefix="rms-deploy-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / _LINK).symlink_to(target.resolve())
    for library in libraries:
        (folder / library.name).symlink_to(library.resolve())
        ctypes.CDLL(str(folder / library.name))
