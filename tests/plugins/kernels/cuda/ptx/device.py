"""A GPU that executes PTX: the launches of the real launcher, recorded by the stand-in for the driver."""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..driver import Kernels
from .memory import Region
from .program import Program, PtxError
from .threads import SHARED, Executed, Launch, Threads

MOST_THREADS = 4096  # that run together

_BYTES = {1: 4, 10: 2, 16: 2, 3: 1, 17: 1}  # of the contract's element types, and of those of a quantised y
_TYPES = {"float32": 1, "float16": 10, "bfloat16": 16}


class _Problem(ctypes.Structure):
    """rms_deploy::Problem, of problem.h."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("type", "scale_type", "sum_type", "quantized_type")),
        *((name, ctypes.c_void_p) for name in ("x", "operand", "scale", "shift", "y", "sum")),
        *((name, ctypes.c_int64) for name in ("outer", "n", "inner", "statistics_size")),
        *((name, ctypes.c_int32) for name in ("scale_rows", "scale_repeat")),
        *((name, ctypes.c_bool) for name in ("scalar_scale", "round_before_scale", "round_reciprocal")),
        *(("round_quotient", ctypes.c_bool), ("normalizes_float32_sum", ctypes.c_bool), ("gate", ctypes.c_uint8)),
        *((name, ctypes.c_float) for name in ("epsilon", "rms_epsilon", "rms_min", "y_scale")),
    )


def tensors_of(arguments: bytes) -> list[Region]:
    """What a kernel may touch, from the problem that its argument begins with. An output may be an input too."""
    p = _Problem.from_buffer_copy(arguments)
    size = p.outer * p.n * p.inner
    u = p.type if p.gate else p.sum_type
    types = {"x": p.type, "operand": u, "y": p.quantized_type or p.type, "sum": u}
    sizes = {name: size * _BYTES[type_] for name, type_ in types.items()}
    weights = p.scale_rows * (1 if p.scalar_scale else p.n) * _BYTES[p.scale_type]
    sizes |= {"scale": weights, "shift": weights}
    outputs = {getattr(p, name) for name in ("y", "sum")}
    addresses = {getattr(p, name): name for name in sizes if getattr(p, name)}
    return [
        Region.tensor(name, address, sizes[name], is_writable=address in outputs) for address, name in addresses.items()
    ]


class _GradientArguments(ctypes.Structure):
    """rms_deploy::cuda::GradientArguments, of gradient_kernels.h."""

    _fields_ = (
        ("norm", _Problem),
        *((name, ctypes.c_void_p) for name in ("grad_y", "grad_sum", "grad_x", "grad_scale")),
        *((name, ctypes.c_void_p) for name in ("shares", "divisors", "total")),
        *((name, ctypes.c_int64) for name in ("parts", "columns")),
    )


def tensors_of_gradient(kernel: str, arguments: bytes) -> list[Region]:
    """As above. What one kernel hands to the next is written by the one and read by the other."""
    a = _GradientArguments.from_buffer_copy(arguments)
    shares = {"shares": a.parts * a.columns * 4}
    if kernel.startswith("gradient_reduce"):
        sizes = {**shares, "total": a.columns * _BYTES[_TYPES[kernel.rpartition("_")[2]]]}
        outputs: tuple[str, ...] = ("total",)
    else:
        size = a.norm.outer * a.norm.n * _BYTES[a.norm.type]
        sizes = {**dict.fromkeys(("x", "grad_y", "grad_sum", "grad_x"), size), **shares, "divisors": a.norm.outer * 8}
        sizes["scale"] = (1 if a.norm.scalar_scale else a.norm.n) * _BYTES[a.norm.scale_type]
        is_last = kernel.startswith("gradient_any_scale")
        outputs = ("shares",) if is_last else ("grad_x", "divisors" if "any" in kernel else "shares")
    addresses = {name: getattr(a, name, None) or getattr(a.norm, name, None) for name in sizes}
    return [
        Region.tensor(name, address, sizes[name], is_writable=name in outputs)
        for name, address in addresses.items()
        if address and sizes[name]
    ]


def regions_of(launch: Launch) -> list[Region]:
    if launch.kernel.startswith("gradient"):
        return tensors_of_gradient(launch.kernel, launch.arguments)
    return tensors_of(launch.arguments)


def execute(program: Program, launch: Launch, tensors: list[Region], executed: Executed) -> None:
    """Runs all blocks, as many of them together as `MOST_THREADS` allows."""
    kernel = program.kernels[launch.kernel]
    if kernel.parameter_bytes != len(launch.arguments):
        raise PtxError(
            f"{kernel.name} takes {kernel.parameter_bytes} bytes, and the launch has {len(launch.arguments)}"
        )
    blocks = launch.grid[0] * launch.grid[1]
    step = max(1, MOST_THREADS // (launch.block[0] * launch.block[1]))
    for first in range(0, blocks, step):
        together = range(first, min(blocks, first + step))
        shared, address = {}, SHARED
        for variable in program.shared:
            size = variable.bytes or launch.shared_bytes
            shared[variable.name] = Region.shared(variable.name, address, size, blocks=len(together))
            address += (size // 256 + 2) * 256  # what lies between belongs to nobody
        Threads(kernel, launch, together, tensors, shared, executed).run()


class Interpreted(Kernels):
    """The library of the tests, whose kernels are PTX."""

    def __init__(self, path: Path, program: Program) -> None:
        super().__init__(path)
        self.program = program
        self.executed: Executed = Counter()
        self.launches: list[Launch] = []
        self._fault: Exception | None = None
        self._runner = _RUNNER(self._run)
        self.driver = Kernels.stand_in(path)

    def norm(self, *arguments: Any, **options: Any) -> Any:
        with self._running():
            return super().norm(*arguments, **options)

    def gradient(self, *arguments: Any, **options: Any) -> Any:
        with self._running():
            return super().gradient(*arguments, **options)

    @contextmanager
    def _running(self) -> Iterator[None]:
        self.driver.set_runner(self._runner)
        try:
            yield
        finally:
            self.driver.set_runner(None)
            if self._fault is not None:
                fault, self._fault = self._fault, None
                raise fault

    def _run(
        self, name: bytes, grid_x: int, grid_y: int, block_x: int, block_y: int, shared: int, arguments: int, size: int
    ) -> None:
        """Called from C, through which no exception passes."""
        if self._fault is None:
            launch = Launch(
                name.decode(), (grid_x, grid_y), (block_x, block_y), shared, ctypes.string_at(arguments, size)
            )
            self.launches.append(launch)
            try:
                execute(self.program, launch, regions_of(launch), self.executed)
            except Exception as error:  # `_running` raises it
                self._fault = error


_RUNNER = ctypes.CFUNCTYPE(
    None, ctypes.c_char_p, *[ctypes.c_uint] * 5, ctypes.c_void_p, ctypes.c_size_t
)  # as in libcuda.cpp
