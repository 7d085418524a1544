"""The thin C entry of the kernels (entry.cpp), driven with numpy arrays."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rms_deploy.ops.contract import ELEMENT_TYPES, QUANTIZED_TYPES
from rms_deploy.ops.element_types import quantized_dtype

GUARD = 96  # bytes around each tensor
SENTINEL = 0xAB


class _Options(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int32) for name in ("type", "scale_type", "sum_type", "quantized_type")),
        *((name, ctypes.c_int64) for name in ("outer", "n", "inner", "statistics_size")),
        *((name, ctypes.c_int32) for name in ("scale_rows", "scale_repeat")),
        *((name, ctypes.c_int32) for name in ("scalar_scale", "round_before_scale", "round_reciprocal")),
        *((name, ctypes.c_int32) for name in ("round_quotient", "normalizes_float32_sum", "gate")),
        *((name, ctypes.c_float) for name in ("epsilon", "rms_epsilon", "rms_min", "y_scale")),
        *((name, ctypes.c_int32) for name in ("tactic", "y_is", "sum_is")),
    )


class _Norm(ctypes.Structure):
    """RmsDeployTorchNorm, of torch/api.h."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("n", "inner", "statistics_size")),
        *((name, ctypes.c_int32) for name in ("type", "scale_type", "scalar_scale")),
        *((name, ctypes.c_int32) for name in ("round_before_scale", "round_reciprocal")),
        *((name, ctypes.c_float) for name in ("epsilon", "rms_epsilon", "rms_min")),
    )


class _Buffer(ctypes.Structure):
    _fields_ = (("host", ctypes.c_void_p), ("bytes", ctypes.c_int64), ("offset", ctypes.c_int64))


@dataclass
class _Guarded:
    """A tensor in a buffer with sentinels around it, `skew` bytes from a multiple of 16."""

    dtype: np.dtype[Any]
    size: int
    skew: int
    memory: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, skew: int) -> _Guarded:
        self = cls.empty(values.dtype, values.size, skew)
        self.memory[GUARD + skew : GUARD + skew + values.nbytes] = np.frombuffer(values.tobytes(), np.uint8)
        return self

    @classmethod
    def empty(cls, dtype: np.dtype[Any], size: int, skew: int) -> _Guarded:
        return cls(dtype, size, skew, np.full(2 * GUARD + skew + size * dtype.itemsize, SENTINEL, np.uint8))

    def struct(self) -> _Buffer:
        return _Buffer(self.memory.ctypes.data, self.memory.nbytes, GUARD + self.skew)

    def values(self) -> np.ndarray:
        begin, end = GUARD + self.skew, GUARD + self.skew + self.size * self.dtype.itemsize
        outside = np.concatenate([self.memory[:begin], self.memory[end:]])
        assert (outside == SENTINEL).all(), "written outside the tensor"
        return np.frombuffer(self.memory[begin:end].tobytes(), self.dtype)


