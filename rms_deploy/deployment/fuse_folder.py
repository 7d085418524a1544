"""`fuse_folder`: every model of a folder fused, each in a process of its own, and one table of what was found."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from rms_deploy.benchmark.worker.process import BenchmarkProcess
from rms_deploy.errors import InputError, RunError
from rms_deploy.fusion.near_miss import NearMiss
from rms_deploy.ops.forms import norm_form
from rms_deploy.output_file import create_folder

__all__ = ["FolderFusion", "ModelFusion", "fuse_folder"]

_WORKER: Final = "rms_deploy.deployment.fuse_worker"


@dataclass(frozen=True)
class ModelFusion:
    """What `fuse` did with one model of a folder."""

    model: str
    """The file, as seen from the folder."""
    seconds: float
    fused_count: int = 0
    """Norms that are one op now and were not before."""
    fused_before_count: int = 0
    """Norms that were one of our ops before, or in the form of the target."""
    near_misses: tuple[NearMiss, ...] = ()
    """What looks like RMSNorm and is not fused."""
    written: bool = False
    """Whether the fused model was written."""
    failure: str | None = None
    """Why the model could not be fused at all, in one line."""

    @property
    def norm_count(self) -> int:
        """Norms that were found, fused or not."""
        return self.fused_count + self.fused_before_count + len(self.near_misses)

    @property
    def why(self) -> str:
        """Why norms were left, the most frequent reason first; or the failure."""
        if self.failure is not None:
            return f"FAILED: {self.failure}"
        reasons = Counter(miss.reason for miss in self.near_misses).most_common()
        return "; ".join(f"{count} x {reason}" if count > 1 else reason for reason, count in reasons)


@dataclass(frozen=True)
class FolderFusion:
    """What `fuse_folder` did."""

    models: tuple[ModelFusion, ...]
    """In the order of their names."""

    @property
    def failed(self) -> tuple[ModelFusion, ...]:
        """Those that could not be fused at all."""
        return tuple(model for model in self.models if model.failure is not None)

    @property
    def incomplete(self) -> tuple[ModelFusion, ...]:
        """Those of which a norm was left."""
        return tuple(model for model in self.models if model.near_misses)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        models = [{"norm_count": model.norm_count, **asdict(model)} for model in self.models]
        return {"model_count": len(models), "failed_count": len(self.failed), "models": models}


def fuse_folder(
    folder: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    jobs: int | None = None,
    on_progress: Callable[[int, int, str], None] | None = None,
    **options: Any,
) -> FolderFusion:
    """Fuse every `.onnx` file of a folder and of the folders in it. One that fails does not stop the others.

    Args:
        folder: where the models are.
        output: where the fused models go, under the same names; is created; may be `folder` itself.
        jobs: models at a time; each has a process of its own. Default: one for each usable core.
        on_progress: is called with the models done, the models in all, and the model that was done last.
        options: of `fuse`, for every model.

    Raises:
        InputError: there is no such folder, no model in it, or an option is out of range.
        OutputError: `output` is a file, or cannot be created.
    """
    source, target = Path(folder), Path(output)
    norm_form(options.get("target", "fused"), argument="target")
    if jobs is not None and jobs < 1:
        raise InputError(f"`jobs` is {jobs}; use at least 1")
    names = _models(source, target)
    for parent in dict.fromkeys((target / name).parent for name in names):
        create_folder(parent)
    requests = {name: {"model": os.fspath(source / name), "output": os.fspath(target / name)} for name in names}
    done = {}
    for name, fusion in _fused(requests, options, jobs or len(os.sched_getaffinity(0))):
        done[name] = fusion
        if on_progress is not None:
            on_progress(len(done), len(names), name)
    return FolderFusion(tuple(done[name] for name in names))


def _models(folder: Path, output: Path) -> list[str]:
    """The models in `folder`, as seen from it, without those that an earlier run wrote to a folder in it."""
    if not folder.is_dir():
        raise InputError(f"{folder}: is no folder; give a folder of ONNX files")
    written = output.resolve()
    nested = written != folder.resolve()
    found = (path for path in folder.rglob("*.onnx") if path.is_file())
    names = [
        os.fspath(path.relative_to(folder)) for path in found if not (nested and path.resolve().is_relative_to(written))
    ]
    if not names:
        raise InputError(f"{folder}: has no .onnx file, nor has a folder in it")
    return sorted(names)


def _fused(
    requests: Mapping[str, Mapping[str, str]], options: Mapping[str, Any], jobs: int
) -> Iterator[tuple[str, ModelFusion]]:
    """Each model as it is done, `jobs` at a time."""
    with ThreadPoolExecutor(jobs) as pool:
        waiting = {pool.submit(fuse_one, name, **request, options=options): name for name, request in requests.items()}
        try:
            for future in as_completed(waiting):
                yield waiting[future], future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def fuse_one(name: str, model: str, output: str, options: Mapping[str, Any]) -> ModelFusion:
    """Fuse one model in a process of its own, so that one that crashes, or takes all memory, harms no other."""
    start = perf_counter()
    try:
        with closing(BenchmarkProcess(module=_WORKER)) as process:
            answer = process.ask("fuse", model=model, output=output, options=dict(options))
    except RunError as error:
        return ModelFusion(name, round(perf_counter() - start, 3), failure=str(error))
    return ModelFusion(
        name,
        round(perf_counter() - start, 3),
        fused_count=answer["norm_count"],
        fused_before_count=answer["fused_before_count"],
        near_misses=_near_misses(answer["near_misses"]),
        written=answer["written"],
    )


def _near_misses(misses: Sequence[Mapping[str, str]]) -> tuple[NearMiss, ...]:
    return tuple(NearMiss(**miss) for miss in misses)
