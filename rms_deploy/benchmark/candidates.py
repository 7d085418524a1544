"""What a benchmark compares: files, variants of one file, torch modules, each on a runtime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from rms_deploy.benchmark.model_files import GivenModel, ModelFiles
from rms_deploy.benchmark.variants import ORIGINAL, VARIANTS, write_variant
from rms_deploy.errors import InputError, RmsDeployError
from rms_deploy.ops.nodes import norm_nodes
from rms_deploy.runtime.endpoint import Endpoint

__all__ = ["CANDIDATE_RUNTIMES", "ENDPOINT", "Candidate", "candidates"]

CANDIDATE_RUNTIMES: Final[Mapping[str, str]] = {
    "onnxruntime": "ONNX Runtime's CPU provider",
    "onnxruntime-cuda": "ONNX Runtime's CUDA provider",
    "torch": "the module itself, eager",
    "torch-compiled": "the module, by torch.compile",
}
"""The runtimes that a caller can choose, and what each is. An engine runs on `tensorrt`, an endpoint on `ENDPOINT`.

`LOADERS` of worker/runtimes.py has the same names and these two; only the processes of candidates import it.
"""


ENDPOINT: Final = "endpoint"
"""The runtime of a model that a server runs."""


@dataclass(frozen=True)
class Candidate:
    """What is to be measured."""

    name: str
    """In tables."""
    model: str
    """What the caller named: a file, a torch module, an endpoint, or the place of a model that was given in memory."""
    target: str
    """What its process loads: a file, the name of a torch module, or the URL of an endpoint."""
    signature: str
    """The ONNX file that says which inputs it takes."""
    runtime: str = "onnxruntime"
    library: bool = True
    """Whether our custom-op library is registered."""
    note: str = ""
    """What a reader should know of it."""
    norm_counts: Mapping[str, int] = field(default_factory=dict)
    """How many norms of each form the file has, such as `fused RMSNorm`."""
    failure: str | None = None
    """Why it cannot be measured, where that is known beforehand."""


def candidates(
    models: Sequence[GivenModel],
    files: ModelFiles,
    *,
    compare: Sequence[str] = (),
    runtimes: Sequence[str] = (),
    module: str | None = None,
    library: bool = True,
    also_without_library: bool = False,
) -> list[Candidate]:
    """The candidates, in the order in which they are reported.

    Args:
        models: ONNX files, the first of all; engines and endpoints, which take the inputs of the first.
        files: reads the models, and has a folder for variants.
        compare: variants of the only model, in place of the model itself.
        runtimes: on which each file or the module runs; default: ONNX Runtime, and torch if there is a module.
        module: what torch's runtimes run.
        library: register our custom-op library.
        also_without_library: each file that has our ops once more, without the library.

    Raises:
        InputError: an unknown runtime or variant, a URL that is no endpoint, or options that do not go together.
        ModelFileError: a file cannot be read.
    """
    runtimes = runtimes or ("onnxruntime", *(() if module is None else ("torch", "torch-compiled")))
    _check(models, compare, runtimes, module)
    first = models[0]
    named = [_variant(first, name, files) for name in compare]
    named = named or [_given(model, files) for model in models if not (model.is_engine or model.is_endpoint)]
    found: list[Candidate] = []
    for runtime in runtimes:
        if runtime.startswith("torch"):
            name = f"{module} {runtime}"
            found.append(Candidate(name, str(module), str(module), first.path, runtime=runtime, library=False))
            continue
        for candidate in named:
            both = library and also_without_library and candidate.failure is None and _has_our_ops(candidate, files)
            found += _on(candidate, runtime, (True, False) if both else (library,))
    for model in models:
        if model.is_engine:
            found.append(Candidate(model.name, model.name, model.path, first.path, runtime="tensorrt", library=False))
        elif model.is_endpoint:
            found.append(_served(model, first))
    return found


def _check(models: Sequence[GivenModel], compare: Sequence[str], runtimes: Sequence[str], module: str | None) -> None:
    for name in runtimes:
        if name not in CANDIDATE_RUNTIMES:
            raise InputError(f"runtime {name!r} is not known; use {', '.join(CANDIDATE_RUNTIMES)}")
    runs_modules = any(name.startswith("torch") for name in runtimes)
    if runs_modules and module is None:
        raise InputError('torch runs modules, not ONNX files; name the module, e.g. `module="llama-tiny"`')
    if module is not None and not runs_modules:
        raise InputError(
            f"module {module}: none of the given runtimes runs it; add torch to `runtimes`, or leave `module` out"
        )
    for name in compare:
        if name not in VARIANTS:
            raise InputError(f"variant {name!r} is not known; use {', '.join(VARIANTS)}")
    if compare and (count := sum(not model.is_endpoint for model in models)) != 1:
        raise InputError(f"`compare` makes variants of one model, and {count} were given; give one")
    if models[0].is_engine or models[0].is_endpoint:
        kind = "an engine" if models[0].is_engine else "a server"
        raise InputError(f"{models[0].name}: {kind} does not say what its inputs mean; give its ONNX file first")


def _given(model: GivenModel, files: ModelFiles) -> Candidate:
    counts = files.inspection(model.path).count()
    return Candidate(model.name, model.name, model.path, model.path, norm_counts=counts)


def _served(model: GivenModel, first: GivenModel) -> Candidate:
    url = Endpoint.of(model.path).url
    note = "the server decides how many threads and instances it has"
    return Candidate(url, url, url, first.path, runtime=ENDPOINT, library=False, note=note)


def _variant(model: GivenModel, name: str, files: ModelFiles) -> Candidate:
    if name == ORIGINAL:
        return replace(_given(model, files), name=name)
    try:
        variant = write_variant(files[model.path], name, files.folder)
    except RmsDeployError as error:
        return Candidate(name, model.name, model.path, model.path, failure=str(error))
    path = files.add(variant.path, variant.model)
    counts = files.inspection(path).count()
    return Candidate(name, model.name, path, path, note=variant.note, norm_counts=counts)


def _on(candidate: Candidate, runtime: str, with_library: Sequence[bool]) -> Iterator[Candidate]:
    """The candidate on a runtime, with our library or without or both; the name says what tells it from the others."""
    for library in with_library:
        parts = [candidate.name, runtime if runtime != "onnxruntime" else ""]
        parts += ["without our library"] if len(with_library) > 1 and not library else []
        yield replace(candidate, library=library, runtime=runtime, name=" ".join(filter(None, parts)))


def _has_our_ops(candidate: Candidate, files: ModelFiles) -> bool:
    return any(True for _ in norm_nodes(files[candidate.target]))
