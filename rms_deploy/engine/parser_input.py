"""The model that TensorRT's parser is given, so that its norms become plugins, or never do."""

from __future__ import annotations

from collections import Counter
from typing import Literal

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from rms_deploy.fusion.fuse import fuse
from rms_deploy.fusion.passes.lower_to_plugins import raise_plugins
from rms_deploy.fusion.targets import lower
from rms_deploy.ops.contract import DOMAIN, PLUGIN_VERSION
from rms_deploy.ops.forms import NormForm
from rms_deploy.ops.nodes import norm_nodes, write_defaults

__all__ = ["NormChoice", "fused_norms", "unfused_norms", "with_decomposed_norms", "with_plugin_norms"]

NormChoice = Literal["plugin", "decomposed"]


def with_plugin_norms(model: ir.Model) -> tuple[ir.Model, frozenset[str]]:
    """A copy of `model`, its weights shared, whose norms become plugins; and their names, each its own.

    The functions of our ops are left out, because TensorRT-RTX prefers a function to a plugin of its name.
    """
    copy = _copy(model)
    taken = Counter(node.name for graph in copy.graphs() for node in graph)
    nodes = list(norm_nodes(copy))
    for index, node in enumerate(nodes):
        write_defaults(node)
        node.attributes["plugin_namespace"] = ir.AttrString("plugin_namespace", DOMAIN)
        node.attributes["plugin_version"] = ir.AttrString("plugin_version", PLUGIN_VERSION)
        if not node.name or taken[node.name] > 1:
            node.name = f"{DOMAIN}.{node.op_type}.{index}"
    return lower(copy, NormForm.FUSED, functions=False), frozenset(str(node.name) for node in nodes)


def with_decomposed_norms(model: ir.Model) -> ir.Model:
    """A copy of `model`, its weights shared, with the body of each norm in its place.

    As a function it might still become a plugin: TensorRT prefers a plugin from 10.7 on.
    """
    return lower(_copy(model), NormForm.DECOMPOSED)


def fused_norms(model: ir.Model) -> int:
    """How many norms are one of our ops; those in a function count once for each call."""
    return sum(1 for _ in norm_nodes(_copy(model)))


def unfused_norms(model: ir.Model) -> int:
    """How many more `fuse` would take."""
    return len(fuse(model, residual=False, verify=False).norms)


def _copy(model: ir.Model) -> ir.Model:
    copy = model.clone()
    raise_plugins(copy)
    if any(function.domain != DOMAIN for function in copy.functions.values()):
        InlinePass(lambda function: function.domain != DOMAIN)(copy)
    return copy
