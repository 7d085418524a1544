"""`fuse_folder`: every model of a folder fused, each in a process of its own, and one table of what was found."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rms_deploy.deployment.fuse_one import ModelFusion, fuse_one
from rms_deploy.deployment.node_fuse import fused_on_cluster
from rms_deploy.display import Displayed, Table
from rms_deploy.errors import InputError
from rms_deploy.ops.forms import norm_form
from rms_deploy.output_file import create_folder

__all__ = ["FolderFusion", "fuse_folder"]


@dataclass(frozen=True, repr=False)
class FolderFusion(Displayed):
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

    def tables(self) -> Iterable[Table]:
        """A row for each model."""
        rows = [
            (
                model.model,
                model.why,
                *("" if model.failure is not None else str(count) for count in (model.norm_count, model.fused_count)),
                str(model.fused_before_count or ""),
                str(len(model.near_misses) or ""),
                f"{model.seconds:.1f}",
            )
            for model in self.models
        ]
        header = ("model", "why", "norms", "fused", "fused before", "left", "seconds")
        yield Table(header, rows, left=2, first_to_go=("seconds", "fused before"))

    def _line(self) -> str:
        written = sum(model.written for model in self.models)
        fused = sum(model.fused_count for model in self.models)
        return f"fused {fused} norms; wrote {written} of {len(self.models)} models"

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        models = [{"norm_count": model.norm_count, **asdict(model)} for model in self.models]
        return {"model_count": len(models), "failed_count": len(self.failed), "models": models}


def fuse_folder(
    folder: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    jobs: int | None = None,
    ray: str | None = None,
    on_progress: Callable[[int, int, str], None] | None = None,
    **options: Any,
) -> FolderFusion:
    """Fuse every `.onnx` file of a folder and of the folders in it. One that fails does not stop the others.

    Args:
        folder: where the models are.
        output: where the fused models go, under the same names; is created; may be `folder` itself.
        jobs: models at a time; each has a process of its own. Default: one for each usable core. On a cluster each
            node fuses as many as it has CPUs.
        ray: the Ray cluster whose nodes fuse them, as of `sweep`. Models travel with their data. Default: this machine.
        on_progress: is called with the models done, the models in all, and the model that was done last.
        options: of `fuse`, for every model.

    Raises:
        InputError: there is no such folder, no model in it, an option is out of range, or `jobs` is given with `ray`.
        OutputError: `output` is a file, or cannot be created.
        RunError: no cluster answers, or a node does not run this version of rms-deploy.
        MissingDependencyError: Ray is not installed.
    """
    source, target = Path(folder), Path(output)
    norm_form(options.get("target", "fused"), argument="target")
    if jobs is not None and jobs < 1:
        raise InputError(f"`jobs` is {jobs}; use at least 1")
    if jobs is not None and ray is not None:
        raise InputError("`jobs` is for this machine; with `ray` each node fuses as many as it has CPUs")
    names = _models(source, target)
    for parent in dict.fromkeys((target / name).parent for name in names):
        create_folder(parent)
    done = {}
    if ray is None:
        fused = _fused(names, source, target, options, jobs or len(os.sched_getaffinity(0)))
    else:
        fused = fused_on_cluster(names, source, target, options, ray)
    for name, fusion in fused:
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
    names: Sequence[str], source: Path, target: Path, options: Mapping[str, Any], jobs: int
) -> Iterator[tuple[str, ModelFusion]]:
    """Each model as it is done, `jobs` at a time."""
    with ThreadPoolExecutor(jobs) as pool:
        waiting = {pool.submit(fuse_one, name, source / name, target / name, options): name for name in names}
        try:
            for future in as_completed(waiting):
                yield waiting[future], future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
