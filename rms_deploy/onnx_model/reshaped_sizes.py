"""The size that a Reshape leaves open, from the number of elements, which is the same before and after.

onnx computes the -1 of a Reshape of numbers only. Here symbols cancel: [b, s, 64] as [b, s, -1, 16] has 4 heads. One of
several inputs cancels only where the Reshape copies it: no runtime makes sure that it is one size at all of them.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Final

import onnx

from rms_deploy.onnx_model.inferable import Shape, known_of

__all__ = ["open_dim", "settle_reshapes"]

_MAX_DIMS: Final = 16


def settle_reshapes(inferred: onnx.GraphProto, graph: onnx.GraphProto) -> bool:
    """Declare in `graph` what follows for the results of its Reshapes from the shapes that were `inferred` of it.

    Returns:
        Whether anything follows that was not inferred.
    """
    reshapes = [node for node in graph.node if node.op_type == "Reshape" and not node.domain and node.input]
    if not reshapes:
        return False
    infos = {info.name: info for info in (*inferred.input, *inferred.value_info)}
    shapes = {tensor.name: tuple(tensor.dims) for tensor in inferred.initializer}
    ambiguous = _ambiguous(inferred)
    copied = {node.output[0] for node in graph.node if node.op_type == "Constant"} | shapes.keys()
    settled = False
    for node in reshapes:
        before, after = infos.get(node.input[0]), infos.get(node.output[0])
        old = shapes.get(node.input[0]) if before is None else known_of(before.type.tensor_type)[1]
        new = None if after is None else known_of(after.type.tensor_type)[1]
        kept = frozenset() if len(node.input) > 1 and node.input[1] in copied else ambiguous
        found = None if after is None or old is None or new is None else open_dim(old, new, kept)
        if after is not None and found is not None:
            info = graph.value_info.add()
            info.CopyFrom(after)
            info.type.tensor_type.shape.dim[found[0]].dim_value = found[1]
            settled = True
    return settled


def _ambiguous(graph: onnx.GraphProto) -> frozenset[str]:
    """The symbols of more than one dim of the inputs."""
    dims = (dim.dim_param for info in graph.input for dim in info.type.tensor_type.shape.dim)
    return frozenset(symbol for symbol, count in Counter(dims).items() if symbol and count > 1)


def open_dim(old: Shape, new: Shape, ambiguous: frozenset[str] = frozenset()) -> tuple[int, int] | None:
    """The axis of `new` whose size follows, and the size; of a symbol that is `ambiguous` nothing follows."""
    if len(old) > _MAX_DIMS or len(new) > _MAX_DIMS or None in old or not ambiguous.isdisjoint(old):
        return None
    symbols = Counter(dim for dim in old if isinstance(dim, str))
    open_axes = []
    for axis, dim in enumerate(new):
        if isinstance(dim, str) and symbols[dim]:
            symbols[dim] -= 1
        elif not isinstance(dim, int):
            open_axes.append(axis)
    if len(open_axes) != 1 or symbols.total():
        return None
    before = math.prod(dim for dim in old if isinstance(dim, int))
    after = math.prod(dim for dim in new if isinstance(dim, int))
    return (open_axes[0], before // after) if before and after and before % after == 0 else None
