"""The model that TensorRT's parser is given, so that its norms become plugins, or never do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Set
from typing import Literal, NamedTuple

import onnx_ir as ir

from rms_deploy.fusion.describe import describe_fused
from rms_deploy.fusion.fuse import fuse
from rms_deploy.fusion.passes.lower_to_plugins import raise_plugins
from rms_deploy.fusion.passes.restore_ops import restore_ops
from rms_deploy.fusion.targets import lower
from rms_deploy.onnx_model.analysis import Facts
from rms_deploy.onnx_model.inline_functions import inline_functions
from rms_deploy.ops.contract import DOMAIN, PLUGIN_VERSION
from rms_deploy.ops.forms import NormForm
from rms_deploy.ops.nodes import norm_nodes, write_defaults

__all__ = [
    "FusedNorm",
    "NormChoice",
    "NormKind",
    "count_unfused",
    "fused_norms",
    "norm_kinds",
    "with_decomposed_norms",
    "with_plugin_norms",
]

NormChoice = Literal["plugin", "decomposed", "mixed"]
"""What the fused norms of an engine are; mixed: some of them are plugins."""


class FusedNorm(NamedTuple):
    """A node of one of our ops."""

    name: str
    """The node's, if no other node has it; or one made of its op and its number."""
    op: str


class NormKind(NamedTuple):
    """Norms for which one kernel works on blocks of one size."""

    op: str
    """Such as AddRMSNorm."""
    size: int | None
    """Number of elements normalised over; None: it is not static."""
    dtype: str | None

    def __str__(self) -> str:
        return f"{self.op} {'?' if self.size is None else self.size} {self.dtype or '?'}"


def with_plugin_norms(model: ir.Model, names: Set[str] | None = None) -> tuple[ir.Model, tuple[FusedNorm, ...]]:
    """A copy of `model`, its weights shared, whose norms become plugins; and all its fused norms.

    The functions of our ops are left out, because TensorRT-RTX prefers a function to a plugin of its name.

    Args:
        model: the model.
        names: of the norms that become plugins, by `fused_norms`; the others get their bodies. None: all.
    """
    copy = _copy(model)
    norms = _named(copy)
    if names is not None:
        copy = lower(copy, NormForm.DECOMPOSED, functions=False, keep=names).model
    for node in norm_nodes(copy):
        write_defaults(node)
        node.attributes["plugin_namespace"] = ir.AttrString("plugin_namespace", DOMAIN)
        node.attributes["plugin_version"] = ir.AttrString("plugin_version", PLUGIN_VERSION)
    return lower(copy, NormForm.FUSED, functions=False).model, norms


def with_decomposed_norms(model: ir.Model) -> ir.Model:
    """A copy of `model`, its weights shared, with the body of each norm in its place.

    The body is not left a function, which might still become a plugin: TensorRT prefers a plugin from 10.7 on.
    """
    return lower(_copy(model), NormForm.DECOMPOSED).model


def fused_norms(model: ir.Model) -> tuple[FusedNorm, ...]:
    """The norms that are one of our ops; those in a function once for each call."""
    return _named(_copy(model))


def norm_kinds(model: ir.Model) -> dict[NormKind, frozenset[str]]:
    """The kinds of the fused norms, the one with the most elements first, each with the names of its norms."""
    copy = _copy(model)
    names = [norm.name for norm in _named(copy)]
    facts = Facts(copy)
    kinds: dict[NormKind, list[str]] = {}
    for name, node in zip(names, norm_nodes(copy), strict=True):
        norm = describe_fused(node, facts)
        kinds.setdefault(NormKind(norm.kind, norm.n, norm.dtype), []).append(name)
    largest = sorted(kinds, key=lambda kind: -(kind.size or 0) * len(kinds[kind]))
    return {kind: frozenset(kinds[kind]) for kind in largest}


def count_unfused(model: ir.Model) -> int:
    """How many more norms `fuse` would take."""
    return len(fuse(model, residual=False, gate=False, shift=False, quantization=False, verify=False).norms)


def _copy(model: ir.Model) -> ir.Model:
    """With the functions of others inlined, so that each norm is a node of its own."""
    copy = model.clone()
    raise_plugins(copy)
    restore_ops(copy)
    if any(function.domain != DOMAIN for function in copy.functions.values()):
        inline_functions(copy, lambda function: function.domain != DOMAIN)
    return copy


def _named(model: ir.Model) -> tuple[FusedNorm, ...]:
    """Give each norm of `model` a name that no other node has."""
    taken = Counter(node.name for graph in model.graphs() for node in graph)
    norms = []
    for index, node in enumerate(list(norm_nodes(model))):
        if not node.name or taken[node.name] > 1:
            node.name = f"{DOMAIN}.{node.op_type}.{index}"
        norms.append(FusedNorm(node.name, node.op_type))
    return tuple(norms)
