"""A torch module as a benchmark runs it: on the inputs of its ONNX file, without gradients, eager or compiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from rms_deploy.errors import InputError, MissingDependencyError

try:
    import torch
except ImportError as error:
    raise MissingDependencyError("torch is not installed; run: pip install 'torch<2.14' onnxscript") from error

from rms_deploy.exporter.model_source import resolve

__all__ = ["module_run"]


def module_run(
    name: str, feeds: Mapping[str, NDArray[Any]], *, threads: int, compiled: bool = False
) -> Callable[[], Any]:
    """One forward of the module on `feeds`. The first one compiles it, if it is to be compiled.

    Args:
        name: a built-in model, or `package.module:factory`, as `export` takes them.
        feeds: inputs of the ONNX file that was exported from it, in the order of its arguments.
        threads: that torch may use.
        compiled: by `torch.compile`, for these shapes alone.

    Raises:
        InputError: the module is not there, or takes other inputs than the ONNX file.
    """
    torch.set_num_threads(threads)
    source = resolve(name)
    module = source.module.eval()
    positional, named = _arguments(name, source.inputs, feeds)
    forward = torch.compile(module, dynamic=False) if compiled else module

    def run() -> Any:
        with torch.inference_mode():
            return forward(*positional, **named)

    return run


def _arguments(
    name: str, example: tuple[Any, ...] | dict[str, Any], feeds: Mapping[str, NDArray[Any]]
) -> tuple[tuple[torch.Tensor, ...], dict[str, torch.Tensor]]:
    tensors = {key: _tensor(array) for key, array in feeds.items()}
    if len(example) != len(tensors):
        raise InputError(
            f"{name}: its example call has {len(example)} arguments and the ONNX file {len(tensors)} inputs; "
            "a benchmark needs one tensor for each"
        )
    if not isinstance(example, dict):
        return tuple(tensors.values()), {}
    if set(example) <= set(tensors):
        return (), {key: tensors[key] for key in example}
    return (), dict(zip(example, tensors.values(), strict=True))


def _tensor(array: NDArray[Any]) -> torch.Tensor:
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(np.array(array).view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(np.array(array))
