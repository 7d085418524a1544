"""What the threads of a launch may touch, with the rules of a GPU: bounds, alignment, and no races.

Two accesses race if one of them writes, they come from different warps, and no barrier of one block lies between them.
The threads of one warp are taken as ordered: what one of them reads reaches the others through a shuffle.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .program import PtxError

WARP = 32
GRANULE = 1  # byte, of the smallest element: what a race is told by
NOBODY = -1


class Accessors(NamedTuple):
    """The threads of one access, and how many barriers each has passed."""

    threads: np.ndarray  # numbered over the grid
    epochs: np.ndarray
    blocks: np.ndarray  # of those that run together
    block_threads: int


@dataclass
class _Last:
    """The last thread that touched each granule, and its epoch."""

    threads: np.ndarray
    epochs: np.ndarray

    @classmethod
    def nobody(cls, granules: int) -> _Last:
        return cls(np.full(granules, NOBODY, np.int32), np.zeros(granules, np.int32))

    def race(self, where: np.ndarray, by: Accessors) -> bool:
        before, threads = self.threads[where], by.threads[:, None]
        concurrent = (before // by.block_threads != threads // by.block_threads) | (
            self.epochs[where] == by.epochs[:, None]
        )
        return bool(((before != NOBODY) & (before // WARP != threads // WARP) & concurrent).any())

    def note(self, where: np.ndarray, by: Accessors) -> None:
        self.threads[where] = by.threads[:, None]
        self.epochs[where] = by.epochs[:, None]


class Region:
    """A tensor in the memory of the process, or a shared variable, of which each block has its own."""

    def __init__(
        self, name: str, start: int, size: int, data: np.ndarray, *, base: int, is_writable: bool, stride: int = 0
    ) -> None:
        """`data`: the bytes from `base` on, a multiple of 16; `stride`: bytes from one block's to the next one's."""
        self.name, self.start, self.end, self.base, self.data = name, start, start + size, base, data
        self.is_writable, self.stride = is_writable, stride
        self._readers, self._writers = (_Last.nobody(data.size // GRANULE) for _ in range(2))

    @classmethod
    def tensor(cls, name: str, address: int, size: int, *, is_writable: bool) -> Region:
        base = address // 16 * 16
        memory = (ctypes.c_uint8 * (-(-(address + size - base) // 16) * 16)).from_address(base)
        return cls(name, address, size, np.frombuffer(memory, np.uint8), base=base, is_writable=is_writable)

    @classmethod
    def shared(cls, name: str, address: int, size: int, *, blocks: int) -> Region:
        stride = -(-size // 16) * 16
        data = np.zeros(blocks * stride, np.uint8)
        return cls(name, address, size, data, base=address, is_writable=True, stride=stride)

    def load(self, addresses: np.ndarray, width: int, count: int, by: Accessors) -> list[np.ndarray]:
        """`count` elements of `width` bytes for each thread."""
        places, granules = self._places(addresses, width, count, by, "load")
        if self.stride and (self._writers.threads[granules] == NOBODY).any():
            raise PtxError(f"{self.name}: a load of what nobody has written")
        if self._writers.race(granules, by):
            raise PtxError(f"{self.name}: a race, a load of what another warp has written")
        self._readers.note(granules, by)
        elements = self.data.view(f"u{width}")
        return [elements[places + i] for i in range(count)]

    def store(self, addresses: np.ndarray, width: int, values: Sequence[np.ndarray], by: Accessors) -> None:
        places, granules = self._places(addresses, width, len(values), by, "store")
        if not self.is_writable:
            raise PtxError(f"{self.name}: a store into an input")
        if self._readers.race(granules, by) or self._writers.race(granules, by):
            raise PtxError(f"{self.name}: a race, a store over what another warp uses")
        self._writers.note(granules, by)
        if (self._writers.threads[granules] != by.threads[:, None]).any():
            raise PtxError(f"{self.name}: a race, two threads store to one place")
        elements = self.data.view(f"u{width}")
        for i, value in enumerate(values):
            elements[places + i] = value

    def _places(
        self, addresses: np.ndarray, width: int, count: int, by: Accessors, verb: str
    ) -> tuple[np.ndarray, np.ndarray]:
        """Of the first element of each thread, in elements; and of all granules."""
        if (addresses % (width * count)).any():
            raise PtxError(f"{self.name}: a {verb} of {width * count} bytes that is not aligned")
        if (addresses < self.start).any() or (addresses + width * count > self.end).any():
            raise PtxError(f"{self.name}: a {verb} outside of it")
        places = (addresses - self.base + by.blocks * self.stride) // width
        each = width // GRANULE
        return places, (places * each)[:, None] + np.arange(count * each)
