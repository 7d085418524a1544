"""Inputs as files: the benchmark writes them, and the processes of the candidates read them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

__all__ = ["read", "write"]


def write(feeds: Mapping[str, NDArray[Any]], path: str | os.PathLike[str]) -> dict[str, Any]:
    """Write `feeds` to `path`, an .npz file, and return what `read` needs, as JSON takes it."""
    np.savez(Path(path), *(_plain(array) for array in feeds.values()))
    bfloat16 = [name for name, array in feeds.items() if array.dtype == ml_dtypes.bfloat16]
    return {"file": os.fspath(path), "names": list(feeds), "bfloat16": bfloat16}


def read(written: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """The arrays that `write` wrote, in their order."""
    with np.load(written["file"], allow_pickle=False) as archive:
        arrays = {name: archive[f"arr_{index}"] for index, name in enumerate(written["names"])}
    return {n: a.view(ml_dtypes.bfloat16) if n in written["bfloat16"] else a for n, a in arrays.items()}


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    """The array as numpy can write it: bfloat16 as integers of the same bits."""
    return array.view(np.uint16) if array.dtype == ml_dtypes.bfloat16 else array
