"""What a benchmark compares: files, variants of one file, torch modules, each on a runtime."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from rms_deploy.benchmark.result import Candidate
from rms_deploy.benchmark.variants import VARIANTS, write_variant
from rms_deploy.errors import InputError, RmsDeployError
from rms_deploy.fusion.inspect import inspect
from rms_deploy.onnx_model.file import load_model
from rms_deploy.ops.nodes import norm_nodes
from rms_deploy.runtime.engine_file import is_engine

__all__ = ["RUNTIMES", "Contestant", "contestants"]

RUNTIMES: Final[Mapping[str, str]] = {
    "onnxruntime": "ONNX Runtime's CPU provider",
    "onnxruntime-cuda": "ONNX Runtime's CUDA provider",
    "torch": "the module itself, eager",
    "torch-compiled": "the module, by torch.compile",
}
"""Where a model can run. `benchmark_runtimes.LOADERS`, which the candidate's process alone imports, has the same names,
and `tensorrt`, on which engines run."""


@dataclass(frozen=True)
class Contestant:
    """What is to be measured."""

    candidate: Candidate
    """Without results."""
    runs: str
    """What is run: a file, or the name of a torch module."""
    signature: str
    """The ONNX file that says which inputs it takes."""


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
        models: ONNX files, the first of all; and engines, which take the inputs of the first.
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
    runs_modules = any(name.startswith("torch") for name in runtimes)
    if runs_modules and module is None:
        raise InputError("torch runs modules, not ONNX files; name the module, e.g. --module llama-tiny")
    if module is not None and not runs_modules:
        raise InputError(f"module {module}: no runtime that was named runs it; add torch, or leave the module out")
    if compare and len(models) != 1:
        raise InputError(f"variants are made of one model, and {len(models)} were given; give one")
    first = os.fspath(models[0])
    if is_engine(first):
        raise InputError(f"{first}: an engine does not say what its inputs mean; give its ONNX file first")
    files = [_variant(first, name, folder) for name in compare]
    files = files or [_given(os.fspath(model)) for model in models if not is_engine(model)]
    entries: list[Contestant] = []
    for runtime in runtimes:
        if runtime.startswith("torch"):
            candidate = Candidate(str(module), library=False, name=f"{module} {runtime}", runtime=runtime)
            entries.append(Contestant(candidate, candidate.model, first))
            continue
        for file in files:
            both = library and also_without_library and file.candidate.failure is None and _has_our_ops(file.runs)
            entries += [_on(file, runtime, library=on, name_it=both) for on in ((True, False) if both else (library,))]
    engines = (os.fspath(model) for model in models if is_engine(model))
    return entries + [Contestant(Candidate(e, library=False, runtime="tensorrt"), e, first) for e in engines]


def _given(model: str) -> Contestant:
    return Contestant(Candidate(model, norms=inspect(model).count()), model, model)


def _variant(model: str, name: str, folder: Path) -> Contestant:
    if name not in VARIANTS:
        raise InputError(f"variant {name!r} is not known; use {', '.join(VARIANTS)}")
    try:
        variant = write_variant(model, name, folder)
        norms = inspect(variant.path).count()
    except RmsDeployError as error:
        return Contestant(Candidate(model, name=name, failure=str(error)), model, model)
    path = os.fspath(variant.path)
    return Contestant(Candidate(model, name=name, note=variant.note, norms=norms), path, path)


def _on(file: Contestant, runtime: str, *, library: bool, name_it: bool) -> Contestant:
    """The file on a runtime; the name says what it does not share with the others."""
    parts = [file.candidate.name, runtime if runtime != "onnxruntime" else ""]
    parts += ["without our library"] if name_it and not library else []
    name = " ".join(filter(None, parts))
    return replace(file, candidate=replace(file.candidate, library=library, runtime=runtime, name=name))


def _has_our_ops(path: str) -> bool:
    return any(True for _ in norm_nodes(load_model(path)))