class Kernels:
    """The library that the tests built, on a CPU or a GPU."""

    def __init__(self, path: Path) -> None:
        self.library = ctypes.CDLL(str(path))
        self.library.text_of.restype = ctypes.c_char_p

    @staticmethod
    def stand_in(path: Path) -> ctypes.CDLL:
        """The driver of a library on the CPU."""
        return ctypes.CDLL(str(path.with_name("libcuda.so")))

    def norm(
        self,
        x: np.ndarray,
        scale: np.ndarray,
        *,
        axis: int = -1,
        residual: np.ndarray | None = None,
        z: np.ndarray | None = None,
        gates_first: bool = False,
        is_sigmoid: bool = False,
        shift: np.ndarray | None = None,
        in_float32: bool = False,
        y_scale: float = 0.0,
        output_dtype: str = "",
        round_quotient: bool = False,
        partial_size: int | None = None,
        round_before_scale: bool = False,
        round_reciprocal: bool = False,
        epsilon: float = 1e-6,
        rms_epsilon: float = 0.0,
        rms_min: float = 0.0,
        skew: int = 0,
        y_skew: int | None = None,
        y_is: str | None = None,
        sum_is: str | None = None,
        wants_sum: bool = True,
        tactic: int = 0,
        scale_repeat: int = 1,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """(y, sum). `skew`: bytes from 16-byte alignment, of all tensors; `y_is`, `sum_is`: 'x', 'residual' or 'z'.

        `z` makes it a gated norm, whose gate is behind it or, with `gates_first`, in front of it; silu or sigmoid.
        A residual may be float32 where x is not; `in_float32`: its float32 sum with x is normalised. `output_dtype`: y
        is quantised, to int8 or float8e4m3fn; `round_quotient`: what y_scale divides is rounded to the type of x first.

        A scale of two axes has several rows, each of which `scale_repeat` rows of x take, and so on in turns.
        """
        axis %= x.ndim
        operand, operand_name = (residual, "residual") if z is None else (z, "z")
        sum_type = x.dtype if residual is None else residual.dtype
        y_dtype = quantized_dtype(QUANTIZED_TYPES[output_dtype]) if output_dtype else x.dtype
        names = [None, "x", operand_name]
        gate = 0 if z is None else 2 if gates_first else 3 if is_sigmoid else 1  # of contract.h
        options = _Options(
            *(ELEMENT_TYPES[dtype.name] for dtype in (x.dtype, scale.dtype, sum_type)),
            QUANTIZED_TYPES.get(output_dtype, 0),
            int(np.prod(x.shape[:axis])), x.shape[axis], int(np.prod(x.shape[axis + 1 :])),
            partial_size or x.shape[axis], len(scale) if scale.ndim > 1 else 1, scale_repeat,
            scale.shape[-1] == 1 < x.shape[axis], round_before_scale,
            round_reciprocal, round_quotient, in_float32, gate, epsilon, rms_epsilon, rms_min, y_scale, tactic,
            names.index(y_is), names.index(sum_is),
        )  # fmt: skip

        def skewed(dtype: np.dtype[Any]) -> int:
            """As many elements as those of x."""
            return skew * dtype.itemsize // x.itemsize % 16

        tensors: dict[str, _Guarded | None] = {
            "x": _Guarded.of(x, skew),
            operand_name: None if operand is None else _Guarded.of(operand, skewed(operand.dtype)),
            "scale": _Guarded.of(scale, skewed(scale.dtype)),
            "shift": None if shift is None else _Guarded.of(shift, skewed(shift.dtype)),
            "y": _Guarded.empty(y_dtype, x.size, skewed(y_dtype) if y_skew is None else y_skew),
            "sum": _Guarded.empty(sum_type, x.size, skewed(sum_type)) if residual is not None and wants_sum else None,
        }
        buffers = (_Buffer * 6)(*(_Buffer() if t is None else t.struct() for t in tensors.values()))
        error = self.library.run(ctypes.byref(options), buffers)
        assert error == 0, self.library.text_of(error).decode()
        y, total = tensors[y_is or "y"], tensors[sum_is or "sum"]
        assert y is not None
        for tensor in tensors.values():
            if tensor is not None:
                tensor.values()
        return y.values().reshape(x.shape), None if total is None else total.values().reshape(x.shape)

    def gradient(
        self,
        x: np.ndarray,
        scale: np.ndarray,
        grad: np.ndarray,
        *,
        grad_sum: np.ndarray | None = None,
        partial_size: int | None = None,
        epsilon: float = 1e-6,
        rms_epsilon: float = 0.0,
        rms_min: float = 0.0,
        skew: int = 0,
        wants_x: bool = True,
        wants_scale: bool = True,
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """(grad_x, grad_scale) of rows. `skew`: bytes from 16-byte alignment, of all tensors but the workspace."""
        outer, n = x.shape
        norm = _Norm(
            n, 1, partial_size or n, ELEMENT_TYPES[x.dtype.name], ELEMENT_TYPES[scale.dtype.name],
            scale.size == 1 and n > 1, 0, 0, epsilon, rms_epsilon, rms_min,
        )  # fmt: skip
        size = ctypes.c_int64()
        shape = (ctypes.byref(norm), ctypes.c_int64(outer))
        error = self.library.rms_deploy_torch_cuda_workspace(*shape, 0, ctypes.byref(size))
        assert error == 0, self.library.text_of(error).decode()
        scale_skew = skew * scale.itemsize // x.itemsize % 16
        tensors: dict[str, _Guarded | None] = {
            "x": _Guarded.of(x, skew),
            "scale": _Guarded.of(scale, scale_skew),
            "grad_y": _Guarded.of(grad, skew),
            "grad_sum": None if grad_sum is None else _Guarded.of(grad_sum, skew),
            "grad_x": _Guarded.empty(x.dtype, x.size, skew) if wants_x else None,
            "grad_scale": _Guarded.empty(scale.dtype, scale.size, scale_skew) if wants_scale else None,
            "workspace": _Guarded.empty(np.dtype(np.uint8), size.value, 0) if wants_scale else None,
        }
        buffers = (_Buffer * 7)(*(_Buffer() if t is None else t.struct() for t in tensors.values()))
        error = self.library.run_gradient(*shape, buffers)
        assert error == 0, self.library.text_of(error).decode()
        inside = {name: None if tensor is None else tensor.values() for name, tensor in tensors.items()}
        grad_x = inside["grad_x"]
        return None if grad_x is None else grad_x.reshape(x.shape), inside["grad_scale"]

    def tactics(
        self, dtype: str, outer: int, n: int, inner: int = 1, gate: int = 0, sum_dtype: str = "", output_dtype: str = ""
    ) -> list[int]:
        found = (ctypes.c_int32 * 16)()
        number = ELEMENT_TYPES[dtype]
        options = _Options(
            number, number, ELEMENT_TYPES[sum_dtype or dtype], QUANTIZED_TYPES.get(output_dtype, 0),
            outer, n, inner, n, 1, 1, 0, 0, 0, 0, 0, gate, 1e-6, 0.0, 0.0, 0.0, 0, 0, 0,
        )  # fmt: skip
        return list(found[: self.library.find_tactics(ctypes.byref(options), found)])
