"""What a sweep measures: the models that are measured together, and a task for each of their points."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

from rms_deploy.benchmark.model_files import GivenModel
from rms_deploy.deployment.files import files_of
from rms_deploy.errors import ModelFileError
from rms_deploy.onnx_model.file_hashes import file_hash

__all__ = ["ModelSet", "SweepTask", "model_sets", "sweep_tasks"]


@dataclass(frozen=True)
class ModelSet:
    """Models that take turns on one node."""

    models: Sequence[GivenModel]
    files: Mapping[str, Path]
    """By name on the node, where each model has a folder of its own."""
    failure: ModelFileError | None = None
    """Why they cannot be sent."""

    @property
    def targets(self) -> list[tuple[str, str]]:
        """The name of each model in the result, and its file on the node."""
        return [(model.name, _on_node(i, Path(model.path).name)) for i, model in enumerate(self.models)]

    @cached_property
    def hashes(self) -> dict[str, str]:
        """SHA-256 of each file."""
        return {name: file_hash(path) for name, path in self.files.items()}


@dataclass(frozen=True)
class SweepTask:
    """One point: all candidates on inputs of the same shapes, on one node."""

    model_set: ModelSet
    sizes: Mapping[str, int]
    """Of the dimensions of the sweep."""
    kind: str
    """Of the node; empty: of any."""
    part: str
    """Of the result."""

    @property
    def key(self) -> dict[str, Any]:
        """What is measured, as JSON takes it. It changes when a model does."""
        known = self.model_set
        return {"models": known.targets, "files": known.hashes, "sizes": dict(self.sizes), "kind": self.kind}


def model_sets(models: Sequence[GivenModel], *, apart: bool) -> list[ModelSet]:
    """The models that are measured together: all of them, or each by itself.

    Raises:
        ModelFileError: none of the sets can be read.
    """
    sets = [_model_set([model]) for model in models] if apart else [_model_set(models)]
    failures = [each.failure for each in sets if each.failure is not None]
    if len(failures) == len(sets):
        raise failures[0]
    return sets


def sweep_tasks(
    sets: Sequence[ModelSet], kinds: Iterable[str], sweep: Mapping[str, Sequence[int]]
) -> Iterator[SweepTask]:
    """Every point of each set on each kind of node, in the order of the report."""
    kinds = list(kinds)
    for each in sets:
        for kind in kinds:
            names = each.models[0].name if len(sets) > 1 else "", kind if len(kinds) > 1 else ""
            for sizes in product(*sweep.values()):
                yield SweepTask(each, dict(zip(sweep, sizes, strict=True)), kind, ", ".join(filter(None, names)))


def _model_set(models: Sequence[GivenModel]) -> ModelSet:
    try:
        files = {_on_node(i, n): p for i, model in enumerate(models) for n, p in files_of(model.path).items()}
    except ModelFileError as error:
        return ModelSet(models, {}, error)
    return ModelSet(models, files)


def _on_node(index: int, name: str) -> str:
    return f"{index}/{name}"
