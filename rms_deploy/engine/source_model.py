"""The model of an engine as a file: TensorRT's parser reads weights from beside it, and a message ends at 2 GiB."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir

from rms_deploy.errors import ModelFileError
from rms_deploy.onnx_model.file import load_model, open_model, save_model
from rms_deploy.onnx_model.tensor_slots import tensor_slots

__all__ = ["SourceModel", "source_model"]


@dataclass(frozen=True)
class SourceModel:
    """A model that lies in a file."""

    model: ir.Model
    path: Path
    """The file, beside which its external data lies."""
    name: str
    """What messages call it: the path that was given, or the name of the graph."""


@contextmanager
def source_model(model: str | os.PathLike[str] | onnx.ModelProto | ir.Model) -> Iterator[SourceModel]:
    """Read a file; or write a model in memory to a temporary one, which is there until the block ends.

    Raises:
        ModelFileError: the file cannot be read, or the external data of a model in memory is not there.
    """
    if not isinstance(model, onnx.ModelProto | ir.Model):
        yield SourceModel(load_model(model), Path(model), os.fspath(model))
        return
    own = open_model(model)
    name = own.graph.name or "model"
    _require_data(own, name)
    with tempfile.TemporaryDirectory(prefix="rms-deploy-") as folder:
        path = Path(folder, "model.onnx")
        save_model(own, path)
        yield SourceModel(load_model(path), path, name)


def _require_data(model: ir.Model, name: str) -> None:
    """A proto does not say which folder it was read from."""
    for tensor, _ in tensor_slots(model):
        if isinstance(tensor, ir.ExternalTensor) and not Path(tensor.path).is_file():
            raise ModelFileError(
                f"{name}: the external data of {tensor.name} is not at {Path(tensor.path).absolute()}; "
                "give the path of the model's file instead of the model"
            )
