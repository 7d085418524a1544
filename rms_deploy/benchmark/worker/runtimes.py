"""The runtimes that a candidate can run on. Each loads a model in the candidate's process, and returns its run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from numpy.typing import NDArray

from rms_deploy.benchmark.device_times import DeviceTimes, split
from rms_deploy.benchmark.worker.generation import generation
from rms_deploy.errors import RunError
from rms_deploy.runtime import onnxruntime_session as runtime

__all__ = ["LOADERS", "Load", "device_times", "first_run", "loaded"]

Feeds = Mapping[str, NDArray[Any]]
Run = Callable[[], Any]


@dataclass(frozen=True)
class Load:
    """What a runtime loads."""

    model: str
    """A file; for torch, the name of a module; for a server, the URL of the endpoint."""
    feeds: Feeds
    threads: int = 1
    library: bool = True
    timeout: float = 600.0
    """Seconds that a run waits for a server's answer."""
    cuda_graph: bool = True
    """An engine runs as a CUDA graph."""
    generate: int | None = None
    """Tokens that a run generates after the prompt in `feeds`; None: it runs the model once."""


def loaded(name: str, request: Load) -> Run:
    """Load the model on runtime `name`; the result runs it once each time it is called.

    Raises:
        RunError: the runtime refuses the model or its inputs, or is not there; or it is to generate, and cannot.
    """
    if request.generate is not None and not name.startswith("onnxruntime"):
        raise RunError(f"tokens are generated with ONNX Runtime only, not with {name}")
    return LOADERS[name](request)


def first_run(run: Run) -> None:
    """Run once.

    Raises:
        RunError: whatever the runtime raises, in one line.
    """
    try:
        run()
    except Exception as error:
        raise RunError(f"it does not run: {' '.join(str(error).split()) or type(error).__name__}") from error


def device_times(run: Run) -> DeviceTimes:
    """Between host and GPU, of a run that the loader of engines gave.

    Raises:
        RunError: a run fails.
    """
    from rms_deploy.runtime.tensorrt_session import BoundRun

    assert isinstance(run, BoundRun), run
    return split(run)


def _onnxruntime(request: Load, *, provider: str) -> Run:
    session = runtime.session(request.model, threads=request.threads, library=request.library, provider=provider)
    if request.generate is not None:
        return generation(session, request.feeds, request.generate)
    return _prepared(session, request.feeds)


def _tensorrt(request: Load) -> Run:
    from rms_deploy.runtime import tensorrt_session as tensorrt

    return tensorrt.bound_run(tensorrt.session(request.model, cuda_graph=request.cuda_graph), request.feeds)


def _endpoint(request: Load) -> Run:
    from rms_deploy.runtime import endpoint_session as endpoint

    return endpoint.bound_run(endpoint.session(request.model, timeout=request.timeout), request.feeds)


def _torch(request: Load, *, compiled: bool) -> Run:
    from rms_deploy.benchmark.worker.torch_module import module_run

    return module_run(request.model, request.feeds, threads=request.threads, compiled=compiled)


def _prepared(session: Any, feeds: Feeds) -> Run:
    """The session's own `run`, and nothing else. It takes no bfloat16; such values are bound beforehand."""
    if any(value.type == "tensor(bfloat16)" for value in (*session.get_inputs(), *session.get_outputs())):
        return runtime.bound_run(session, feeds)
    return partial(session.run, [output.name for output in session.get_outputs()], dict(feeds))


LOADERS: Final[Mapping[str, Callable[[Load], Run]]] = {
    "onnxruntime": partial(_onnxruntime, provider="CPUExecutionProvider"),
    "onnxruntime-cuda": partial(_onnxruntime, provider="CUDAExecutionProvider"),
    "tensorrt": _tensorrt,
    "endpoint": _endpoint,
    "torch": partial(_torch, compiled=False),
    "torch-compiled": partial(_torch, compiled=True),
}
"""By name. Another runtime is one more entry here."""
