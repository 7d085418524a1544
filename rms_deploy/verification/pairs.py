"""Values that two models seem to share: what the same node makes of the same weight, and what it makes it from.

No more is known of a model here than its weights and the nodes that read them: neither names, nor what a fuser
recognised. A pair is a guess, which the comparison of what lies between the pairs confirms or refutes.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import onnx_ir as ir

from rms_deploy.onnx_model.analysis import is_op
from rms_deploy.ops.nodes import bodies_of, place_of
from rms_deploy.verification.memory import return_pages

__all__ = ["ValuePair", "pair_of", "pairs"]

_Weights = Mapping[str, ir.TensorProtocol]

_SAMPLE: Final = 4096
"""Elements of a weight that tell it from others of its shape."""

_LINEAR: Final = ("MatMul", "Gemm", "Conv", "ConvTranspose")
"""Ops whose first two inputs and output have one float type."""


@dataclass(frozen=True)
class ValuePair:
    """A float value of the reference, and the one of the candidate that seems to be the same."""

    reference: str
    candidate: str
    node: str
    """In the reference: the name of the node that computes the value, or else its type."""
    module: str
    """The module that the node came from; empty where the model does not say it."""
    width: int
    """The largest dim of the weight: about the size of a row of the value."""


@dataclass(frozen=True)
class _Reader:
    """A node that computes something from a weight and from something else."""

    node: ir.Node
    values: tuple[ir.Value, ...]
    """What it reads besides the weight, if that has the type of the weight, and what it gives."""
    width: int


def pairs(reference: ir.Model, ours: _Weights, candidate: ir.Model, theirs: _Weights) -> list[ValuePair]:
    """The pairs of two models, in the order of the reference.

    The i-th node that reads a weight is paired with the i-th of the other model, where both have equally many.

    Args:
        reference: a model whose weights are inputs.
        ours: its weights, by input.
        candidate: another model.
        theirs: its weights.
    """
    expected, actual = _readers(reference, ours), _readers(candidate, theirs)
    partners = {
        reader.node: (reader, other)
        for key, readers in expected.items()
        if len(readers) == len(actual.get(key, ()))
        for reader, other in zip(readers, actual[key], strict=True)
    }
    return list(_distinct(reference, partners))


def _distinct(reference: ir.Model, partners: Mapping[ir.Node, tuple[_Reader, _Reader]]) -> Iterator[ValuePair]:
    """Each value in one pair at most."""
    seen: set[ir.Value] = set()
    for reader, other in (partners[node] for node in reference.graph if node in partners):
        for value, twin in zip(reader.values, other.values, strict=False):
            if seen.isdisjoint((value, twin)) and _is_inner(value) and _is_inner(twin):
                seen |= {value, twin}
                yield pair_of(value, twin, reader.width)


def pair_of(value: ir.Value, twin: ir.Value, width: int = 0) -> ValuePair:
    """The pair of a value of the reference and one of the candidate."""
    node = value.producer()
    name, module = ("", "") if node is None else (node.name or node.op_type, place_of(node))
    return ValuePair(value.name or "", twin.name or "", name, module, width)


def _is_inner(value: ir.Value) -> bool:
    """Whether a node computes it, and it is no output of the model, which is compared anyway."""
    node = value.producer()
    return node is not None and not is_op(node, "Constant") and not value.is_graph_output()


def _readers(model: ir.Model, weights: _Weights) -> dict[Hashable, list[_Reader]]:
    """The nodes that read a weight, by what they do to which weight."""
    keys: dict[ir.Value, Hashable] = {
        value: _fingerprint(weights[value.name])
        for value in model.graph.inputs
        if value.name is not None and value.name in weights
    }
    widths = {value: max(weights[value.name or ""].shape.numpy()) for value in keys}
    readers: dict[Hashable, list[_Reader]] = defaultdict(list)
    for node in model.graph:
        known = tuple(None if value is None else keys.get(value) for value in node.inputs)
        if not any(known) or any(True for _ in bodies_of(node)):
            continue
        key = (node.op_type, node.domain, _attributes(node), known)
        width = max(widths[value] for value in node.inputs if value in widths)
        if all(known):  # such as Cast and Transpose: what they give is a weight too
            keys |= {value: (key, value.index()) for value in node.outputs}
            widths |= dict.fromkeys(node.outputs, width)
        elif is_op(node, *_LINEAR, "Gather"):
            data = [v for v in node.inputs[:2] if v is not None and v not in keys] if node.op_type in _LINEAR else []
            readers[key].append(_Reader(node, (*data, node.outputs[0]), width))
    return readers


def _attributes(node: ir.Node) -> tuple[str, ...]:
    return tuple(sorted(str(attribute) for attribute in node.attributes.values()))


def _fingerprint(tensor: ir.TensorProtocol) -> Hashable:
    """A value that weights of other numbers will not have."""
    array = tensor.numpy().reshape(-1)
    sample = array[:: max(1, array.size // _SAMPLE)].tobytes()
    return_pages([tensor])
    return tensor.dtype, tuple(tensor.shape.numpy()), zlib.crc32(sample)
