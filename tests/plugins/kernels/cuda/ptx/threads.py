"""The threads of some blocks, which execute a kernel together: one numpy element per thread.

Of the threads that can go on, those at the first instruction do; so threads that a branch has parted meet again where
their ways do. A barrier waits for all threads of a block, a shuffle or a vote for all of a warp: a thread that left, or
waits elsewhere, is a fault.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import numpy as np

from . import arithmetic
from .arithmetic import dtype_of
from .memory import WARP, Accessors, Region
from .program import Address, Instruction, Kernel, Operand, PtxError
from .registers import Registers

SHARED = 0x1000  # address of the first shared variable

Executed = Counter[tuple[str, int]]
"""Of each kernel's each instruction, how many threads executed it."""


class Launch(NamedTuple):
    kernel: str
    grid: tuple[int, int]
    block: tuple[int, int]
    shared_bytes: int
    arguments: bytes


class Threads(Registers):
    def __init__(
        self,
        kernel: Kernel,
        launch: Launch,
        blocks: range,
        tensors: list[Region],
        shared: dict[str, Region],
        executed: Executed,
    ) -> None:
        self.kernel, self.launch, self.tensors, self.shared, self.executed = kernel, launch, tensors, shared, executed
        width, height = launch.block
        self.block_threads = width * height
        size = len(blocks) * self.block_threads
        thread = np.arange(size, dtype=np.uint32) % self.block_threads
        self.own_block = np.arange(size) // self.block_threads  # of those that run together
        block = np.repeat(np.array(blocks, np.uint32), self.block_threads)
        self.number = np.arange(size, dtype=np.int32) + blocks.start * self.block_threads
        special = {
            "%tid.x": thread % width, "%tid.y": thread // width,
            "%ntid.x": np.uint32(width), "%ntid.y": np.uint32(height),
            "%ctaid.x": block % launch.grid[0], "%ctaid.y": block // launch.grid[0],
            "%nctaid.x": np.uint32(launch.grid[0]), "%nctaid.y": np.uint32(launch.grid[1]),
        }  # fmt: skip
        starts = {name: np.uint64(region.start) for name, region in shared.items()}
        super().__init__(size, {**special, **starts, f"{kernel.name}_param_0": np.uint64(0)})
        self.epochs = np.zeros(size, np.int32)  # barriers passed

    # Control flow.

    def run(self) -> None:
        instructions = self.kernel.instructions
        ready: dict[int, np.ndarray] = {0: np.ones(self.size, bool)}
        waiting: dict[int, np.ndarray] = {}
        left = np.zeros(self.size, bool)

        def go_on(at: int, who: np.ndarray) -> None:
            if who.any():
                ready[at] = ready[at] | who if at in ready else who

        while ready:
            at = min(ready)
            who = ready.pop(at)
            while at not in ready:
                instruction = instructions[at]
                root = instruction.parts[0]
                self.active = who & self._guard(instruction) if instruction.predicate else who
                if root not in ("bar", "shfl", "vote"):
                    self._count(at)
                if root == "bra":
                    taken = self.active
                    go_on(self.kernel.labels[str(instruction.operands[0])], taken)
                    go_on(at + 1, who & ~taken)
                    break
                if root in ("ret", "exit"):
                    left |= self.active
                    go_on(at + 1, who & ~self.active)
                    break
                if root in ("bar", "shfl", "vote"):
                    if instruction.predicate:
                        raise PtxError(f"not known: {instruction.text}")
                    there = waiting[at] | who if at in waiting else who
                    complete = self._meet(instruction, there)
                    self._count(at)
                    waiting[at] = there & ~complete
                    go_on(at + 1, complete)
                    break
                self._execute(instruction)
                at += 1
            else:
                go_on(at, who)
        for at, who in waiting.items():
            if who.any():
                raise PtxError(f"threads wait for others that are not there: {instructions[at].text}")

    def _meet(self, instruction: Instruction, waiting: np.ndarray) -> np.ndarray:
        """Who of the waiting go on: all threads of their block, or warp, are there."""
        group = self.block_threads if instruction.parts[0] == "bar" else WARP
        complete = np.repeat(waiting.reshape(-1, group).all(axis=1), group)
        self.active = complete
        if complete.any():
            if instruction.parts[0] == "bar":
                self.epochs[complete] += 1
                if instruction.parts[1] == "red":
                    self._reduce(instruction)
            elif instruction.parts[0] == "shfl":
                self._shuffle(instruction)
            else:
                self._vote(instruction)
        return complete

    def _guard(self, instruction: Instruction) -> np.ndarray:
        value = self.registers[instruction.predicate]
        return ~value if instruction.negated else value

    def _shuffle(self, instruction: Instruction) -> None:
        target, value, lanes, clamp, members = instruction.operands
        if instruction.parts[2] != "bfly" or (self.of_active(clamp, "u32") != WARP - 1).any():
            raise PtxError(f"not known: {instruction.text}")
        self._require_all_lanes(instruction, members)
        source = np.arange(self.size)
        source[self.active] ^= self.of_active(lanes, "u32")
        name, _, is_there = str(target).partition("|")
        self.write(name, self.read(value, "b32")[source], "b32")
        if is_there:
            self.write(is_there, np.True_, "pred")

    def _reduce(self, instruction: Instruction) -> None:
        """A barrier that says whether any thread of the block brought true."""
        target, _, value = instruction.operands
        if instruction.parts[2] != "or":
            raise PtxError(f"not known: {instruction.text}")
        answer = (self.read(value, "pred") & self.active).reshape(-1, self.block_threads).any(axis=1)
        self.write(str(target), np.repeat(answer, self.block_threads), "pred")

    def _vote(self, instruction: Instruction) -> None:
        target, value, members = instruction.operands
        if instruction.parts[2] != "any":
            raise PtxError(f"not known: {instruction.text}")
        self._require_all_lanes(instruction, members)
        answer = (self.read(value, "pred") & self.active).reshape(-1, WARP).any(axis=1)
        self.write(str(target), np.repeat(answer, WARP), "pred")

    def _require_all_lanes(self, instruction: Instruction, members: Operand) -> None:
        if (self.of_active(members, "b32") != 0xFFFFFFFF).any():
            raise PtxError(f"not the whole warp: {instruction.text}")

    def _count(self, at: int) -> None:
        self.executed[self.kernel.name, at] += int(np.count_nonzero(self.active))

    # Instructions.

    def _execute(self, instruction: Instruction) -> None:
        if not self.active.any():
            return
        root, kind = instruction.parts[0], instruction.type
        operands = instruction.operands
        if instruction.parts[:2] == ("rcp", "approx"):
            root = "rcp.approx"
        if root in ("ld", "st"):
            (self._load if root == "ld" else self._store)(instruction)
            return
        if root == "mov":
            self._move(instruction)
            return
        target = str(operands[0]) if operands else ""
        with np.errstate(all="ignore"):
            if root == "griddepcontrol":  # one kernel runs at a time
                return
            if root == "cvt":
                self._convert(instruction)
            elif root == "cvta":
                self.write(target, self.read(operands[1], kind).copy(), kind)
            elif root == "setp":
                self._compare(instruction)
            elif root == "selp":
                a, b = self.read(operands[1], kind), self.read(operands[2], kind)
                self.write(target, np.where(self.read(operands[3], "pred"), a, b), kind)
            elif root in ("shl", "shr"):
                a, count = self.read(operands[1], kind), self.read(operands[2], "u32")
                self.write(target, arithmetic.shifted(a, count, left=root == "shl"), kind)
            elif root == "shf":
                low, high, count = (self.read(operand, "u32") for operand in operands[1:])
                self.write(target, arithmetic.funnel_shifted(low, high, count, instruction.parts[1:3]), kind)
            elif root == "prmt":
                a, b, selector = (self.read(operand, kind) for operand in operands[1:])
                self.write(target, arithmetic.permuted(a, b, selector), kind)
            elif root == "bfi" and kind == "b32":
                bits, into, start, count = (self.read(operand, "u32") for operand in operands[1:])
                self.write(target, arithmetic.inserted(bits, into, start, count), kind)
            elif root == "fma":
                a, b, c = (self.read(operand, kind) for operand in operands[1:])
                self.write(target, arithmetic.fused(a, b, c, instruction.parts[1]), kind)
            elif root in ("mul", "mad"):
                self._multiply(instruction)
            elif root in arithmetic.OF_TWO:
                a, b = (self.read(operand, kind) for operand in operands[1:])
                if root in ("div", "rem") and kind[0] != "f":
                    b = np.where(self.active, b, dtype_of(kind).type(1))
                    if (b == 0).any():
                        raise PtxError(f"a division by zero: {instruction.text}")
                self.write(target, arithmetic.OF_TWO[root](a, b), kind)
            elif root in arithmetic.OF_ONE:
                self.write(target, arithmetic.OF_ONE[root](self.read(operands[1], kind)), kind)
            else:
                raise PtxError(f"not known: {instruction.text}")

    def _multiply(self, instruction: Instruction) -> None:
        kind, (target, *factors) = instruction.type, instruction.operands
        a, b = (self.read(operand, kind) for operand in factors[:2])
        if kind[0] == "f":
            self.write(str(target), a * b, kind)
            return
        part = instruction.parts[1]
        wide = f"{kind[0]}{2 * arithmetic.bits_of(kind)}" if part == "wide" else kind
        result = arithmetic.product(a, b, part)
        if instruction.parts[0] == "mad":
            result = result + self.read(factors[2], wide)
        self.write(str(target), result, wide)

    def _move(self, instruction: Instruction) -> None:
        """Also of one register into the parts of several, and back."""
        kind, (target, source) = instruction.type, instruction.operands
        bits = arithmetic.bits_of(kind)
        if isinstance(target, tuple):
            whole, each = self.read(source, f"b{bits}"), bits // len(target)
            for i, name in enumerate(target):
                self.write(name, (whole >> whole.dtype.type(i * each)).astype(f"u{each // 8}"), f"b{each}")
        elif isinstance(source, tuple):
            each, dtype = bits // len(source), np.dtype(f"u{bits // 8}")
            parts = [self.read(name, f"b{each}").astype(dtype) << dtype.type(i * each) for i, name in enumerate(source)]
            self.write(target, np.bitwise_or.reduce(np.broadcast_arrays(*parts)), kind)
        else:
            self.write(str(target), np.array(self.read(source, kind)), kind)

    def _convert(self, instruction: Instruction) -> None:
        target, *sources = instruction.operands
        wanted, source = instruction.parts[-2:]
        if wanted == "e4m3x2":
            high, low = (arithmetic.float8_of(self.read(operand, "f32")) for operand in sources)
            value, wanted = high.astype(np.uint16) << np.uint16(8) | low, "b16"
        elif wanted.endswith("x2"):
            high, low = (arithmetic.half_of(self.read(operand, "f32"), wanted[:-2]) for operand in sources)
            value = high.astype(np.uint32) << np.uint32(16) | low
        else:
            value = arithmetic.converted(self.read(sources[0], source), source, wanted)
            if "sat" in instruction.parts:
                value = arithmetic.saturated(value)
        self.write(str(target), value, wanted)

    def _compare(self, instruction: Instruction) -> None:
        kind, (target, a, b, *third) = instruction.type, instruction.operands
        value = arithmetic.compared(instruction.parts[1], self.read(a, kind), self.read(b, kind))
        if third:
            value = arithmetic.OF_TWO[instruction.parts[2]](value, self.read(third[0], "pred"))
        self.write(str(target), np.asarray(value), "pred")

    # Memory.

    def _load(self, instruction: Instruction) -> None:
        target, address = instruction.operands
        names = target if isinstance(target, tuple) else (str(target),)
        width = arithmetic.bits_of(instruction.type) // 8
        if instruction.parts[1] == "param":
            values: list[Any] = self._parameters(address, width, len(names))
        else:
            region, addresses, by = self._access(instruction, address)
            values = []
            for loaded in region.load(addresses, width, len(names), by):
                values.append(np.zeros(self.size, loaded.dtype))
                values[-1][self.active] = loaded
        for name, value in zip(names, values, strict=True):
            register = value.astype(np.uint16) if width == 1 else value  # a register has 16 bits at least
            self.write(name, register, f"b{8 * register.dtype.itemsize}")

    def _store(self, instruction: Instruction) -> None:
        address, source = instruction.operands
        names = source if isinstance(source, tuple) else (str(source),)
        width = arithmetic.bits_of(instruction.type) // 8
        region, addresses, by = self._access(instruction, address)
        values = [self.of_active(name, f"b{8 * width}") for name in names]
        region.store(addresses, width, values, by)

    def _parameters(self, address: Operand, width: int, count: int) -> list[Any]:
        """Of an address that is the same for all threads: the parameter, or a register that has been set to it."""
        if not isinstance(address, Address):
            raise PtxError(f"{self.kernel.name}: not known: {address}")
        where = self.of_active(address.base, "u64").astype(np.int64) + address.offset
        first = int(where[0])
        if (where != first).any() or first < 0 or first + width * count > self.kernel.parameter_bytes:
            raise PtxError(f"{self.kernel.name}: a parameter outside of its {self.kernel.parameter_bytes} bytes")
        return list(np.frombuffer(self.launch.arguments, f"u{width}", count, first))

    def _access(self, instruction: Instruction, address: Operand) -> tuple[Region, np.ndarray, Accessors]:
        """The region, the addresses of the active threads, and who they are."""
        if not isinstance(address, Address):
            raise PtxError(f"not known: {instruction.text}")
        where = self.of_active(address.base, "u64").astype(np.int64) + address.offset
        is_shared = instruction.parts[1] == "shared"
        own = (values[self.active] for values in (self.number, self.epochs, self.own_block))
        by = Accessors(*own, self.block_threads)
        regions = list(self.shared.values()) if is_shared else self.tensors
        for region in regions:
            if region.start <= where[0] < region.end:
                return region, where, by
        raise PtxError(f"an access outside of everything: {instruction.text}")
