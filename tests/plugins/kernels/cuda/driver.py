"""The thin C entry of the kernels (entry.cpp), driven with numpy arrays."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rms_deploy.ops.contract import ELEMENT_TYPES

GUARD = 96  # bytes around each tensor
SENTINEL = 0xAB


class _Options(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int32) for name in ("type", "scale_type")),
        *((name, ctypes.c_int64) for name in ("outer", "n", "inner", "statistics_size")),
        *((name, ctypes.c_int32) for name in ("scale_rows", "scale_repeat")),
        *((name, ctypes.c_int32) for name in ("scalar_scale", "round_before_scale", "round_reciprocal", "gate")),
        *((name, ctypes.c_float) for name in ("epsilon", "rms_epsilon", "rms_min")),
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
    """A tensor in a buffer with sentinels around it, `shift` bytes from a multiple of 16."""

    dtype: np.dtype[Any]
    size: int
    shift: int
    memory: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, shift: int) -> _Guarded:
        self = cls.empty(values.dtype, values.size, shift)
        self.memory[GUARD + shift : GUARD + shift + values.nbytes] = np.frombuffer(values.tobytes(), np.uint8)
        return self

    @classmethod
    def empty(cls, dtype: np.dtype[Any], size: int, shift: int) -> _Guarded:
        return cls(dtype, size, shift, np.full(2 * GUARD + shift + size * dtype.itemsize, SENTINEL, np.uint8))

    def struct(self) -> _Buffer:
        return _Buffer(self.memory.ctypes.data, self.memory.nbytes, GUARD + self.shift)

    def values(self) -> np.ndarray:
        begin, end = GUARD + self.shift, GUARD + self.shift + self.size * self.dtype.itemsize
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
        partial_size: int | None = None,
        round_before_scale: bool = False,
        round_reciprocal: bool = False,
        epsilon: float = 1e-6,
        rms_epsilon: float = 0.0,
        rms_min: float = 0.0,
        shift: int = 0,
        y_shift: int | None = None,
        y_is: str | None = None,
        sum_is: str | None = None,
        wants_sum: bool = True,
        tactic: int = 0,
        scale_repeat: int = 1,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """(y, sum). `shift`: bytes from 16-byte alignment, of all tensors; `y_is`, `sum_is`: 'x', 'residual' or 'z'.

        `z` makes it a gated norm, whose gate is behind it or, with `gates_first`, in front of it; silu or sigmoid.
        A scale of two axes has several rows, each of which `scale_repeat` rows of x take, and so on in turns.
        """
        axis %= x.ndim
        operand, operand_name = (residual, "residual") if z is None else (z, "z")
        names = [None, "x", operand_name]
        gate = 0 if z is None else 2 if gates_first else 3 if is_sigmoid else 1  # of contract.h
        options = _Options(
            ELEMENT_TYPES[x.dtype.name], ELEMENT_TYPES[scale.dtype.name],
            int(np.prod(x.shape[:axis])), x.shape[axis], int(np.prod(x.shape[axis + 1 :])),
            partial_size or x.shape[axis], len(scale) if scale.ndim > 1 else 1, scale_repeat,
            scale.shape[-1] == 1 < x.shape[axis], round_before_scale,
            round_reciprocal, gate, epsilon, rms_epsilon, rms_min, tactic, names.index(y_is), names.index(sum_is),
        )  # fmt: skip
        tensors: dict[str, _Guarded | None] = {
            "x": _Guarded.of(x, shift),
            operand_name: None if operand is None else _Guarded.of(operand, shift),
            "scale": _Guarded.of(scale, shift * scale.itemsize // x.itemsize % 16),
            "y": _Guarded.empty(x.dtype, x.size, shift if y_shift is None else y_shift),
            "sum": _Guarded.empty(x.dtype, x.size, shift) if residual is not None and wants_sum else None,
        }
        buffers = (_Buffer * 5)(*(_Buffer() if t is None else t.struct() for t in tensors.values()))
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
        shift: int = 0,
        wants_x: bool = True,
        wants_scale: bool = True,
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """(grad_x, grad_scale) of rows. `shift`: bytes from 16-byte alignment, of all tensors but the workspace."""
        outer, n = x.shape
        norm = _Norm(
            n, 1, partial_size or n, ELEMENT_TYPES[x.dtype.name], ELEMENT_TYPES[scale.dtype.name],
            scale.size == 1 and n > 1, 0, 0, epsilon, rms_epsilon, rms_min,
        )  # fmt: skip
        size = ctypes.c_int64()
        shape = (ctypes.byref(norm), ctypes.c_int64(outer))
        error = self.library.rms_deploy_torch_cuda_workspace(*shape, 0, ctypes.byref(size))
        assert error == 0, self.library.text_of(error).decode()
        scale_shift = shift * scale.itemsize // x.itemsize % 16
        tensors: dict[str, _Guarded | None] = {
            "x": _Guarded.of(x, shift),
            "scale": _Guarded.of(scale, scale_shift),
            "grad_y": _Guarded.of(grad, shift),
            "grad_sum": None if grad_sum is None else _Guarded.of(grad_sum, shift),
            "grad_x": _Guarded.empty(x.dtype, x.size, shift) if wants_x else None,
            "grad_scale": _Guarded.empty(scale.dtype, scale.size, scale_shift) if wants_scale else None,
            "workspace": _Guarded.empty(np.dtype(np.uint8), size.value, 0) if wants_scale else None,
        }
        buffers = (_Buffer * 7)(*(_Buffer() if t is None else t.struct() for t in tensors.values()))
        error = self.library.run_gradient(*shape, buffers)
        assert error == 0, self.library.text_of(error).decode()
        inside = {name: None if tensor is None else tensor.values() for name, tensor in tensors.items()}
        grad_x = inside["grad_x"]
        return None if grad_x is None else grad_x.reshape(x.shape), inside["grad_scale"]

    def tactics(self, dtype: str, outer: int, n: int, inner: int = 1, gate: int = 0) -> list[int]:
        found = (ctypes.c_int32 * 16)()
        number = ELEMENT_TYPES[dtype]
        options = _Options(number, number, outer, n, inner, n, 1, 1, 0, 0, 0, gate, 1e-6, 0.0, 0.0, 0, 0, 0)
        return list(found[: self.library.find_tactics(ctypes.byref(options), found)])
