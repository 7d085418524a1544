"""The registers of some threads: one numpy element per thread."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from .arithmetic import dtype_of
from .program import Operand, PtxError


class Registers:
    """Each as its bits; a predicate as a bool. `constants`: what an operand may be besides, by its name."""

    def __init__(self, size: int, constants: dict[str, Any]) -> None:
        self.size, self.constants = size, constants
        self.registers: dict[str, np.ndarray] = {}
        self.active = np.ones(size, bool)  # who executes the present instruction

    def read(self, operand: Operand, type_name: str) -> Any:
        """One element per thread, or one for all."""
        dtype = dtype_of(type_name)
        if isinstance(operand, str):
            if operand[0] == "!":
                return ~self.registers[operand[1:]]
            value = self.registers.get(operand)
            if value is not None:
                if value.dtype.itemsize != dtype.itemsize:
                    value = value.astype(f"u{dtype.itemsize}")
                return value if value.dtype == bool else value.view(dtype)
            if operand in self.constants:
                return self.constants[operand].astype(dtype)
            return _immediate(operand, type_name)
        raise PtxError(f"not known: {operand}")

    def of_active(self, operand: Operand, type_name: str) -> np.ndarray:
        """One element per active thread."""
        return np.broadcast_to(self.read(operand, type_name), self.size)[self.active]

    def write(self, name: str, value: Any, type_name: str) -> None:
        """Sets a register of the active threads."""
        if value.dtype != bool:
            value = value.view(f"u{dtype_of(type_name).itemsize}")
        if self.active.all():
            self.registers[name] = np.full(self.size, value) if value.ndim == 0 else value
        else:
            if name not in self.registers:
                self.registers[name] = np.zeros(self.size, value.dtype)
            np.copyto(self.registers[name], value, where=self.active)


def _immediate(text: str, type_name: str) -> Any:
    dtype = dtype_of(type_name)
    if match := re.fullmatch(r"0[fFdD]([0-9a-fA-F]+)", text):
        return np.array(int(match[1], 16), f"u{len(match[1]) // 2}").view(dtype)
    if re.fullmatch(r"-?(0[xX][0-9a-fA-F]+|\d+)U?", text):
        number = int(text.rstrip("U"), 0)
        if type_name == "pred":
            return np.array(bool(number))
        return np.array(number & (1 << 8 * dtype.itemsize) - 1, f"u{dtype.itemsize}").view(dtype)
    raise PtxError(f"{text} is read before it is written, or not known")
