"""The bodies of If, Loop and Scan as shape inference is given them: without what they declare, with what they read.

1. The shapes of inputs, results and outputs are taken away where onnx can infer them.
2. Small constants of the graphs outside that a body reads become its own: onnx does not look for them there.
3. The values of large constants are taken away.
4. Norms of ONNX Runtime's are operators that onnx knows.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from typing import Final

import onnx
import onnx.helper

from rms_deploy.onnx_model.stand_ins import put_norm_in

__all__ = ["SMALL", "WITH_BODIES", "Constants", "bodies", "prepare_bodies"]

SMALL: Final = 1024
"""Bytes up to which a constant is given to onnx with its values: shapes and axes are that small."""

WITH_BODIES: Final = ("If", "Loop", "Scan", "SequenceMap")
"""The operators of ONNX that have graphs as attributes."""

_COUNTERS: Final = {"Loop": 2}
"""How many inputs of a body, from the first on, a runtime makes as the body declares them."""


def bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs that `node` has as attributes."""
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH and not attribute.ref_attr_name:
            yield attribute.g
        elif attribute.type == onnx.AttributeProto.GRAPHS:
            yield from attribute.graphs


class Constants:
    """The small constants of a graph whose nodes are still being added, by name."""

    def __init__(self, nodes: Sequence[onnx.NodeProto], initializers: Sequence[onnx.TensorProto] = ()) -> None:
        self._nodes = nodes
        self._read = 0
        self._known = _small(initializers)

    def so_far(self) -> dict[str, onnx.TensorProto]:
        """Those of the nodes that are there now."""
        for node in self._nodes[self._read :]:
            self._known.update(_constant(node))
        self._read = len(self._nodes)
        return self._known


def prepare_bodies(node: onnx.NodeProto, outside: Constants, is_foreign: Callable[[onnx.NodeProto], bool]) -> None:
    """Change the bodies of `node`, at any depth.

    `is_foreign`: whether onnx cannot tell what a node gives, so that what the file says of it stays.
    """
    constants: MutableMapping[str, onnx.TensorProto] = outside.so_far()
    waiting = [(node, body, constants) for body in bodies(node)]
    while waiting:
        owner, graph, constants = waiting.pop()
        for inner in graph.node:
            put_norm_in(inner)
        _forget(owner, graph, {name for inner in graph.node if is_foreign(inner) for name in inner.output})
        own = _small(graph.initializer)
        for inner in graph.node:
            own.update(_constant(inner))
        made = {name for inner in graph.node for name in inner.output}
        made.update(value.name for value in (*graph.input, *graph.initializer))
        inner_constants = ChainMap(own, constants)
        waiting += ((inner, body, inner_constants) for inner in graph.node for body in bodies(inner))
        read = dict.fromkeys(name for inner in graph.node for name in inner.input)
        for tensor in graph.initializer:
            if len(tensor.raw_data) > SMALL:
                tensor.ClearField("raw_data")
        for name in read:
            if name not in made and name in constants:
                graph.initializer.add().CopyFrom(constants[name])


def _forget(owner: onnx.NodeProto, graph: onnx.GraphProto, foreign: set[str]) -> None:
    """Take away the shapes that a body declares, but for the results of `foreign` operators."""
    kept = [info for info in graph.value_info if info.name in foreign]
    del graph.value_info[:]
    graph.value_info.extend(kept)
    forgotten = [*graph.input[_COUNTERS.get(owner.op_type, 0) :]]
    forgotten += [info for info in graph.output if info.name not in foreign]
    for info in forgotten:
        if info.type.HasField("tensor_type"):
            info.type.tensor_type.ClearField("shape")


def _small(tensors: Iterable[onnx.TensorProto]) -> dict[str, onnx.TensorProto]:
    return {tensor.name: tensor for tensor in tensors if tensor.ByteSize() <= 2 * SMALL}


def _constant(node: onnx.NodeProto) -> dict[str, onnx.TensorProto]:
    """The value of a Constant node, by its name, if it is small."""
    if node.op_type != "Constant" or node.domain or len(node.attribute) != 1 or not node.output:
        return {}
    (attribute,) = node.attribute
    tensor = onnx.TensorProto(name=node.output[0])
    if attribute.name == "value" and not attribute.ref_attr_name:
        tensor.CopyFrom(attribute.t)
        tensor.name = node.output[0]
    elif attribute.name == "value_ints" and not attribute.ref_attr_name:
        tensor = onnx.helper.make_tensor(tensor.name, onnx.TensorProto.INT64, [len(attribute.ints)], attribute.ints)
    elif attribute.name == "value_int" and not attribute.ref_attr_name:
        tensor = onnx.helper.make_tensor(tensor.name, onnx.TensorProto.INT64, [], [attribute.i])
    else:
        return {}
    return _small([tensor])
