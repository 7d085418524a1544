"""Damage to the bytes of a file: what a broken download, a disk or an attacker makes of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = ["mutate_bytes"]

_VARINTS = (b"\xff" * 9 + b"\x01", b"\xff" * 9 + b"\x7f", b"\x80" * 9 + b"\x01", b"\xff\xff\xff\xff\x0f", b"\x00")


def mutate_bytes(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """One to four random changes of `data`; `other` is a model to splice from."""
    for _ in range(1 + min(int(rng.geometric(0.6)) - 1, 3)):
        if not data:
            break
        change = _CHANGES[int(rng.integers(len(_CHANGES)))]
        data = change(bytearray(data), other, rng)
    return data


def _span(data: bytes | bytearray, rng: np.random.Generator) -> slice:
    start = int(rng.integers(len(data)))
    return slice(start, min(len(data), start + int(rng.geometric(0.1))))


def _flip(data: bytearray, other: bytes, rng: np.random.Generator) -> bytes:  # noqa: ARG001 - all are called alike
    data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    return bytes(data)


def _set(data: bytearray, other: bytes, rng: np.random.Generator) -> bytes:  # noqa: ARG001
    data[int(rng.integers(len(data)))] = int(rng.integers(256))
    return bytes(data)


def _step(data: bytearray, other: bytes, rng: np.random.Generator) -> bytes:  # noqa: ARG001
    """A byte by one up or down: another enumeration value, length or field."""
    at = int(rng.integers(len(data)))
    data[at] = (data[at] + int(rng.choice([-1, 1]))) % 256
    return bytes(data)


def _delete(data: bytearray, other: bytes, rng: np.random.Generator) -> bytes:  # noqa: ARG001
    del data[_span(data, rng)]
    return bytes(data)


def _repeat(data: bytearray, other: bytes, rng: np.random.Generator) -> bytes:  # noqa: ARG001
    span = _span(data, rng)
    data[span.stop : span.stop] = data[span]
    return bytes(data)


def _zero(data: bytearray, other: bytes, rng: np.random.Generator) -> bytes:  # noqa: ARG001
    span = _span(data, rng)
    data[span] = bytes(span.stop - span.start)
    return bytes(data)


def _insert(data: bytearray, other: bytes, rng: np.random.Generator) -> bytes:  # noqa: ARG001
    at = int(rng.integers(len(data) + 1))
    data[at:at] = rng.bytes(int(rng.geometric(0.2)))
    return bytes(data)


def _varint(data: bytearray, other: bytes, rng: np.random.Generator) -> bytes:  # noqa: ARG001
    at = int(rng.integers(len(data)))
    data[at : at + 1] = _VARINTS[int(rng.integers(len(_VARINTS)))]
    return bytes(data)


def _truncate(data: bytearray, other: bytes, rng: np.random.Generator) -> bytes:  # noqa: ARG001
    return bytes(data[: int(rng.integers(len(data)))])


def _splice(data: bytearray, other: bytes, rng: np.random.Generator) -> bytes:
    """The beginning of one model and the end of another; messages of protobuf may be concatenated, so it may parse."""
    if rng.random() < 0.3:
        return bytes(data) + other
    return bytes(data[: int(rng.integers(len(data)))]) + other[int(rng.integers(len(other))) :]


def _swap(data: bytearray, other: bytes, rng: np.random.Generator) -> bytes:  # noqa: ARG001
    a, b = _span(data, rng), _span(data, rng)
    data[a], data[b] = data[b], data[a]
    return bytes(data)


_CHANGES: tuple[Callable[[bytearray, bytes, np.random.Generator], bytes], ...] = (
    _flip, _flip, _flip, _set, _set, _step, _step, _delete, _repeat, _zero, _insert, _varint, _truncate, _splice, _swap,
)  # fmt: skip
