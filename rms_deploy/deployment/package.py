"""`package`: a model as a server loads it, written into a repository of models, whole or not at all."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, TypeGuard, get_args

from rms_deploy.deployment.engine_index import engine_for
from rms_deploy.deployment.model_config import ModelConfig, check_instances
from rms_deploy.deployment.repository import CONFIG, ModelVersion, add_version
from rms_deploy.deployment.result import PackageResult
from rms_deploy.deployment.sources import EngineSource, ModelLike, OnnxSource, Source
from rms_deploy.errors import InputError

__all__ = ["Backend", "package"]

Backend = Literal["onnxruntime", "tensorrt", "python"]

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_MAX_INT32: Final = 2**31 - 1


def package(
    model: ModelLike,
    repository: str | os.PathLike[str],
    *,
    server: Literal["triton"] = "triton",
    backend: Backend = "onnxruntime",
    name: str | None = None,
    version: int = 1,
    max_batch_size: int = 0,
    max_queue_delay: int | None = None,
    instances: Mapping[str, int] | None = None,
    threads: int | None = None,
    warmup: bool = False,
    shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Mapping[str, int] | None = None,
    server_path: str | None = None,
    gpu_type: str | None = None,
) -> PackageResult:
    """Write a model into a repository that Triton Inference Server loads as it is.

        REPOSITORY/NAME/config.pbtxt                        from the model's signature and these options
        REPOSITORY/NAME/librms_deploy_onnxruntime.so        where the backend needs it
        REPOSITORY/NAME/VERSION/model.onnx                  and model.onnx.data, if the weights lie outside; model.plan
                                                            and its record; model.py

    A repository may hold several models, and a model several versions, all of which are served. A config.pbtxt that is
    there stays as it is.

    Args:
        model: a fused model: a file, a proto or an onnx-ir model; for the backend tensorrt, an engine of
            `rms_deploy.build`, or the folder of `rms_deploy.build_for_gpus`.
        repository: the folder of models; it is made if it is not there.
        server: Triton Inference Server.
        backend: onnxruntime: the server's own ONNX Runtime, with our library; tensorrt: an engine; python: a model.py
            that opens `rms_deploy.session`, for servers that have no other backend. It needs rms-deploy in the
            server's Python.
        name: of the model; default: the file's, without its ending.
        version: its number, from 1 on.
        max_batch_size: let the server compute so many rows at once, from several requests: the first dimension of
            every input and output must be the batch. 0: each request is computed as it comes.
        max_queue_delay: microseconds that a request waits for others to join it; default: none.
        instances: how many copies of the model run on each device: `cpu`, `gpu` (on each), `gpu:1` (on this one).
            Default: one, on the GPU for tensorrt, else on the CPU.
        threads: of each instance's session; default: ONNX Runtime's choice, one per core.
        warmup: have the server run the model on zeros before it says that it is ready.
        shapes: of that run's inputs, by name.
        dims: sizes of named dynamic dimensions, in that run.
        server_path: where the server sees `repository`, such as /models in a container; default: where it is here.
        gpu_type: which engine of a folder is packaged, by the GPU type that its index names; default: the only one.

    Raises:
        InputError: an option out of range, or a model that Triton cannot serve.
        ModelFileError: the model cannot be read.
        OutputError: the version is there already, or the folder cannot be written.
        InstallationError: the model needs our library, and this installation has none.
    """
    _check(server, backend, version, max_batch_size, max_queue_delay, threads)
    check_instances(instances or {})
    repository = Path(repository)
    if gpu_type is not None and not _is_folder(model):
        raise InputError("`gpu_type` chooses from a folder of engines; give that folder")
    if _is_folder(model):
        if backend != "tensorrt":
            raise InputError(f'{os.fspath(model)}: is a folder; give a model, or `backend="tensorrt"` for its engines')
        indexed = engine_for(model, gpu_type)
        name, model = name or Path(indexed.model).stem, Path(model, indexed.engine)
    source: Source = EngineSource(model) if backend == "tensorrt" else OnnxSource(model, backend)
    if source.largest_batch is not None and max_batch_size > source.largest_batch:
        raise InputError(
            f"`max_batch_size` is {max_batch_size}; the engine was built for {source.largest_batch} at most"
        )
    name = _name(model, name)
    seen = f"{(server_path or os.fspath(repository.absolute())).rstrip('/')}/{name}"
    config = ModelConfig(
        name=name,
        backend=backend,
        inputs=source.inputs,
        outputs=source.outputs,
        max_batch_size=max_batch_size,
        max_queue_delay=max_queue_delay,
        instances=instances or {"gpu" if backend == "tensorrt" else "cpu": 1},
        profile_count=source.profile_count,
        parameters={} if threads is None else {"intra_op_thread_count": str(threads)},
        op_library=None if source.op_library is None else f"{seen}/{source.op_library}",
        warmup_shapes=source.shapes(shapes or {}, dims or {}) if warmup else None,
    )
    is_own = add_version(repository, ModelVersion(config, version, source.write, source.libraries))
    return PackageResult(
        repository=os.fspath(repository),
        name=name,
        version=version,
        backend=backend,
        files=tuple(_files(repository / name, version)),
        command=("tritonserver", f"--model-repository={seen.rpartition('/')[0]}", *source.server_options(seen)),
        notes=() if is_own else (f"{repository / name / CONFIG} was there and keeps its options",),
    )


def _is_folder(model: ModelLike) -> TypeGuard[str | os.PathLike[str]]:
    return isinstance(model, str | os.PathLike) and Path(model).is_dir()


def _check(
    server: str, backend: str, version: int, max_batch_size: int, max_queue_delay: int | None, threads: int | None
) -> None:
    if server != "triton":
        raise InputError(f"`server` is {server!r}; use triton")
    if backend not in get_args(Backend):
        raise InputError(f"`backend` is {backend!r}; use {', '.join(get_args(Backend))}")
    if threads is not None and backend == "tensorrt":
        raise InputError("`threads` is for sessions of ONNX Runtime; an engine has none")
    if max_queue_delay is not None and not max_batch_size:
        raise InputError("`max_queue_delay` is given, and nothing to wait for: give `max_batch_size`")
    for what, value, least in (
        ("version", version, 1),
        ("max_batch_size", max_batch_size, 0),
        ("max_queue_delay", max_queue_delay, 0),
        ("threads", threads, 1),
    ):
        if value is not None and not least <= value <= _MAX_INT32:
            raise InputError(f"`{what}` is {value}; use {least} to {_MAX_INT32}")


def _name(model: ModelLike, name: str | None) -> str:
    if name is None:
        name = Path(model).stem if isinstance(model, str | os.PathLike) else "model"
    if not _NAME.fullmatch(name):
        raise InputError(f"the model's name is {name!r}; give a `name` of letters, digits, _, - and .")
    return name


def _files(model: Path, version: int) -> Iterator[str]:
    """What lies in the model's folder, and in that of this version."""
    for folder in (model, model / str(version)):
        for path in sorted(folder.iterdir()):
            if path.is_file():
                yield os.fspath(path.relative_to(model.parent))
