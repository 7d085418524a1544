"""Writing a model that nothing has changed: its very bytes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import onnx
import onnx_ir as ir

from rms_deploy.onnx_model.data_file import place_model

__all__ = ["is_data_beside", "remember_files", "write_unchanged"]

_FILES: Final = "rms_deploy.data_files"
"""In the `meta` of a model."""


def is_data_beside(tensor: ir.ExternalTensor, path: Path) -> bool:
    """Whether a model at `path` finds the data of `tensor` where the tensor says it is."""
    return _is_beside(os.fspath(tensor.location), os.fspath(tensor.path), path)


def write_unchanged(
    model: ir.Model, source: str | os.PathLike[str] | onnx.ModelProto, path: Path, folder: Path
) -> bool:
    """Write the bytes of `source`, which `model` was read from, to `path`.

    Args:
        model: whose data files decide, those that `remember_files` was told.
        source: a file or a proto.
        path: where to; links are resolved.
        folder: the work folder.

    Returns:
        False: nothing was written, as the model refers to a data file that lies elsewhere.

    Raises:
        OSError: reading or writing failed.
    """
    files: dict[str, Path] = model.meta.get(_FILES, {})
    if not all(_is_beside(location, file, path) for location, file in files.items()):
        return False
    if isinstance(source, onnx.ModelProto):
        content = source.SerializeToString()
    elif path.exists() and path.samefile(source):
        return True
    else:
        content = Path(source).read_bytes()
    (folder / "model").write_bytes(content)
    place_model(folder / "model", path, set(files))
    return True


def remember_files(model: ir.Model, files: dict[str, Path]) -> None:
    """Keep beside `model` which data files it was read with: those of tensors that are dense now too.

    Args:
        model: what was read.
        files: by location, the file, links resolved.
    """
    model.meta[_FILES] = files


def _is_beside(location: str, file: str | Path, path: Path) -> bool:
    beside = Path(os.path.realpath(path.parent / location))
    return beside == Path(os.path.realpath(file)) and beside.is_relative_to(path.parent)
