"""`sweep`: a benchmark of many points, models and machines, shared out by Ray."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from numpy.typing import NDArray

from rms_deploy.benchmark.method import Method
from rms_deploy.benchmark.model_files import ModelFiles, ModelLike
from rms_deploy.benchmark.provenance import Provenance
from rms_deploy.benchmark.result import BenchmarkResult, CandidateResult, Point
from rms_deploy.benchmark.result_file import from_dict
from rms_deploy.deployment.cluster import Cluster, Node, cluster
from rms_deploy.deployment.cluster_calls import Call
from rms_deploy.deployment.point import measure_point
from rms_deploy.deployment.sweep_file import SweepFile
from rms_deploy.deployment.sweep_plan import SweepTask, model_sets, sweep_tasks
from rms_deploy.errors import InputError, RmsDeployError
from rms_deploy.onnx_model.file_hashes import file_hash

__all__ = ["sweep"]

_INPUTS: Final = "inputs.npz"
"""The file of the inputs on a node."""


def sweep(
    models: ModelLike | Sequence[ModelLike],
    *,
    ray: str = "local",
    per_machine: bool = False,
    resume: str | os.PathLike[str] | None = None,
    method: Method | None = None,
    compare: Sequence[str] = (),
    runtimes: Sequence[str] = (),
    sweep: Mapping[str, Sequence[int]] | None = None,
    inputs: str | os.PathLike[str] | Mapping[str, NDArray[Any]] | None = None,
    on_progress: Callable[[int, int, str], None] | None = None,
    **options: Any,
) -> BenchmarkResult:
    """Measure what `bench` measures, on the nodes of a Ray cluster.

    Each point is one Ray task: all its candidates take turns on one node, so that a ratio is of one machine at one
    time. With `compare` each model is measured by itself, in its variants; otherwise the models are compared with the
    first, as in `bench`. A node measures one point at a time. A point that is lost with its node runs again on another
    one. A point that fails is reported, and the others go on.

    Args:
        models: as of `bench`; with `compare` also several. Their files are sent to the nodes.
        ray: `host:port` of the head of a cluster that this machine is a node of; "auto": the cluster that runs on this
            machine; "local": this machine alone.
        per_machine: measure every point once on each kind of node, by processor and GPU type.
        resume: a file to which each point is written as soon as it is measured. A point that it holds is not measured
            again, unless its model has changed.
        method: as of `bench`, like all that follow.
        compare: variants, of each model.
        runtimes: on which each file or the module runs.
        sweep: several sizes of named dynamic dimensions.
        inputs: an .npz file or arrays by name.
        on_progress: is called with the points done, the points in all, and the point that was done last.
        options: other arguments of `bench`. A `module` must be importable on every node.

    Raises:
        InputError: an argument is out of range, or `resume` holds another sweep.
        ModelFileError: no model can be read.
        RunError: no cluster answers, or a node of it does not run this version of rms-deploy.
    """
    method = method or Method()
    method.check()
    here = Provenance.now()
    options |= {"compare": tuple(compare), "runtimes": tuple(runtimes)}
    with ExitStack() as stack:
        given = ModelFiles(Path(stack.enter_context(TemporaryDirectory(prefix="rms-deploy-sweep-")))).take(models)
        if not given:
            raise InputError("no model to measure; give at least one ONNX file")
        sets = model_sets(given, apart=bool(compare))
        settings = {**asdict(method), **options, "inputs": _digest(inputs)}
        file = None if resume is None else stack.enter_context(SweepFile(resume, settings))
        connected = stack.enter_context(cluster(ray))
        cpus = method.threads * method.concurrency
        gpus = int("onnxruntime-cuda" in runtimes or any(model.is_engine for model in given))
        kinds = _kinds(connected.nodes(cpus=cpus, gpus=gpus), apart=per_machine)
        tasks = list(sweep_tasks(sets, kinds, sweep or {}))
        results = dict(_known(tasks, file))

        def calls(kind: str) -> Iterator[tuple[int, Call]]:
            waiting = [i for i, task in enumerate(tasks) if i not in results and task.kind == kind]
            return _calls(connected, tasks, waiting, inputs, {"method": method, "options": options})

        shared = {nodes: calls(kind) for kind, nodes in kinds.items()}
        for index, result in connected.run(shared, cpus=cpus, gpus=gpus):
            results[index] = result
            if file is not None and isinstance(result, dict):
                file.add(tasks[index].key, result)
            if on_progress is not None:
                on_progress(len(results), len(tasks), _words(tasks[index]))
    return _report(tasks, results, method, here)


def _kinds(nodes: Sequence[Node], *, apart: bool) -> dict[str, tuple[Node, ...]]:
    """The nodes of each kind, or all of them as one without a name."""
    names = sorted({node.kind for node in nodes}) if apart else [""]
    return {name: tuple(node for node in nodes if not apart or node.kind == name) for name in names}


def _known(tasks: Sequence[SweepTask], file: SweepFile | None) -> Iterator[tuple[int, dict[str, Any] | RmsDeployError]]:
    """The results that need no measuring: those of the file, and of models that cannot be read."""
    for index, task in enumerate(tasks):
        result = task.model_set.failure or (None if file is None else file.get(task.key))
        if result is not None:
            yield index, result


def _calls(
    connected: Cluster, tasks: Sequence[SweepTask], waiting: Sequence[int], inputs: Any, arguments: Mapping[str, Any]
) -> Iterator[tuple[int, Call]]:
    """The call of each waiting task. The files of a model are sent when its first point is about to run."""
    is_file = isinstance(inputs, str | os.PathLike)
    common = connected.send({_INPUTS: Path(inputs)}) if is_file else {}
    arguments = {**arguments, "inputs": _INPUTS if is_file else inputs}
    sent, files = None, common
    for index in waiting:
        task = tasks[index]
        if task.model_set is not sent:
            sent, files = task.model_set, {**common, **connected.send(task.model_set.files)}
        yield index, Call(measure_point, {**arguments, "models": task.model_set.targets, "sizes": task.sizes}, files)


def _report(
    tasks: Sequence[SweepTask], results: Mapping[int, dict[str, Any] | RmsDeployError], method: Method, here: Provenance
) -> BenchmarkResult:
    """All points in one result, in the order of the tasks."""
    points, inspections = [], []
    for index, task in enumerate(tasks):
        result = results[index]
        if isinstance(result, RmsDeployError):
            points.append(Point(_failed(task, result), {}, task.sizes, task.part))
            continue
        own = from_dict(result)
        where = replace(own.provenance, command=here.command)
        points.append(replace(own.points[0], dims=task.sizes, part=task.part, provenance=where))
        inspections.append(own.inspection)
    return BenchmarkResult(tuple(points), method, here, inspections[0] if inspections else {})


def _failed(task: SweepTask, error: RmsDeployError) -> tuple[CandidateResult, ...]:
    return tuple(CandidateResult(model.name, failure=str(error)) for model in task.model_set.models)


def _words(task: SweepTask) -> str:
    name = task.part or task.model_set.models[0].name
    return ", ".join((name, *(f"{dim} {size}" for dim, size in task.sizes.items())))


def _digest(inputs: Any) -> Any:
    """What tells inputs from others, as JSON takes it.

    Raises:
        InputError: the file cannot be read.
    """
    if inputs is None:
        return None
    if isinstance(inputs, Mapping):
        return {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in inputs.items()}
    try:
        return file_hash(inputs)
    except OSError as error:
        raise InputError(f"{os.fspath(inputs)}: cannot be read: {error.strerror}") from error
