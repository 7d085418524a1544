"""`build_for_gpus`: an engine for each GPU type of a Ray cluster, each built on a node that has it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from rms_deploy.deployment.cluster import Cluster, Node, cluster
from rms_deploy.deployment.cluster_calls import Call
from rms_deploy.deployment.engine_index import INDEX, IndexedEngine, write_index
from rms_deploy.deployment.files import files_of
from rms_deploy.deployment.node_build import build_on_node
from rms_deploy.display import Displayed, Table
from rms_deploy.errors import InputError, RmsDeployError, RunError
from rms_deploy.output_file import atomic_path, check_output, create_folder
from rms_deploy.runtime.engine_file import record_path

__all__ = ["EngineSet", "GpuEngine", "build_for_gpus"]


@dataclass(frozen=True)
class GpuEngine:
    """The engine of one GPU type."""

    gpu_type: str
    """As Ray names it, such as L4."""
    indexed: IndexedEngine | None = None
    """Where it is; None: it was not built."""
    record: Mapping[str, Any] | None = None
    """How it was built, as the file beside it says."""
    failure: str | None = None
    """Why it was not built."""


@dataclass(frozen=True, repr=False)
class EngineSet(Displayed):
    """The engines of one model."""

    engines: tuple[GpuEngine, ...]
    """In the order of the GPU types."""

    @property
    def failed(self) -> tuple[GpuEngine, ...]:
        """Those that were not built."""
        return tuple(engine for engine in self.engines if engine.failure is not None)

    def tables(self) -> Iterable[Table]:
        """A row for each engine that was built."""
        header = ("GPU type", "device", "engine", "norms", "MiB", "seconds")
        built = [each for each in self.engines if each.indexed is not None and each.record is not None]
        yield Table(header, list(map(_row, built)), left=4, first_to_go=("seconds", "MiB", "device"))

    def _line(self) -> str:
        return f"built {len(self.engines) - len(self.failed)} of {len(self.engines)} engines"

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"engine_count": len(self.engines) - len(self.failed), **asdict(self)}


def _row(engine: GpuEngine) -> tuple[str, ...]:
    record, known = engine.record, engine.indexed
    assert record is not None, engine.gpu_type
    assert known is not None, engine.gpu_type
    norms = f"{record['plugin_count']} of {record['norm_count']} plugins"
    size, seconds = f"{record['bytes'] / 2**20:.1f}", f"{record['seconds']:.1f}"
    return engine.gpu_type, known.device, known.engine, norms, size, seconds


def build_for_gpus(
    model: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    ray: str = "auto",
    on_progress: Callable[[int, int, str], None] | None = None,
    **options: Any,
) -> EngineSet:
    """Build an engine for each GPU type of a cluster, into one folder, with `index.json` for what serves them.

    Each engine is built on a node of its type: with `norm="auto"` both kinds of norms are timed on that GPU. A node
    that announces a type and has no GPU builds for it by TensorRT-RTX. A build that fails is reported, and the others
    go on.

    Args:
        model: a fused ONNX file. It is sent to the nodes with its data.
        folder: for the engines, their records and the index; is created. Engines that are there are replaced.
        ray: as of `sweep`.
        on_progress: is called with the engines that are done, the engines in all, and the GPU type that was done last.
        options: of `build`, but for `devices`, which follow from the GPU types, and `timing_cache`.

    Raises:
        InputError: `devices` or `timing_cache` is given.
        ModelFileError: the model cannot be read.
        OutputError: the folder cannot be written.
        RunError: no cluster answers, no node announces a GPU type, or one does not run this version of rms-deploy.
    """
    for name in ("devices", "timing_cache"):
        if options.pop(name, None):
            raise InputError(f"`{name}` is of one engine; leave it out where each GPU type gets one")
    source, target = Path(model), Path(folder)
    files = files_of(source)
    create_folder(target)
    check_output(target / INDEX)
    with ExitStack() as stack:
        connected = stack.enter_context(cluster(ray))
        types = _types(connected.nodes())
        done: dict[str, GpuEngine] = {}
        for gpu_type, result in _built(connected, types, files, {"model": source.name, "options": options}):
            done[gpu_type] = _written(gpu_type, result, source, target)
            if on_progress is not None:
                on_progress(len(done), len(types), gpu_type)
    engines = tuple(done[gpu_type] for gpu_type in types)
    indexed = [engine.indexed for engine in engines if engine.indexed is not None]
    if indexed:
        write_index(target, indexed)
    else:
        (target / INDEX).unlink(missing_ok=True)  # of engines that this run was to replace
    return EngineSet(engines)


def _types(nodes: Sequence[Node]) -> dict[str, tuple[Node, ...]]:
    """The nodes of each GPU type; those without a GPU only where none has one."""
    named = sorted((node for node in nodes if node.gpu_type), key=lambda node: node.gpu_type)
    if not named:
        raise RunError(f"none of the {len(nodes)} nodes announces a GPU type; Ray does so where it finds a GPU")
    found = {gpu_type: tuple(own) for gpu_type, own in groupby(named, key=lambda node: node.gpu_type)}
    return {gpu_type: tuple(node for node in own if node.has_gpu) or own for gpu_type, own in found.items()}


def _built(
    connected: Cluster,
    types: Mapping[str, tuple[Node, ...]],
    files: Mapping[str, Path],
    arguments: Mapping[str, Any],
) -> Iterator[tuple[str, dict[str, Any] | RmsDeployError]]:
    """The result of each GPU type; on its GPU where its nodes have one."""
    sent = connected.send(files)
    for gpus in (1, 0):
        calls = {
            nodes: iter([(name, Call(build_on_node, {**arguments, "gpu_type": name}, sent))])
            for name, nodes in types.items()
            if nodes[0].has_gpu == bool(gpus)
        }
        yield from connected.run(calls, gpus=gpus)


def _written(gpu_type: str, result: dict[str, Any] | RmsDeployError, model: Path, folder: Path) -> GpuEngine:
    """Write an engine and its record into the folder."""
    if isinstance(result, RmsDeployError):
        return GpuEngine(gpu_type, failure=str(result))
    engine = folder / re.sub(r"[^\w.-]", "-", f"{model.stem}-{gpu_type}.engine")
    record = {**result["record"], "engine": os.fspath(engine)}
    with atomic_path(engine) as plan, atomic_path(record_path(engine)) as described:
        result["engine"].tofile(plan)
        described.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    named = os.path.relpath(model, folder)
    return GpuEngine(
        gpu_type,
        IndexedEngine(gpu_type, result["device"], engine.name, record_path(engine).name, named),
        record,
    )
