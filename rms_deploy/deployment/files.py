"""The files of a model, as they travel to another machine: the ONNX file and its data files, or an engine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from rms_deploy.errors import ModelFileError
from rms_deploy.onnx_model.file import load_model
from rms_deploy.onnx_model.tensor_slots import tensor_slots
from rms_deploy.runtime.engine_file import is_engine

__all__ = ["Contents", "files_of", "read_file", "write_files"]

Contents: TypeAlias = Mapping[str, NDArray[np.uint8]]
"""Files by name, as seen from their folder: their bytes, which no one changes."""


def files_of(model: str | os.PathLike[str]) -> dict[str, Path]:
    """The files that a model consists of, by name as seen from the folder of the first, which is the model itself.

    Raises:
        ModelFileError: the model, or data that it refers to, cannot be read.
    """
    path = Path(model)
    if is_engine(path):
        if not path.is_file():
            raise ModelFileError(f"{path}: no such file")
        return {path.name: path}
    tensors = (tensor for tensor, _ in tensor_slots(load_model(path)) if isinstance(tensor, ir.ExternalTensor))
    locations = sorted({os.fspath(tensor.location) for tensor in tensors})
    return {path.name: path, **{name: path.parent / name for name in locations}}


def read_file(path: Path) -> NDArray[np.uint8]:
    """The bytes of a file."""
    return np.fromfile(path, dtype=np.uint8)


def write_files(contents: Contents, folder: str | os.PathLike[str]) -> None:
    """Write each file into `folder`, under its name."""
    for name, content in contents.items():
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        content.tofile(path)
