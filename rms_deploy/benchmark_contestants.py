"""What a benchmark compares: files, variants of one file, torch modules, each on a runtime."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from rms_deploy import modelfile
from rms_deploy.benchmark_result import Candidate
from rms_deploy.errors import InputError, RmsDeployError
from rms_deploy.functions import norm_nodes
from rms_deploy.inspection import inspect
from rms_deploy.variants import VARIANTS, write_variant

__all__ = ["RUNTIMES", "Contestant", "contestants"]

RUNTIMES: Final[Mapping[str, str]] = {
    "onnxruntime": "ONNX Runtime's CPU provider",
    "onnxruntime-cuda": "ONNX Runtime's CUDA provider",
    "torch": "the module itself, eager",
    "torch-compiled": "the module, by torch.compile",
}
"""Where a candidate can run. `benchmark_runtimes.LOADERS`, which the candidate's process alone imports, has the same
names."""


@dataclass(frozen=True)
class Contestant:
    """What is to be measured."""

    candidate: Candidate
    """Without results."""
    path: str
    """The ONNX file that is run, or that has the signature of a torch module."""


def contestants(
    models: Sequence[str | os.PathLike[str]],
    *,
    folder: Path,
    compare: Sequence[str] = (),
    runtimes: Sequence[str] = (),
    module: str | None = None,
    library: bool = True,
    also_without_library: bool = False,
) -> list[Contestant]:
    """The candidates, in the order in which they are reported.

    Args:
        models: ONNX files.
        folder: where variants are written.
        compare: variants of the only model, in place of the model itself.
        runtimes: on which each file or the module runs; default: ONNX Runtime, and torch if there is a module.
        module: what torch's runtimes run.
        library: register our custom-op library.
        also_without_library: each file that has our ops once more, without the library.

    Raises:
        InputError: an unknown runtime or variant, or options that do not go together.
        ModelFileError: a file cannot be read.
    """
    runtimes = runtimes or ("onnxruntime", *(() if module is None else ("torch", "torch-compiled")))
    for name in runtimes:
        if name not in RUNTIMES:
            raise InputError(f"runtime {name!r} is not known; use {', '.join(RUNTIMES)}")
    if any(name.startswith("torch") for name in runtimes) and module is None:
        raise InputError("torch runs modules, not ONNX files; name the module, e.g. --module llama-tiny")
    if compare and len(models) != 1:
        raise InputError(f"variants are made of one model, and {len(models)} were given; give one")
    files = [_variant(models[0], name, folder) for name in compare] or [_given(model) for model in models]
    entries = []
    for runtime in runtimes:
        label = "" if runtime == "onnxruntime" else runtime
        if runtime.startswith("torch"):
            candidate = Candidate(str(module), library=False, name=f"{module} {runtime}", runtime=runtime)
            entries.append(Contestant(candidate, os.fspath(models[0])))
            continue
        for file in files:
            ours = library and also_without_library and file.candidate.failure is None and _has_our_ops(file.path)
            for with_library in (True, False) if ours else (library,):
                how = " ".join([label, "" if with_library or not library else "without our library"]).strip()
                name = f"{file.candidate.name} {how}".strip()
                entries.append(
                    replace(file, candidate=replace(file.candidate, library=with_library, runtime=runtime, name=name))
                )
    return entries


def _given(model: str | os.PathLike[str]) -> Contestant:
    return Contestant(Candidate(os.fspath(model), norms=inspect(model).count()), os.fspath(model))


def _variant(model: str | os.PathLike[str], name: str, folder: Path) -> Contestant:
    if name not in VARIANTS:
        raise InputError(f"variant {name!r} is not known; use {', '.join(VARIANTS)}")
    try:
        variant = write_variant(model, name, folder)
        norms = inspect(variant.path).count()
    except RmsDeployError as error:
        return Contestant(Candidate(os.fspath(model), name=name, failure=str(error)), os.fspath(model))
    return Contestant(Candidate(os.fspath(model), name=name, note=variant.note, norms=norms), os.fspath(variant.path))


def _has_our_ops(path: str) -> bool:
    return any(True for _ in norm_nodes(modelfile.load(path)))
