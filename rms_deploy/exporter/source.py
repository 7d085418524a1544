"""A module with what its export needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

__all__ = ["Source"]


@dataclass(frozen=True)
class Source:
    """A module and its example call.

    Attributes:
        module: to be exported.
        inputs: of one call: a tuple of positional ones, or a dict of ones by name.
        dynamic_shapes: as `torch.onnx.export` takes them; None where the factory gave none.
        output_names: empty where the factory gave none.
        input_names: of each tensor in `inputs`; empty: those of the exporter.
        own: nobody else holds the module, so that it may be converted in place.
        cached: whether the key-value cache of a model that generates tokens is among its inputs; None: it generates
            none, or nobody knows.
    """

    module: nn.Module
    inputs: tuple[Any, ...] | dict[str, Any]
    dynamic_shapes: Any = None
    output_names: tuple[str, ...] = ()
    input_names: tuple[str, ...] = ()
    own: bool = False
    cached: bool | None = None
