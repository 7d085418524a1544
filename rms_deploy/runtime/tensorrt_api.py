"""TensorRT 10, TensorRT 11 or TensorRT-RTX, whichever is installed, and all that differs between them."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Final, Literal, get_args

from rms_deploy.errors import EngineError, InputError, MissingDependencyError
from rms_deploy.runtime.tensorrt_rtx_wheel import mend

__all__ = ["TENSORRT_RUNTIMES", "TensorRT", "TensorRTName", "tensorrt", "text_of"]

TensorRTName = Literal["tensorrt", "tensorrt-rtx"]
TENSORRT_RUNTIMES: Final[tuple[TensorRTName, ...]] = get_args(TensorRTName)

_PIP: Final[dict[TensorRTName, str]] = {
    "tensorrt": "pip install tensorrt",
    "tensorrt-rtx": "pip install tensorrt-rtx-cu13",
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TensorRT:
    """One of the runtimes, imported."""

    name: TensorRTName
    module: Any

    @property
    def version(self) -> str:
        """Of the package."""
        return str(self.module.__version__)

    @property
    def is_rtx(self) -> bool:
        """Whether it is TensorRT-RTX, which builds on the CPU and finishes compiling where the engine runs."""
        return self.name == "tensorrt-rtx"

    def builder(self) -> Any:
        """A builder.

        Raises:
            EngineError: there is no GPU. TensorRT builds on the GPU that the engine is for; TensorRT-RTX needs none.
        """
        try:
            return self.module.Builder(self.logger())
        except TypeError as error:  # the bindings raise it where TensorRT returns no builder
            raise EngineError(
                f"{self.name} {self.version} found no GPU to build on; build on the machine with the GPU, or "
                '`runtime="tensorrt-rtx"` builds for GeForce and RTX GPUs anywhere'
            ) from error

    def network(self, builder: Any) -> Any:
        """A network whose types are those of the model: by a flag in TensorRT 10, always in a TensorRT without it."""
        flag = getattr(self.module.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
        return builder.create_network(0 if flag is None else 1 << int(flag))

    def capabilities(self) -> list[str]:
        """The compute capabilities that TensorRT-RTX can build for, such as sm120; none for TensorRT."""
        known = getattr(self.module, "ComputeCapability", None) if self.is_rtx else None
        return sorted((n.lower() for n in getattr(known, "__members__", {}) if n.startswith("SM")), key=_number)

    def runs_on(self, capability: str) -> bool:
        """Whether this runtime has engines for a compute capability such as sm90.

        TensorRT-RTX says which it knows, and runs on newer GPUs too. Between those there are gaps: on an H200 (sm90) it
        answers that it "does not support this compute capability".
        """
        known = self.capabilities()
        return not known or capability in known or _number(capability) > _number(known[-1])

    def set_devices(self, config: Any, devices: Sequence[str]) -> None:
        """Tell TensorRT-RTX which compute capabilities to build for; without `devices`, the builder chooses.

        Raises:
            InputError: the runtime is TensorRT, which builds for its own GPU, or does not know one of the devices.
        """
        if not devices:
            return
        if not self.is_rtx:
            raise InputError(
                f"device {', '.join(devices)}: {self.name} builds for the GPU that it runs on; "
                'leave `devices` out, or take `runtime="tensorrt-rtx"`'
            )
        known = self.capabilities()
        config.num_compute_capabilities = len(devices)
        for index, device in enumerate(devices):
            if device not in known:
                raise InputError(f"device {device} is not known to {self.name} {self.version}; use {', '.join(known)}")
            config.set_compute_capability(getattr(self.module.ComputeCapability, device.upper()), index)

    def check_portable(self, *, version_compatible: bool, hardware_compatible: bool) -> None:
        """Refuse the kinds of compatibility that this runtime does not have.

        Raises:
            InputError: one of them is asked for.
        """
        if self.is_rtx and version_compatible:
            raise InputError(
                f"{self.name} has no lean runtime for version-compatible engines; leave `version_compatible` out"
            )
        if self.is_rtx and hardware_compatible:
            raise InputError(
                f"{self.name} engines fit the devices that they are built for; leave `hardware_compatible` out and "
                'take `devices=["sm86", "sm89"]`'
            )

    @property
    def keeps_timings(self) -> bool:
        """Whether a timing cache holds timings. TensorRT-RTX times nothing when it builds: its caches hold none, and it
        calls them deprecated.
        """
        return not self.is_rtx

    def execution_context(self, engine: Any) -> Any:
        """A context; None: there is no memory for it.

        TensorRT-RTX compiles kernels for the shapes that it meets: before the run that needs them, not beside runs of
        slower kernels, which a measurement or a CUDA graph would take in.
        """
        if not self.is_rtx:
            return engine.create_execution_context()
        config = engine.create_runtime_config()
        strategies = self.module.DynamicShapesKernelSpecializationStrategy
        config.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER
        return engine.create_execution_context(config)

    def can_capture(self, context: Any, stream: int) -> bool:
        """Whether a run of `context` can become a CUDA graph: TensorRT-RTX cannot always, and is asked."""
        return not self.is_rtx or bool(context.is_stream_capturable(stream))

    def logger(self) -> Any:
        """The one logger of this process, because TensorRT keeps the first that it is given."""
        return _logger(self.module)

    @contextmanager
    def errors(self) -> Iterator[list[str]]:
        """The errors that TensorRT logs while the block runs, in any thread."""
        logger, found = self.logger(), list[str]()
        with logger.lock:
            logger.listeners.append(found)
        try:
            yield found
        finally:
            with logger.lock:
                logger.listeners[:] = [listener for listener in logger.listeners if listener is not found]


def tensorrt(name: str | None = None) -> TensorRT:
    """Import a runtime; TensorRT-RTX with its wheel mended.

    Args:
        name: one of `TENSORRT_RUNTIMES`; default: the first of them that is installed.

    Raises:
        InputError: there is no such runtime.
        MissingDependencyError: it is not installed, or does not load.
    """
    if name is not None and name not in TENSORRT_RUNTIMES:
        raise InputError(f"runtime {name!r} is not known; use {' or '.join(TENSORRT_RUNTIMES)}")
    missing: list[ImportError] = []
    for candidate in TENSORRT_RUNTIMES:
        if name in (None, candidate):
            try:
                return TensorRT(candidate, _imported(candidate))
            except ImportError as error:
                missing.append(error)
    broken = [error for error in missing if not isinstance(error, ModuleNotFoundError)]
    if broken:
        raise MissingDependencyError(f"{name or 'tensorrt'} does not load: {broken[0]}") from broken[0]
    commands = f"run: {_PIP[name]}" if name in _PIP else " or ".join(f"run: {command}" for command in _PIP.values())
    raise MissingDependencyError(
        f"{name or ' and '.join(TENSORRT_RUNTIMES)} {'is' if name else 'are'} not installed; {commands}"
    ) from missing[0]


def text_of(errors: Sequence[str]) -> str:
    """TensorRT's first error in one line, without its source positions."""
    first = errors[0] if errors else "no reason was given"
    return re.sub(r" ?In \S+ at \S+:\d+ ?", "", " ".join(first.split()))


def _imported(name: TensorRTName) -> Any:
    if name == "tensorrt-rtx":
        mend()
    return import_module(name.replace("-", "_"))


def _number(capability: str) -> int:
    return int(capability.removeprefix("sm"))


@cache
def _logger(module: Any) -> Any:
    levels = {
        module.ILogger.INTERNAL_ERROR: logging.DEBUG,  # an exception says it
        module.ILogger.ERROR: logging.DEBUG,
        module.ILogger.WARNING: logging.INFO,
        module.ILogger.INFO: logging.DEBUG,
    }

    class Logger(module.ILogger):  # type: ignore[misc]  # of a module that has no types
        def __init__(self) -> None:
            module.ILogger.__init__(self)
            self.lock = threading.Lock()
            self.listeners: list[list[str]] = []

        def log(self, severity: Any, message: str) -> None:
            if severity <= module.ILogger.ERROR:
                with self.lock:
                    for listener in self.listeners:
                        listener.append(message)
            if severity in levels:
                _log.log(levels[severity], "%s", message)

    return Logger()
