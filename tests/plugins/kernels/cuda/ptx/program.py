"""PTX, the text that nvcc writes, as a list of instructions per kernel."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple


class PtxError(Exception):
    """What a GPU would not forgive, or what the interpreter does not know."""


class Address(NamedTuple):
    """`[base+offset]`: the base is a register, a shared variable, or the kernel's parameter."""

    base: str
    offset: int


Operand = str | Address | tuple[str, ...]


@dataclass(frozen=True)
class Instruction:
    opcode: str
    parts: tuple[str, ...]  # ld, global, cg, v4, u32
    operands: tuple[Operand, ...]
    predicate: str  # the register that guards it, or nothing
    negated: bool
    text: str

    @property
    def type(self) -> str:
        return self.parts[-1]


@dataclass
class Kernel:
    name: str
    parameter_bytes: int
    instructions: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)


class Variable(NamedTuple):
    """A shared variable; one of 0 bytes is as large as the launch says."""

    name: str
    alignment: int
    bytes: int


@dataclass
class Program:
    kernels: dict[str, Kernel]
    shared: list[Variable]

    @classmethod
    def parse(cls, ptx: str) -> Program:
        ptx = re.sub(r"//[^\n]*", "", ptx)
        entries = re.finditer(r"\.entry\s+(\w+)\s*\(\s*\.param[^\[]*\[(\d+)\]\s*\).*?\n\{(.*?)\n\}", ptx, re.DOTALL)
        variables = re.finditer(r"\.shared\s+\.align\s+(\d+)\s+\.b8\s+([\w$]+)\[(\d*)\]", ptx)
        return cls(
            kernels={match[1]: _kernel(match[1], int(match[2]), match[3]) for match in entries},
            shared=[Variable(match[2], int(match[1]), int(match[3] or 0)) for match in variables],
        )


def _kernel(name: str, parameter_bytes: int, body: str) -> Kernel:
    kernel = Kernel(name, parameter_bytes)
    own: dict[str, str] = {}  # the registers that a block in braces has for itself
    for statement in re.split(r"[;\n]", body):
        text = statement.strip()
        if text in ("{", "}"):
            own = {}
            continue
        if declared := re.fullmatch(r"\.reg\s+\.\w+\s+(%\w+)", text):
            own[declared[1]] = f"{declared[1]}_{len(kernel.instructions)}"
        for name, renamed in own.items():
            text = re.sub(rf"{name}\b", renamed, text)
        while match := re.match(r"([$\w]+):\s*", text):
            kernel.labels[match[1]] = len(kernel.instructions)
            text = text[match.end() :]
        if text and text[0] != ".":  # a declaration
            kernel.instructions.append(_instruction(text))
    return kernel


def _instruction(text: str) -> Instruction:
    match = re.fullmatch(r"(?:@(!?)(%\w+)\s+)?([a-z][\w.:]*)\s*(.*)", text)
    if match is None:
        raise PtxError(f"not an instruction: {text}")
    operands = tuple(_operand(operand) for operand in re.findall(r"\{[^}]*\}|\[[^\]]*\]|[^,\s]+", match[4]))
    return Instruction(match[3], tuple(match[3].split(".")), operands, match[2] or "", match[1] == "!", text)


def _operand(text: str) -> Operand:
    if text[0] == "{":
        return tuple(name.strip() for name in text[1:-1].split(","))
    if text[0] == "[":
        base, _, offset = text[1:-1].partition("+")
        return Address(base.strip(), int(offset or 0))
    return text
