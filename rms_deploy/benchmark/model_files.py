"""The ONNX files of a benchmark: each is read and inspected once, and a model that was given in memory becomes one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import onnx
import onnx_ir as ir

from rms_deploy.fusion.inspect import Inspection, inspect
from rms_deploy.onnx_model.file import load_model, open_model, save_model
from rms_deploy.onnx_model.file_hashes import file_hash, model_hashes
from rms_deploy.runtime.endpoint import is_endpoint
from rms_deploy.runtime.engine_file import is_engine

__all__ = ["GivenModel", "ModelFiles", "ModelLike"]


@dataclass(frozen=True)
class GivenModel:
    """A model of the caller, as a file, or as the URL of a server's model."""

    name: str
    """The path or URL as it was given; of a model in memory, its place among the models, such as `model 2`."""
    path: str

    @property
    def is_engine(self) -> bool:
        """Whether it is an engine, not an ONNX file."""
        return not self.is_endpoint and is_engine(self.path)

    @property
    def is_endpoint(self) -> bool:
        """Whether a server runs it."""
        return is_endpoint(self.path)


ModelLike: TypeAlias = "str | os.PathLike[str] | onnx.ModelProto | ir.Model | GivenModel"


class ModelFiles:
    """The models of ONNX files by path. A file is read when its model is first asked for."""

    def __init__(self, folder: Path) -> None:
        """Of no file yet.

        Args:
            folder: for the files of models that were given in memory.
        """
        self.folder = folder
        self._models: dict[str, ir.Model] = {}
        self._inspections: dict[str, Inspection] = {}

    def take(self, models: ModelLike | Sequence[ModelLike]) -> list[GivenModel]:
        """One model or several, as files."""
        given = [models] if isinstance(models, str | os.PathLike | onnx.ModelProto | ir.Model | GivenModel) else models
        return [self._given(model, f"model {number}") for number, model in enumerate(given, start=1)]

    def add(self, path: str | os.PathLike[str], model: ir.Model) -> str:
        """The path of a file that was written from `model`, and need not be read."""
        self._models[os.fspath(path)] = model
        return os.fspath(path)

    def __getitem__(self, path: str) -> ir.Model:
        """The model of a file, not to be changed.

        Raises:
            ModelFileError: the file cannot be read.
        """
        if path not in self._models:
            self._models[path] = load_model(path)
        return self._models[path]

    def inspection(self, path: str) -> Inspection:
        """The norms of the model."""
        if path not in self._inspections:
            self._inspections[path] = inspect(self[path])
        return self._inspections[path]

    def hashes(self, models: Sequence[GivenModel]) -> dict[str, dict[str, str]]:
        """The SHA-256 of the files of each model that has any, by model and file."""
        return {
            model.name: {Path(model.path).name: file_hash(model.path)}
            if model.is_engine
            else model_hashes(model.path, self[model.path])
            for model in models
            if not model.is_endpoint
        }

    def _given(self, model: ModelLike, name: str) -> GivenModel:
        if isinstance(model, GivenModel):
            return model
        if not isinstance(model, onnx.ModelProto | ir.Model):
            return GivenModel(os.fspath(model), os.fspath(model))
        own = open_model(model)
        path = self.folder / f"{name}.onnx"
        save_model(own, path)
        return GivenModel(name, self.add(path, own))
